//! What is said of a cluster of which nothing is wrong, and of one in which one
//! thing is.

use std::collections::BTreeMap;

use holdfast_plan::{ChildKind, Decisions, OptionalKinds};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::*;
use crate::lifecycle::tests::whole_sight;
use crate::memory::Memory;
use crate::observe::{Machine, Written};
use crate::parts;

const NOW: i64 = 1_000;
const DONE: &str = "NewReplicaSetAvailable";
const GOES: &str = "ReplicaSetUpdated";

fn resource() -> StorageCluster {
    serde_json::from_value(json!({
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "StorageCluster",
        "metadata": {"name": "demo", "namespace": "files", "uid": "u", "generation": 4},
        "spec": {"nodes": {"replicas": 3, "storage": {"size": "100Gi"}}, "tls": {"mode": "Disabled"}},
        "status": {"phase": "Running", "nodes": {"replicas": 3, "ready": 3}},
    }))
    .unwrap()
}

fn deployment(name: &str, replicas: u32, updated: u32, available: u32, reason: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "generation": 2},
        "spec": {"replicas": replicas, "template": {"metadata": {}}},
        "status": {
            "observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated,
            "availableReplicas": available,
            "conditions": [{"type": "Progressing", "status": "True", "reason": reason}],
        },
    })
}

fn set(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": name, "generation": 2},
        "spec": {"replicas": replicas, "serviceName": "s", "selector": {}, "template": {"metadata": {}}},
        "status": {"observedGeneration": 2, "replicas": replicas, "availableReplicas": replicas,
            "currentRevision": "new", "updateRevision": "new"},
    })
}

fn pod(name: &str, part: &str, ready: &str, last: Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/component": part, "controller-revision-hash": "new",
        }},
        "status": {
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}],
            "containerStatuses": [{"name": part, "image": "i", "imageID": "i", "ready": false,
                "restartCount": 3, "lastState": last}],
        },
    })
}

fn crashing(name: &str, part: &str) -> k8s_openapi::api::core::v1::Pod {
    let last = json!({"terminated": {"exitCode": 1, "message": "Error: no such setting"}});
    serde_json::from_value(pod(name, part, "False", last)).unwrap()
}

fn written(kind: ChildKind, object: Value) -> Written {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    BTreeMap::from([((kind, object.name_any()), object)])
}

fn observed() -> Observed {
    let pods = (0..3).map(|n| pod(&format!("demo-node-{n}"), "node", "True", json!({})));
    let machine = |n| {
        let place = Machine {
            zone: format!("zone-{n}"),
            labelled: true,
            cordoned: false,
        };
        (format!("machine-{n}"), place)
    };
    let mut observed = Observed {
        resource: resource(),
        name: "demo".into(),
        namespace: "files".into(),
        children: BTreeMap::new(),
        set: None,
        pods: pods
            .map(|pod| serde_json::from_value(pod).unwrap())
            .collect(),
        claims: BTreeMap::new(),
        broker_claims: Vec::new(),
        can_grow: None,
        growth_refused: None,
        machines: (0..3).map(machine).collect(),
        credentials: None,
        admin: None,
        certificates: Default::default(),
        nodes: None,
        sight: whole_sight(3),
        kinds: OptionalKinds::default(),
        own: Default::default(),
    };
    for (kind, object) in [
        (ChildKind::StatefulSet, set("demo-node", 3)),
        (ChildKind::StatefulSet, set("demo-rabbitmq", 1)),
        (
            ChildKind::Deployment,
            deployment("demo-gateway", 2, 2, 2, DONE),
        ),
        (
            ChildKind::Deployment,
            deployment("demo-worker", 2, 2, 2, DONE),
        ),
        (
            ChildKind::Deployment,
            deployment("demo-redis", 1, 1, 1, DONE),
        ),
    ] {
        observed.take(written(kind, object)).unwrap();
    }
    observed
}

/// What is said when an object was written and read back for this generation, or
/// was not.
fn status(observed: &Observed, probed: bool) -> StorageClusterStatus {
    let decisions = Decisions::at_rest(&observed.resource.spec, "0.1.0".into());
    let cluster = holdfast_plan::validate(&observed.resource, decisions);
    let verdict = Verdict {
        storage_replicas: 3,
        ..Verdict::default()
    };
    let parts = parts::look(observed, Vec::new(), &Memory::default(), NOW);
    let outcome = Outcome {
        observed,
        verdict: &verdict,
        cluster: cluster.as_ref().map_err(Vec::as_slice),
        refused: &[],
        parts: &parts,
        probed,
        led: true,
        probe: None,
        secrecy: &Secrecy::default(),
    };
    build_status(&outcome, Timestamp::from_second(NOW).unwrap())
}

fn says(status: &StorageClusterStatus, kind: &str) -> (String, String, String) {
    let mut conditions = status.conditions.iter();
    let found = conditions.find(|one| one.type_ == kind).unwrap();
    (
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    )
}

fn is(status: &StorageClusterStatus, kind: &str, value: &str, reason: &str) {
    let (found, why, message) = says(status, kind);
    assert_eq!(
        (found.as_str(), why.as_str()),
        (value, reason),
        "{kind}: {message}"
    );
}

#[test]
fn a_cluster_of_which_nothing_is_wrong_is_ready_and_whole() {
    let status = status(&observed(), true);
    is(&status, "Ready", "True", "Serving");
    is(&status, "Reconciling", "False", "Settled");
    is(&status, "Degraded", "False", "Whole");
    assert_eq!(status.phase, Some(ClusterPhase::Running));
}

#[test]
fn what_was_just_written_is_not_in_place() {
    for (kind, mut object) in [
        (
            ChildKind::Deployment,
            deployment("demo-worker", 2, 2, 2, DONE),
        ),
        (
            ChildKind::Deployment,
            deployment("demo-gateway", 2, 2, 2, DONE),
        ),
        (
            ChildKind::Deployment,
            deployment("demo-redis", 1, 1, 1, DONE),
        ),
        (ChildKind::StatefulSet, set("demo-rabbitmq", 1)),
        (ChildKind::StatefulSet, set("demo-node", 3)),
    ] {
        // As the API server answers a patch of the template.
        object["metadata"]["generation"] = json!(3);
        object["spec"]["template"] = json!({"metadata": {"labels": {"a": "b"}}});
        let mut observed = observed();
        observed.take(written(kind, object)).unwrap();
        let status = status(&observed, true);
        is(&status, "Ready", "False", "RollingOut");
        is(&status, "Reconciling", "True", "RollingOut");
        assert_eq!(status.phase, Some(ClusterPhase::Updating));
    }
}

#[test]
fn a_round_of_any_part_takes_ready_away_until_its_end() {
    for name in ["demo-worker", "demo-gateway"] {
        let mut observed = observed();
        let going = deployment(name, 2, 1, 2, GOES);
        observed
            .take(written(ChildKind::Deployment, going))
            .unwrap();
        is(&status(&observed, true), "Ready", "False", "RollingOut");
    }
    let mut observed = observed();
    let mut brokers = set("demo-rabbitmq", 1);
    brokers["status"]["currentRevision"] = json!("old");
    observed
        .take(written(ChildKind::StatefulSet, brokers))
        .unwrap();
    is(&status(&observed, true), "Ready", "False", "RollingOut");
}

#[test]
fn one_that_is_away_degrades_and_leaves_it_ready() {
    let mut node = observed();
    node.sight.nodes.remove(&2);
    let told = status(&node, true);
    is(&told, "Ready", "True", "Serving");
    is(&told, "Degraded", "True", "NodesSilent");

    let mut worker = observed();
    let one = deployment("demo-worker", 2, 2, 1, DONE);
    worker.take(written(ChildKind::Deployment, one)).unwrap();
    let told = status(&worker, true);
    is(&told, "Ready", "True", "Serving");
    is(&told, "Degraded", "True", "PodsMissing");
    // A spec that was not proved yet is when everybody is there.
    is(&status(&worker, false), "Ready", "False", "PodsMissing");

    let mut broker = observed();
    let mut none = set("demo-rabbitmq", 1);
    none["status"]["availableReplicas"] = json!(0);
    broker.take(written(ChildKind::StatefulSet, none)).unwrap();
    is(&status(&broker, true), "Degraded", "True", "PodsMissing");
}

#[test]
fn brokers_that_start_beside_those_that_serve_are_on_their_way_and_nothing_lacks() {
    let mut observed = observed();
    let three = json!({"queue": {"managed": {"replicas": 3}}});
    let mut resource = serde_json::to_value(&observed.resource).unwrap();
    resource["spec"]["queue"] = three["queue"].clone();
    observed.resource = serde_json::from_value(resource).unwrap();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo-rabbitmq"},
        "spec": {"selector": {"holdfast.dev/brokers": "demo-rabbitmq"}},
    });
    observed.take(written(ChildKind::Service, service)).unwrap();
    let told = status(&observed, true);
    is(&told, "Ready", "False", "RollingOut");
    is(&told, "Degraded", "False", "Whole");
    // The one that serves is away.
    let mut one = set("demo-rabbitmq", 1);
    one["status"]["availableReplicas"] = json!(0);
    observed.take(written(ChildKind::StatefulSet, one)).unwrap();
    is(&status(&observed, true), "Degraded", "True", "PodsMissing");
}

#[test]
fn a_pod_that_does_not_start_is_told_with_its_last_words() {
    let mut observed = observed();
    observed.pods.push(crashing("demo-worker-x", "worker"));
    let told = status(&observed, true);
    is(&told, "Degraded", "True", "PodsFailing");
    is(&told, "Stalled", "False", "Moving");
    is(&told, "Ready", "True", "Serving");
    // The same in the middle of a round, which it holds up.
    let going = deployment("demo-worker", 2, 1, 2, GOES);
    observed
        .take(written(ChildKind::Deployment, going))
        .unwrap();
    let told = status(&observed, true);
    is(&told, "Stalled", "True", "RolloutStopped");
    assert!(
        says(&told, "Stalled")
            .2
            .contains("demo-worker-x: no such setting")
    );
    assert_eq!(told.phase, Some(ClusterPhase::Failed));
}

#[test]
fn a_cluster_that_is_being_born_lacks_nothing_yet() {
    let mut observed = observed();
    observed.resource.status = None;
    let key = (ChildKind::Deployment, "demo-gateway".to_owned());
    observed.children.remove(&key);
    let told = status(&observed, false);
    is(&told, "Ready", "False", "RollingOut");
    is(&told, "Degraded", "False", "Whole");
    assert_eq!(told.phase, Some(ClusterPhase::Creating));
}

#[test]
fn objects_are_those_of_the_count_and_its_time_alone_is_no_news() {
    let mut observed = observed();
    let first = status(&observed, true);
    // Two groups keep objects, ten each; the third is the cluster's own.
    assert_eq!(first.objects.as_ref().unwrap().total, 20);
    for census in observed.sight.censuses.values_mut() {
        census.time = holdfast_model::Timestamp(9_000);
    }
    let later = status(&observed, true);
    assert_ne!(later.objects, first.objects);
    assert_eq!(timeless(&later), timeless(&first));
}

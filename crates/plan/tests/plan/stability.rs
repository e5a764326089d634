//! What never changes, and what changes numbers alone.

use holdfast_plan::{ChildKind, DesiredState, MAX_NAME_CHARACTERS, desired, names};
use serde_json::{Value, json};

use crate::support::{EVERYTHING, EXTERNAL, SMALLEST, cluster, find, plan, resource};

/// The paths at which two plans differ.
fn differences(old: &DesiredState, new: &DesiredState) -> Vec<String> {
    assert_eq!(old.children.len(), new.children.len());
    let mut all = Vec::new();
    for (old, new) in old.children.iter().zip(&new.children) {
        assert_eq!((old.kind, &old.name), (new.kind, &new.name));
        let place = format!("{:?} {} ", old.kind, old.name);
        compare(&place, &old.object, &new.object, &mut all);
    }
    all
}

fn compare(path: &str, old: &Value, new: &Value, all: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for name in names {
                let path = format!("{path}.{name}");
                let field =
                    |of: &serde_json::Map<String, Value>| of.get(name).cloned().unwrap_or_default();
                compare(&path, &field(old), &field(new), all);
            }
        }
        (old, new) if old != new => all.push(path.to_owned()),
        _ => {}
    }
}

#[test]
fn another_number_of_nodes_changes_numbers_alone() {
    let old = cluster(&resource(SMALLEST));
    let mut new = old.clone();
    new.spec.nodes.replicas = 9;
    new.decisions.storage_replicas = 4;
    new.decisions.storage_disruptions = 0;
    new.decisions.gateway_replicas = Some(7);
    new.decisions.worker_replicas = 0;
    assert_eq!(
        differences(&desired(&old), &desired(&new)),
        [
            "PodDisruptionBudget demo-node .spec.maxUnavailable",
            "StatefulSet demo-node .spec.replicas",
            "Deployment demo-gateway .spec.replicas",
            "Deployment demo-worker .spec.replicas",
        ]
    );
}

#[test]
fn hibernation_changes_numbers_alone() {
    let old = cluster(&resource(SMALLEST));
    let mut new = old.clone();
    new.decisions.hibernated = true;
    let (old, new) = (desired(&old), desired(&new));
    assert_eq!(
        differences(&old, &new),
        [
            "StatefulSet demo-node .spec.replicas",
            "StatefulSet demo-rabbitmq .spec.replicas",
            "Deployment demo-redis .spec.replicas",
            "Deployment demo-gateway .spec.replicas",
            "Deployment demo-worker .spec.replicas",
        ]
    );
    for child in &new.children {
        if let Some(replicas) = child.object["spec"].get("replicas") {
            assert_eq!(replicas, 0, "{}", child.name);
        }
    }
}

#[test]
fn an_autoscaler_owns_the_number_of_gateways() {
    let state = plan(EVERYTHING);
    let gateway = find(&state, ChildKind::Deployment, "demo-gateway");
    assert!(gateway["spec"].get("replicas").is_none());
    let scaler = find(&state, ChildKind::HorizontalPodAutoscaler, "demo-gateway");
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], "demo-gateway");
}

#[test]
fn selectors_and_claim_templates_are_these_for_ever() {
    for yaml in [SMALLEST, EVERYTHING, EXTERNAL] {
        let state = plan(yaml);
        let sets = [
            (ChildKind::StatefulSet, "node"),
            (ChildKind::Deployment, "gateway"),
            (ChildKind::Deployment, "worker"),
        ];
        for (kind, component) in sets {
            let spec = &find(&state, kind, &format!("demo-{component}"))["spec"];
            let labels = json!({
                "app.kubernetes.io/name": "holdfast",
                "app.kubernetes.io/instance": "demo",
                "app.kubernetes.io/component": component,
                "holdfast.dev/pool": "default",
            });
            assert_eq!(spec["selector"]["matchLabels"], labels);
            for (name, value) in labels.as_object().unwrap() {
                assert_eq!(&spec["template"]["metadata"]["labels"][name], value);
            }
        }
        let set = &find(&state, ChildKind::StatefulSet, "demo-node")["spec"];
        let claim = &set["volumeClaimTemplates"][0]["metadata"];
        assert_eq!(claim["name"], "data-0");
        let container = &set["template"]["spec"]["containers"][0];
        assert_eq!(container["volumeMounts"][0]["mountPath"], "/data/0");
        assert_eq!(set["serviceName"], "demo-nodes");
    }
}

#[test]
fn a_volume_that_stays_says_nothing_that_its_claim_may_not_hear_later() {
    let mut born = cluster(&resource(SMALLEST));
    let unborn = {
        let mut cluster = born.clone();
        cluster.decisions.cluster_id = None;
        cluster
    };
    born.decisions.cluster_id = Some("another".into());
    assert_eq!(desired(&born), desired(&unborn));
    let node = names::Component::Node;
    assert!(!names::lasting_labels(&unborn, node).contains_key(names::CLUSTER_ID_LABEL));
    assert_eq!(
        names::lasting_labels(&born, node)[names::CLUSTER_ID_LABEL],
        "another"
    );
}

#[test]
fn a_changed_configuration_makes_new_pods_of_its_part_alone() {
    let old = cluster(&resource(EVERYTHING));
    let mut new = old.clone();
    new.spec.cache.managed.as_mut().unwrap().memory.0 = "2Gi".into();
    let changed = differences(&desired(&old), &desired(&new));
    assert!(
        changed.iter().all(|path| path.contains("demo-redis")),
        "{changed:?}"
    );
    let hash = "Deployment demo-redis .spec.template.metadata.annotations.holdfast.dev/config-hash";
    assert!(changed.iter().any(|path| path == hash), "{changed:?}");
}

#[test]
fn every_object_is_owned_labelled_and_named_once() {
    let state = plan(EVERYTHING);
    let mut seen = std::collections::BTreeSet::new();
    for child in &state.children {
        let (object, metadata) = (&child.object, &child.object["metadata"]);
        assert!(
            seen.insert((child.kind, child.name.clone())),
            "{} twice",
            child.name
        );
        assert_eq!(object["apiVersion"], child.kind.api_version());
        assert_eq!(object["kind"], child.kind.kind());
        assert_eq!(metadata["name"], child.name.as_str());
        assert_eq!(metadata["namespace"], "files");
        assert!(object.get("status").is_none());
        let owner = &metadata["ownerReferences"][0];
        assert_eq!(owner["uid"], "6f1c7a52-0000-4000-8000-000000000000");
        assert_eq!(
            (&owner["controller"], &owner["blockOwnerDeletion"]),
            (&json!(true), &json!(true))
        );
        for (name, value) in names::instance_labels("demo") {
            assert_eq!(metadata["labels"][name], value);
        }
    }
    let kinds: Vec<ChildKind> = state.children.iter().map(|child| child.kind).collect();
    assert!(kinds.is_sorted(), "what pods need comes first");
    let all: std::collections::BTreeSet<_> = kinds.into_iter().collect();
    assert!(ChildKind::ALL.iter().all(|kind| all.contains(kind)));
}

#[test]
fn names_of_the_longest_cluster_fit_labels() {
    // `-` and the hash that StatefulSets put on their pods as a label.
    const REVISION: usize = 11;
    let mut resource = resource(EVERYTHING);
    resource["metadata"]["name"] = "a".repeat(MAX_NAME_CHARACTERS).into();
    let longest = |kind: ChildKind| {
        let children = desired(&cluster(&resource)).children;
        let names = children.into_iter().filter(|child| child.kind == kind);
        names.map(|child| child.name.len()).max().unwrap()
    };
    assert_eq!(longest(ChildKind::StatefulSet) + REVISION, 63);
    assert!(longest(ChildKind::Service) <= 63);
}

#[test]
fn ordinals_are_read_from_pods_names() {
    assert_eq!(
        names::node_ordinal("demo", &names::node_pod("demo", 12)),
        Some(12)
    );
    for other in [
        "demo-node",
        "demo-node-",
        "demo-node-01",
        "demo-node-+1",
        "demo-gateway-1",
        "demo2-node-1",
    ] {
        assert_eq!(names::node_ordinal("demo", other), None, "{other}");
    }
}

//! Every field of the resource does something, and this table says who does it.

use std::collections::BTreeSet;

use holdfast_crd::StorageCluster;
use holdfast_plan::{Cluster, desired};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::support::{EVERYTHING, EXTERNAL, cluster, resource};

/// Who makes something of a field.
#[derive(Clone, Copy, PartialEq, Debug)]
enum By {
    /// The plan: another value means other objects.
    Plan,
    /// The operator's lifecycle, which decides or asks the cluster; the plan
    /// reads what it decided.
    Lifecycle,
}
use By::{Lifecycle, Plan};

/// The fields, with values that differ from those in `everything.yaml`.
fn table() -> Vec<(&'static str, By, Value)> {
    vec![
        ("cache.managed.image", Plan, json!("redis:9")),
        ("cache.managed.memory", Plan, json!("2Gi")),
        ("gateway.autoscale.max", Plan, json!(12)),
        ("gateway.autoscale.min", Plan, json!(1)),
        ("gateway.autoscale.targetCpuPercent", Plan, json!(61)),
        ("gateway.ingress.annotations", Plan, json!({"a": "b"})),
        ("gateway.ingress.className", Plan, json!("traefik")),
        ("gateway.ingress.host", Plan, json!("other.example.org")),
        ("gateway.ingress.tlsSecretName", Plan, json!("other")),
        (
            "gateway.podTemplate",
            Plan,
            json!({"spec": {"priorityClassName": "x"}}),
        ),
        // Only the operator knows whether an autoscaler has taken over.
        ("gateway.replicas", Lifecycle, json!(8)),
        ("gateway.resources", Plan, json!({"requests": {"cpu": "3"}})),
        ("gateway.service.annotations", Plan, json!({"a": "b"})),
        ("gateway.service.type", Plan, json!("NodePort")),
        ("hibernate", Lifecycle, json!(true)),
        ("image.pullPolicy", Plan, json!("Never")),
        ("image.pullSecrets", Plan, json!(["other"])),
        ("image.repository", Plan, json!("elsewhere")),
        ("image.tag", Plan, json!("2.0.0")),
        ("monitoring.enabled", Plan, json!(false)),
        ("tls.issuerRef.kind", Plan, json!("Issuer")),
        ("tls.issuerRef.name", Plan, json!("another")),
        ("tls.mode", Plan, json!("Disabled")),
        ("nodes.placement.hosts", Plan, json!("Preferred")),
        ("nodes.placement.zoneKey", Plan, json!("other/zone")),
        ("nodes.placement.zones", Plan, json!("Preferred")),
        (
            "nodes.podTemplate",
            Plan,
            json!({"spec": {"priorityClassName": "x"}}),
        ),
        // Nodes come and go one at a time, when their data allows it.
        ("nodes.replicas", Lifecycle, json!(7)),
        (
            "nodes.resources",
            Plan,
            json!({"limits": {"memory": "8Gi"}}),
        ),
        (
            "nodes.storage.retention.whenDeleted",
            Lifecycle,
            json!("Retain"),
        ),
        (
            "nodes.storage.retention.whenScaledDown",
            Lifecycle,
            json!("Retain"),
        ),
        ("nodes.storage.size", Plan, json!("300Gi")),
        ("nodes.storage.storageClassName", Plan, json!("slow")),
        ("queue.managed.image", Plan, json!("rabbitmq:5")),
        ("queue.managed.replicas", Plan, json!(1)),
        ("queue.managed.storage", Plan, json!("2Gi")),
        // Told to the cluster when it is founded.
        ("redundancy.copies", Lifecycle, json!(3)),
        ("redundancy.metadataReplicas", Plan, json!(3)),
        ("removedNodes", Lifecycle, json!([])),
        ("suspend", Lifecycle, json!(true)),
        ("upgrade.finalize", Lifecycle, json!("Auto")),
        ("worker.autoscale.max", Lifecycle, json!(40)),
        ("worker.autoscale.min", Lifecycle, json!(2)),
        ("worker.autoscale.tasksPerWorker", Lifecycle, json!(10)),
        (
            "worker.podTemplate",
            Plan,
            json!({"spec": {"priorityClassName": "x"}}),
        ),
        ("worker.replicas", Lifecycle, json!(9)),
        (
            "worker.resources",
            Plan,
            json!({"limits": {"memory": "8Gi"}}),
        ),
    ]
}

/// Fields that the table above cannot change one by one, and the tests of them.
const ELSEWHERE: [&str; 5] = [
    // `unions_choose_between_ours_and_theirs`
    "cache.external.secretName",
    "cache.type",
    "queue.external.secretName",
    "queue.type",
    // The schema knows one value: `Copies`.
    "redundancy.type",
];

/// The spec's fields that hold values.
fn leaves(path: &str, schema: &Value, all: &mut BTreeSet<String>) {
    let opaque = ["resources", "podTemplate"];
    let fields = schema["properties"].as_object();
    match fields.filter(|_| !opaque.iter().any(|name| path.ends_with(name))) {
        None => {
            all.insert(path.to_owned());
        }
        Some(fields) => {
            for (name, schema) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                leaves(&path, schema, all);
            }
        }
    }
}

#[test]
fn the_table_has_every_field() {
    let definition = serde_json::to_value(StorageCluster::crd()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut all = BTreeSet::new();
    leaves("", &schema["properties"]["spec"], &mut all);
    let named = table().into_iter().map(|(path, ..)| path);
    let named: BTreeSet<String> = named.chain(ELSEWHERE).map(Into::into).collect();
    assert_eq!(all, named);
}

fn changed(path: &str, value: Value) -> Value {
    let mut resource = resource(EVERYTHING);
    let mut place = &mut resource["spec"];
    for field in path.split('.') {
        place = &mut place[field];
    }
    assert_ne!(*place, value, "{path} is that already");
    *place = value;
    resource
}

#[test]
fn every_field_changes_what_it_is_said_to_change() {
    let before = cluster(&resource(EVERYTHING));
    for (path, by, value) in table() {
        let mut after = cluster(&changed(path, value));
        // What the lifecycle decides stays decided.
        after.decisions = before.decisions.clone();
        let differs = desired(&after) != desired(&before);
        assert_eq!(differs, by == Plan, "{path}");
    }
}

#[test]
fn unions_choose_between_ours_and_theirs() {
    for (part, kind, variable) in [
        ("queue", "rabbitmq", "RABBITMQ_URL"),
        ("cache", "redis", "REDIS_URL"),
    ] {
        let mut external = resource(EXTERNAL);
        let theirs = url(&cluster(&external), variable);
        let secret = format!("our-{kind}");
        let source = json!({"name": secret, "key": "url"});
        assert_eq!(theirs["valueFrom"]["secretKeyRef"], source);
        let names = |cluster: &Cluster| {
            let children = desired(cluster).children;
            let ours = children.into_iter().map(|child| child.name);
            ours.filter(|name| name.contains(kind)).count()
        };
        assert_eq!(names(&cluster(&external)), 0, "{part}");
        external["spec"][part] = json!({"type": "Managed"});
        let ours = url(&cluster(&external), variable);
        let host = format!("demo-{kind}:");
        assert!(ours["value"].as_str().unwrap().contains(&host), "{ours}");
        assert!(names(&cluster(&external)) >= 4, "{part}");
    }
}

/// The variable of the gateways and workers, which is the same.
fn url(cluster: &Cluster, variable: &str) -> Value {
    let state = desired(cluster);
    let templates = crate::support::pod_templates(&state);
    let found: Vec<Value> = templates
        .iter()
        .filter(|(name, _)| ["demo-gateway", "demo-worker"].contains(name))
        .map(|(_, template)| {
            let all = template["spec"]["containers"][0]["env"].as_array().unwrap();
            all.iter()
                .find(|one| one["name"] == variable)
                .unwrap()
                .clone()
        })
        .collect();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], found[1]);
    found[0].clone()
}

type Change = fn(&mut Cluster);

#[test]
fn every_decision_changes_something() {
    let before = cluster(&resource(EVERYTHING));
    let changes: [(&str, Change); 8] = [
        ("storage_replicas", |c| c.decisions.storage_replicas += 1),
        ("storage_disruptions", |c| {
            c.decisions.storage_disruptions = 0
        }),
        ("gateway_replicas", |c| {
            c.decisions.gateway_replicas = Some(3)
        }),
        ("worker_replicas", |c| c.decisions.worker_replicas += 1),
        ("hibernated", |c| c.decisions.hibernated = true),
        ("certificate", |c| c.decisions.kinds.certificate = false),
        ("service_monitor", |c| {
            c.decisions.kinds.service_monitor = false
        }),
        ("prometheus_rule", |c| {
            c.decisions.kinds.prometheus_rule = false
        }),
    ];
    for (name, change) in changes {
        let mut after = before.clone();
        change(&mut after);
        assert_ne!(desired(&after), desired(&before), "{name}");
    }
}

#[test]
fn the_recorded_release_runs_until_the_resource_names_one() {
    let mut untagged = resource(EVERYTHING);
    untagged["spec"]["image"]["tag"] = Value::Null;
    let image = "registry.example.org/holdfast/storage";
    assert_eq!(cluster(&untagged).images.storage, format!("{image}:0.1.0"));
    let tagged = cluster(&resource(EVERYTHING));
    assert_eq!(tagged.images.storage, format!("{image}:1.2.3"));
}

//! The definition for Kubernetes: what is accepted, what is refused and with
//! which sentence.

use holdfast_crd::{QueueType, StorageCluster};
use kube::CustomResourceExt;
use serde_json::{Value, json};

/// The API server refuses larger ones as annotations; and a person reads it.
const MAX_BYTES: usize = 200 << 10;

fn cluster(spec: Value) -> StorageCluster {
    let value = json!({
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "StorageCluster",
        "metadata": {"name": "demo"},
        "spec": spec,
    });
    serde_json::from_value(value).unwrap()
}

fn smallest() -> Value {
    json!({"nodes": {"storage": {"size": "100Gi"}}})
}

fn refusals(spec: Value) -> String {
    match cluster(spec).validate_cel() {
        Ok(()) => String::new(),
        Err(errors) => format!("{errors:?}"),
    }
}

#[test]
fn the_smallest_resource_has_three_nodes_and_three_copies() {
    let cluster = cluster(smallest());
    assert_eq!(cluster.spec.nodes.replicas, 3);
    assert_eq!(cluster.spec.redundancy.copies, 3);
    assert_eq!(cluster.spec.queue.kind, QueueType::Managed);
    assert_eq!(refusals(smallest()), "");
}

#[test]
fn what_can_never_be_right_is_refused_with_a_sentence() {
    let mut few = smallest();
    few["redundancy"] = json!({"copies": 5});
    assert!(refusals(few).contains("at least as many nodes as copies"));
    let mut both = smallest();
    both["queue"] = json!({"type": "Managed", "external": {"secretName": "mq"}});
    assert!(refusals(both).contains("only then"));
    let mut neither = smallest();
    neither["cache"] = json!({"type": "External"});
    assert!(refusals(neither).contains("only then"));
}

#[test]
fn what_is_fixed_at_birth_stays() {
    let old = cluster(smallest());
    let mut smaller = smallest();
    smaller["nodes"]["storage"]["size"] = json!("50Gi");
    let errors = cluster(smaller).validate_cel_update(&old).unwrap_err();
    assert!(format!("{errors:?}").contains("cannot shrink"));
    let mut larger = smallest();
    larger["nodes"]["storage"]["size"] = json!("0.2Ti");
    cluster(larger).validate_cel_update(&old).unwrap();
    let mut fewer_copies = smallest();
    fewer_copies["redundancy"] = json!({"copies": 2});
    let errors = cluster(fewer_copies).validate_cel_update(&old).unwrap_err();
    assert!(format!("{errors:?}").contains("fixed when the cluster is born"));
}

#[test]
fn everything_is_described_and_bounded() {
    let definition = serde_json::to_value(StorageCluster::crd()).unwrap();
    assert!(definition.to_string().len() < MAX_BYTES);
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut wrong = Vec::new();
    look("", &schema["properties"]["spec"], &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Notes strings and lists without a bound, and fields without a description.
/// What Kubernetes' own types hold is Kubernetes' to say.
fn look(path: &str, schema: &Value, wrong: &mut Vec<String>) {
    if path.ends_with(".resources") || path.ends_with(".podTemplate") {
        return;
    }
    if !path.is_empty() && schema.get("description").is_none() {
        wrong.push(format!("{path} has no description"));
    }
    let has = |name: &str| schema.get(name).is_some();
    match schema["type"].as_str() {
        Some("string") if !has("maxLength") && !has("enum") => {
            wrong.push(format!("{path} has no maxLength"));
        }
        Some("array") if !has("maxItems") => wrong.push(format!("{path} has no maxItems")),
        Some("object") if has("additionalProperties") && !has("maxProperties") => {
            wrong.push(format!("{path} has no maxProperties"));
        }
        _ => {}
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        look(&format!("{path}.{name}"), inner, wrong);
    }
}

//! The definition for Kubernetes: what is accepted, what is refused and with
//! which sentence.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be, also in its helpers"
)]

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
fn tls_is_turned_on_or_off_while_the_cluster_sleeps() {
    let with = |mode: &str, hibernate: bool, phase: &str| {
        let mut spec = smallest();
        spec["tls"] = json!({"mode": mode});
        spec["hibernate"] = json!(hibernate);
        let mut cluster = cluster(spec);
        cluster.status = serde_json::from_value(json!({
            "phase": phase,
            "nodes": {"replicas": 3, "ready": 3},
        }))
        .unwrap();
        cluster
    };
    let plain = with("Disabled", false, "Running");
    let errors = with("Managed", false, "Running").validate_cel_update(&plain);
    assert!(format!("{errors:?}").contains("while the cluster sleeps"));
    // On its way to sleep, pods still run.
    let going = with("Disabled", true, "Running");
    with("Managed", true, "Running")
        .validate_cel_update(&going)
        .unwrap_err();
    let asleep = with("Disabled", true, "Hibernated");
    with("Managed", true, "Hibernated")
        .validate_cel_update(&asleep)
        .unwrap();
    // It is not woken up and changed in one step.
    with("Managed", false, "Hibernated")
        .validate_cel_update(&asleep)
        .unwrap_err();
    let mut by_others = with("Managed", false, "Running");
    by_others.spec.tls = serde_json::from_value(json!({
        "mode": "CertManager", "issuerRef": {"name": "ours"},
    }))
    .unwrap();
    by_others
        .validate_cel_update(&with("Managed", false, "Running"))
        .unwrap();
}

fn schema() -> Value {
    let definition = serde_json::to_value(StorageCluster::crd()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn the_committed_definition_is_what_the_types_say() {
    let committed = include_str!("../../../crds/storageclusters.holdfast.dev.yaml");
    let made = serde_yaml_ng::to_string(&StorageCluster::crd()).unwrap();
    assert!(
        committed == made,
        "make it anew: cargo run -p holdfast-crd --example print > \
         crds/storageclusters.holdfast.dev.yaml"
    );
}

#[test]
fn everything_is_described_and_bounded() {
    let definition = serde_json::to_value(StorageCluster::crd()).unwrap();
    assert!(definition.to_string().len() < MAX_BYTES);
    let mut wrong = Vec::new();
    for part in ["spec", "status"] {
        walk(part, &schema()["properties"][part], &mut |path, schema| {
            wrong.extend(look(path, schema));
        });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Calls `visit` with every schema and its path.
fn walk(path: &str, schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), inner, visit);
    }
    for (field, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = schema.get(field) {
            walk(&format!("{path}{mark}"), inner, visit);
        }
    }
}

/// What is wrong with a schema: a string or a list without a bound, a field
/// without a description. What Kubernetes' own types hold is Kubernetes' to say.
fn look(path: &str, schema: &Value) -> Option<String> {
    let theirs = [".resources", ".podTemplate", ".conditions[]"];
    if theirs.iter().any(|part| path.contains(part)) {
        return None;
    }
    let has = |name: &str| schema.get(name).is_some();
    let is_item = path.ends_with("[]") || path.ends_with("{}");
    if !is_item && !has("description") {
        return Some(format!("{path} has no description"));
    }
    let is_time = schema["format"] == "date-time";
    match schema["type"].as_str() {
        Some("string") if !has("maxLength") && !has("enum") && !is_time => {
            Some(format!("{path} has no maxLength"))
        }
        Some("array") if !has("maxItems") => Some(format!("{path} has no maxItems")),
        Some("object") if has("additionalProperties") && !has("maxProperties") => {
            Some(format!("{path} has no maxProperties"))
        }
        Some("integer") if !path.ends_with("observedGeneration") && !has("minimum") => {
            Some(format!("{path} has no minimum"))
        }
        _ => None,
    }
}

#[test]
fn an_api_server_takes_the_schema() {
    const FORMATS: [&str; 3] = ["int32", "int64", "date-time"];
    let mut wrong = Vec::new();
    let mut rules = 0;
    walk("", &schema(), &mut |path, schema| {
        for word in ["$ref", "anyOf", "oneOf", "allOf", "not", "definitions"] {
            if schema.get(word).is_some() {
                wrong.push(format!("{path} has {word}"));
            }
        }
        let is_open = schema.get("x-kubernetes-int-or-string").is_some();
        if !schema["type"].is_string() && !is_open {
            wrong.push(format!("{path} has no type"));
        }
        if schema["nullable"] == true && path != ".status" {
            wrong.push(format!("{path} is nullable: has() would see a null"));
        }
        if let Some(format) = schema["format"].as_str()
            && !FORMATS.contains(&format)
        {
            wrong.push(format!("{path} has the format {format}"));
        }
        if let Some(default) = schema.get("default") {
            wrong.extend(misfit(path, schema, default));
        }
        if schema.get("properties").is_some() && schema.get("additionalProperties").is_some() {
            wrong.push(format!(
                "{path} has both properties and additionalProperties"
            ));
        }
        rules += schema["x-kubernetes-validations"]
            .as_array()
            .map_or(0, Vec::len);
        for key in schema["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten()
        {
            if !schema["items"]["required"]
                .as_array()
                .unwrap()
                .contains(key)
            {
                wrong.push(format!("{path} is a map by {key}, which may be absent"));
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rules >= 10, "the rules are gone: {rules}");
}

/// Why `value` is not of `schema`; as far as schemas go here.
fn misfit(path: &str, schema: &Value, value: &Value) -> Vec<String> {
    let is = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        _ => false,
    };
    let mut wrong = Vec::new();
    if !is {
        wrong.push(format!("{path}: the default {value} has another type"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        wrong.push(format!("{path}: the default {value} is not allowed"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            wrong.push(format!("{path}: the default lacks {name}"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => wrong.extend(misfit(&format!("{path}.{name}"), schema, inner)),
            None => wrong.push(format!("{path}: the default has {name}, which is no field")),
        }
    }
    wrong
}

#[test]
fn a_class_is_neither_added_nor_taken_away_later() {
    let mut with = smallest();
    with["nodes"]["storage"]["storageClassName"] = json!("fast");
    for (old, new) in [(smallest(), with.clone()), (with, smallest())] {
        let errors = cluster(new).validate_cel_update(&cluster(old)).unwrap_err();
        assert!(format!("{errors:?}").contains("class of volumes"));
    }
}

//! What a `podTemplate` may not touch.
//!
//! It may add nearly everything; but what the operator relies on (that the node
//! is called where it is looked for, that probes mean what they say, that data
//! lies on its volume) is not up to it.

use holdfast_crd::PodTemplate;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value};

use crate::names::{self, Component};
use crate::pods::{CONFIG_VOLUME, SECRETS_VOLUME, TMP_VOLUME};
use crate::tls;

/// Fields of our containers that are ours.
const CONTAINER_FIELDS: [&str; 10] = [
    "args",
    "command",
    "image",
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "startupProbe",
    "volumeMounts",
    "workingDir",
];
/// Fields of our pods that are ours.
const POD_FIELDS: [&str; 6] = [
    "automountServiceAccountToken",
    "hostname",
    "restartPolicy",
    "serviceAccount",
    "serviceAccountName",
    "subdomain",
];
/// Variables that say who a process is, or where others are. The rest are
/// settings, and anybody's.
const VARIABLES: [&str; 19] = [
    "HOLDFAST_ADVERTISE",
    "HOLDFAST_BOOTSTRAP",
    "HOLDFAST_CLUSTER_SECRET",
    "HOLDFAST_CLUSTER_SECRET_FILE",
    "HOLDFAST_CLUSTER_SECRET_PREVIOUS_FILE",
    "HOLDFAST_DATA",
    "HOLDFAST_HOST",
    "HOLDFAST_JOIN",
    "HOLDFAST_LISTEN",
    "HOLDFAST_METRICS_ADDR",
    "HOLDFAST_NODES",
    "HOLDFAST_PUBLIC_TLS_DIR",
    "HOLDFAST_SECRETS_DIR",
    "HOLDFAST_TLS_DIR",
    "HOLDFAST_ZONE",
    "POD_NAME",
    "POD_NAMESPACE",
    "RABBITMQ_URL",
    "REDIS_URL",
];
/// Volumes of ours.
const VOLUMES: [&str; 5] = [
    names::NODE_CLAIM,
    SECRETS_VOLUME,
    TMP_VOLUME,
    CONFIG_VOLUME,
    tls::VOLUME,
];
/// What holds something of ours, and so cannot be taken away as a whole.
const HOLDERS: [&str; 6] = [
    "annotations",
    "containers",
    "labels",
    "metadata",
    "spec",
    "volumes",
];
/// Labels and annotations of ours begin so.
const OUR_PREFIX: &str = "holdfast.dev/";

/// What in `template` is not its author's to say, as paths with reasons; empty
/// when it may be merged. `container` is the name of ours.
pub(crate) fn refusals(
    template: &PodTemplate,
    component: Component,
    container: &str,
) -> Vec<String> {
    let PodTemplate(template) = template;
    let whole = Value::Object(template.clone());
    let mut refused = Vec::new();
    directives("", &whole, &mut refused);
    taken_away("", template, &mut refused);
    for field in ["metadata", "spec"] {
        if let Some(inner) = object(template.get(field)) {
            taken_away(&format!("{field}."), inner, &mut refused);
        }
    }
    for field in template.keys() {
        if field != "metadata" && field != "spec" {
            refused.push(format!(
                "{field}: a pod template has metadata and spec alone"
            ));
        }
    }
    if let Some(metadata) = object(template.get("metadata")) {
        metadata_refusals(metadata, component, &mut refused);
    }
    if let Some(spec) = object(template.get("spec")) {
        for field in POD_FIELDS
            .into_iter()
            .filter(|field| spec.contains_key(*field))
        {
            refused.push(format!("spec.{field} is the operator's"));
        }
        for name in names_in(spec, "volumes") {
            if VOLUMES.contains(&name) {
                refused.push(format!("spec.volumes: {name} is the operator's"));
            }
        }
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            for given in items(spec, list) {
                container_refusals(list, given, container, &mut refused);
            }
        }
    }
    if refused.is_empty()
        && let Err(error) = serde_json::from_value::<PodTemplateSpec>(whole)
    {
        refused.push(format!("it is no pod template: {error}"));
    }
    refused
}

/// Directives of strategic merge, which are not understood here.
fn directives(path: &str, value: &Value, refused: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                if name.starts_with('$') {
                    refused.push(format!(
                        "{path}: directives are not understood, use null to take a field away"
                    ));
                }
                directives(&path, inner, refused);
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| directives(path, item, refused)),
        _ => {}
    }
}

/// Nulls where something of ours is.
fn taken_away(path: &str, fields: &Map<String, Value>, refused: &mut Vec<String>) {
    for (name, value) in fields {
        if value.is_null() && HOLDERS.contains(&name.as_str()) {
            refused.push(format!(
                "{path}{name} cannot be null: it holds what is the operator's"
            ));
        }
    }
}

fn metadata_refusals(
    metadata: &Map<String, Value>,
    component: Component,
    refused: &mut Vec<String>,
) {
    for field in metadata.keys() {
        if field != "labels" && field != "annotations" {
            refused.push(format!(
                "metadata.{field}: only labels and annotations can be added"
            ));
        }
    }
    let ours = names::labels("", component);
    for field in ["labels", "annotations"] {
        for name in object(metadata.get(field)).into_iter().flat_map(Map::keys) {
            if name.starts_with(OUR_PREFIX) || ours.contains_key(name) {
                refused.push(format!("metadata.{field}: {name} is the operator's"));
            }
        }
    }
}

fn container_refusals(list: &str, given: &Value, ours: &str, refused: &mut Vec<String>) {
    let Some(name) = given.get("name").and_then(Value::as_str) else {
        refused.push(format!("spec.{list}: one has no name"));
        return;
    };
    if name != ours {
        return;
    }
    if list != "containers" {
        refused.push(format!(
            "spec.{list}: {name} is the name of the operator's container"
        ));
        return;
    }
    let Some(given) = given.as_object() else {
        return;
    };
    for field in CONTAINER_FIELDS
        .into_iter()
        .filter(|field| given.contains_key(*field))
    {
        refused.push(format!("spec.containers[{name}].{field} is the operator's"));
    }
    if given.get("env").is_some_and(Value::is_null) {
        refused.push(format!(
            "spec.containers[{name}].env cannot be null: it holds what is the operator's"
        ));
    }
    for variable in names_in(given, "env") {
        if VARIABLES.contains(&variable) {
            refused.push(format!(
                "spec.containers[{name}].env: {variable} is the operator's"
            ));
        }
    }
}

fn object(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn items<'a>(of: &'a Map<String, Value>, list: &str) -> impl Iterator<Item = &'a Value> {
    of.get(list).and_then(Value::as_array).into_iter().flatten()
}

fn names_in<'a>(of: &'a Map<String, Value>, list: &str) -> impl Iterator<Item = &'a str> {
    items(of, list).filter_map(|item| item.get("name")?.as_str())
}

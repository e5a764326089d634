//! How an object of ours is put together.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};

/// Characters of a configuration's hash: enough to differ, few enough to read.
const HASH_CHARACTERS: usize = 16;

/// An object of `cluster`; `body` is all but apiVersion, kind and metadata, and
/// may have annotations beside. What is null is left out.
pub(crate) fn child(
    cluster: &Cluster,
    kind: ChildKind,
    component: Component,
    name: String,
    body: Value,
) -> Child {
    let mut object = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind(),
        "metadata": {
            "name": name,
            "namespace": cluster.namespace,
            "labels": names::labels(&cluster.name, component),
            "ownerReferences": [names::owner_reference(cluster)],
        },
    });
    if let (Value::Object(object), Value::Object(mut body)) = (&mut object, body) {
        if let (Some(annotations), Some(Value::Object(metadata))) =
            (body.remove("annotations"), object.get_mut("metadata"))
        {
            metadata.insert("annotations".into(), annotations);
        }
        object.append(&mut body);
    }
    without_nulls(&mut object);
    Child { kind, name, object }
}

/// Takes away fields that are null: they say nothing, and server-side apply
/// would own them.
pub fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// A map of annotations or labels, or null where it is empty.
pub(crate) fn unless_empty<K: Into<String> + Clone, V: Into<Value> + Clone>(
    entries: impl IntoIterator<Item = (K, V)>,
) -> Value {
    let map: Map<String, Value> = entries
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    if map.is_empty() {
        Value::Null
    } else {
        Value::Object(map)
    }
}

/// A hash of a configuration: where it differs, pods are made anew.
pub(crate) fn config_hash(configuration: &Value) -> String {
    let digest = Sha256::digest(configuration.to_string().as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.chars().take(HASH_CHARACTERS).collect()
}

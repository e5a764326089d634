//! The StorageClusters that cases apply: small ones, for a machine of two cores.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::kubernetes::room::Room;

/// What a reader of the README applies first.
const EXAMPLE: &str = "examples/storagecluster.yaml";

/// Three nodes, one gateway, one worker.
pub fn small(room: &Room) -> Value {
    let little = json!({"requests": {"cpu": "20m", "memory": "64Mi"}});
    json!({
        "image": {"tag": room.tag},
        "nodes": {"replicas": 3, "storage": {"size": "2Gi"}, "resources": little},
        "gateway": {"replicas": 1, "resources": little},
        "worker": {"replicas": 1, "resources": little},
        "tls": {"mode": "Disabled"},
    })
}

/// The same with two gateways, so that one can leave.
pub fn two_gateways(room: &Room) -> Value {
    with(small(room), json!({"gateway": {"replicas": 2}}))
}

/// The same as the small one with TLS as it is where nothing is said of it.
pub fn encrypted(room: &Room) -> Value {
    with(small(room), json!({"tls": null}))
}

/// The example of the README, as it stands.
pub fn example() -> Result<Value> {
    let text = std::fs::read_to_string(EXAMPLE).context("run this in the repository")?;
    let mut resource: Value = serde_yaml_ng::from_str(&text)?;
    let spec = resource.get_mut("spec").map(Value::take);
    spec.context("the example has no spec")
}

/// `base` with the fields of `change` in place of its own; without those that
/// are null there.
pub fn with(mut base: Value, change: Value) -> Value {
    merge(&mut base, change);
    base
}

fn merge(base: &mut Value, change: Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (name, value) in change {
                if value.is_null() {
                    base.remove(&name);
                    continue;
                }
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, change) => *base = change,
    }
}

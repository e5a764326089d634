//! Whether a live object has all that is desired of it.
//!
//! The API server fills in defaults, so that a live object has more than was
//! asked for; what was asked for must be there with its value. Quantities are
//! compared as numbers: `1024Mi` comes back as `1Gi`. What others put into a pod
//! beside ours is drift as well: [`foreign_parts`].

use serde_json::{Map, Value};

use holdfast_plan::quantity;

/// Keys below which strings are quantities.
const QUANTITIES: [&str; 4] = ["requests", "limits", "sizeLimit", "storage"];
/// The lists of a pod into which others may have put something.
const PARTS: [&str; 3] = ["containers", "initContainers", "volumes"];

/// Whether `live` lacks something of `desired`, or has it otherwise. Says where.
pub fn first_difference(desired: &Value, live: &Value) -> Option<String> {
    let desired = without_identity(desired);
    difference(&desired, live, "", false)
}

/// Name and version are how it was found.
fn without_identity(desired: &Value) -> Value {
    let mut desired = desired.clone();
    if let Value::Object(fields) = &mut desired {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    desired
}

fn difference(desired: &Value, live: &Value, at: &str, quantity: bool) -> Option<String> {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => {
            differing_field(desired, live, at, quantity)
        }
        (Value::Array(desired), Value::Array(live)) => {
            if desired.len() > live.len() {
                return Some(at.to_owned());
            }
            differing_item(desired, live, at)
        }
        (Value::String(one), Value::String(other)) if quantity => {
            let same = one == other || quantity::same(one, other);
            (!same).then(|| at.to_owned())
        }
        (one, other) => (one != other).then(|| at.to_owned()),
    }
}

fn differing_field(
    desired: &Map<String, Value>,
    live: &Map<String, Value>,
    at: &str,
    quantity: bool,
) -> Option<String> {
    desired.iter().find_map(|(key, wanted)| {
        let path = format!("{at}.{key}");
        let quantity = quantity || QUANTITIES.contains(&key.as_str());
        match live.get(key) {
            Some(found) => difference(wanted, found, &path, quantity),
            None => (!is_nothing(wanted)).then_some(path),
        }
    })
}

/// Lists of named things are compared by name, others in order.
fn differing_item(desired: &[Value], live: &[Value], at: &str) -> Option<String> {
    let named = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
    if desired.iter().all(|item| named(item).is_some()) && !desired.is_empty() {
        return desired.iter().find_map(|wanted| {
            let name = named(wanted)?;
            let path = format!("{at}[{name}]");
            match live.iter().find(|item| named(item).as_ref() == Some(&name)) {
                Some(found) => difference(wanted, found, &path, false),
                None => Some(path),
            }
        });
    }
    if desired.len() != live.len() {
        return Some(at.to_owned());
    }
    desired
        .iter()
        .zip(live)
        .enumerate()
        .find_map(|(index, (wanted, found))| {
            difference(wanted, found, &format!("{at}[{index}]"), false)
        })
}

/// What the API server leaves out.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Number(_) => false,
    }
}

/// Containers, init containers and volumes that somebody else has put into the
/// pod template of `live`.
pub fn foreign_parts(desired: &Value, live: &Value) -> Vec<String> {
    let pod = |object: &Value| object.pointer("/spec/template/spec").cloned();
    let (Some(desired), Some(live)) = (pod(desired), pod(live)) else {
        return Vec::new();
    };
    let names = |pod: &Value, part: &str| -> Vec<String> {
        let items = pod.get(part).and_then(Value::as_array);
        items
            .into_iter()
            .flatten()
            .filter_map(|item| item.get("name")?.as_str().map(str::to_owned))
            .collect()
    };
    PARTS
        .iter()
        .flat_map(|part| {
            let ours = names(&desired, part);
            let theirs = names(&live, part).into_iter();
            theirs.filter(move |name| !ours.contains(name))
        })
        .collect()
}

/// A merge patch that leaves only our own parts in the pod template.
pub fn own_parts(desired: &Value) -> Value {
    let own = |part: &str| {
        desired
            .pointer(&format!("/spec/template/spec/{part}"))
            .cloned()
            .unwrap_or(Value::Null)
    };
    let parts: Map<String, Value> = PARTS
        .iter()
        .map(|part| ((*part).to_owned(), own(part)))
        .collect();
    serde_json::json!({ "spec": { "template": { "spec": parts } } })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_has_filled_in_is_no_difference() {
        let desired = json!({"apiVersion": "v1", "spec": {"ports": [{"name": "http", "port": 1}]}});
        let live = json!({"spec": {"ports": [{"name": "http", "port": 1, "protocol": "TCP"}], "type": "ClusterIP"}});
        assert_eq!(first_difference(&desired, &live), None);
    }

    #[test]
    fn another_value_or_a_missing_one_is_told_with_its_place() {
        let desired = json!({"spec": {"replicas": 2, "ports": [{"name": "http", "port": 1}]}});
        let other = json!({"spec": {"replicas": 3, "ports": [{"name": "http", "port": 1}]}});
        assert_eq!(
            first_difference(&desired, &other).as_deref(),
            Some(".spec.replicas")
        );
        let none = json!({"spec": {"replicas": 2, "ports": [{"name": "x", "port": 1}]}});
        assert_eq!(
            first_difference(&desired, &none).as_deref(),
            Some(".spec.ports[http]")
        );
    }

    #[test]
    fn quantities_are_numbers_and_other_strings_are_not() {
        let desired = json!({"limits": {"memory": "1024Mi"}, "image": "1024Mi"});
        let live = json!({"limits": {"memory": "1Gi"}, "image": "1024Mi"});
        assert_eq!(first_difference(&desired, &live), None);
        let live = json!({"limits": {"memory": "1Gi"}, "image": "1Gi"});
        assert_eq!(first_difference(&desired, &live).as_deref(), Some(".image"));
    }

    #[test]
    fn what_is_desired_to_be_empty_may_be_absent() {
        let desired = json!({"spec": {"a": false, "b": [], "c": {"d": null}}});
        assert_eq!(first_difference(&desired, &json!({"spec": {}})), None);
    }

    #[test]
    fn foreign_containers_and_volumes_are_found() {
        let pod = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers, "volumes": [{"name": "tmp"}]}}}});
        let desired = pod(json!([{"name": "node"}]));
        let live = pod(json!([{"name": "node"}, {"name": "miner"}]));
        assert_eq!(foreign_parts(&desired, &live), ["miner"]);
        assert_eq!(
            own_parts(&desired).pointer("/spec/template/spec/containers"),
            Some(&json!([{"name": "node"}]))
        );
    }
}

//! A patch that is merged over an object as `kubectl patch` does with pods:
//! fields one by one, lists of named things by name, null takes a field away.

use serde_json::Value;

/// How the items of a list find each other.
enum Items {
    /// By the value of this field.
    ByKey(&'static str),
    /// The patch's come after those that are there.
    Appended,
    /// The patch's are all there is.
    Replaced,
}

/// As Kubernetes' API has it for pods; tolerations are appended, since each is a
/// permission of its own.
fn items(list: &str) -> Items {
    match list {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => {
            Items::ByKey("name")
        }
        "volumeMounts" => Items::ByKey("mountPath"),
        "ports" => Items::ByKey("containerPort"),
        "topologySpreadConstraints" => Items::ByKey("topologyKey"),
        "hostAliases" => Items::ByKey("ip"),
        "tolerations" => Items::Appended,
        _ => Items::Replaced,
    }
}

/// Merges `patch` over `base`.
pub(crate) fn merge(base: &mut Value, patch: &Value) {
    merge_field("", base, patch);
}

fn merge_field(name: &str, base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (field, value) in patch {
                if value.is_null() {
                    base.remove(field);
                } else {
                    let there = base.entry(field.clone()).or_insert(Value::Null);
                    merge_field(field, there, value);
                }
            }
        }
        (Value::Array(base), Value::Array(patch)) => merge_list(name, base, patch),
        (base, Value::Object(_)) => {
            // Through the object above, so that nulls inside of it vanish.
            *base = Value::Object(serde_json::Map::new());
            merge_field(name, base, patch);
        }
        (base, patch) => *base = patch.clone(),
    }
}

fn merge_list(name: &str, base: &mut Vec<Value>, patch: &[Value]) {
    match items(name) {
        Items::Replaced => *base = patch.to_vec(),
        Items::Appended => base.extend(
            patch
                .iter()
                .filter(|item| !base.contains(item))
                .cloned()
                .collect::<Vec<_>>(),
        ),
        Items::ByKey(key) => {
            for item in patch {
                let same = |there: &&mut Value| there.get(key) == item.get(key);
                match base.iter_mut().find(same) {
                    Some(there) => merge_field("", there, item),
                    None => base.push(item.clone()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut base: Value, patch: Value) -> Value {
        merge(&mut base, &patch);
        base
    }

    #[test]
    fn maps_are_merged_and_null_takes_away() {
        let base = json!({"labels": {"a": "1", "b": "2"}, "kept": true});
        let patch = json!({"labels": {"b": null, "c": "3"}, "new": {"x": 1, "y": null}});
        let expected = json!({"labels": {"a": "1", "c": "3"}, "kept": true, "new": {"x": 1}});
        assert_eq!(merged(base, patch), expected);
    }

    #[test]
    fn containers_and_their_environment_are_found_by_name() {
        let base = json!({"containers": [
            {"name": "node", "image": "a", "env": [{"name": "X", "value": "1"}]},
        ]});
        let patch = json!({"containers": [
            {"name": "side", "image": "b"},
            {"name": "node", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "3"}]},
        ]});
        let expected = json!({"containers": [
            {"name": "node", "image": "a",
             "env": [{"name": "X", "value": "3"}, {"name": "Y", "value": "2"}]},
            {"name": "side", "image": "b"},
        ]});
        assert_eq!(merged(base, patch), expected);
    }

    #[test]
    fn a_value_takes_the_place_of_its_source() {
        let base = json!({"env": [{"name": "X", "value": "1"}]});
        let patch = json!({"env": [{"name": "X", "value": null, "valueFrom": {"fieldRef": {"fieldPath": "p"}}}]});
        let expected =
            json!({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}]});
        assert_eq!(merged(base, patch), expected);
    }

    #[test]
    fn tolerations_are_appended_once_and_other_lists_replaced() {
        let base = json!({"tolerations": [{"key": "a"}], "args": ["x", "y"]});
        let patch = json!({"tolerations": [{"key": "b"}, {"key": "a"}], "args": ["z"]});
        let expected = json!({"tolerations": [{"key": "a"}, {"key": "b"}], "args": ["z"]});
        assert_eq!(merged(base, patch), expected);
    }

    #[test]
    fn merging_twice_is_merging_once() {
        let base = json!({"spec": {"volumes": [{"name": "tmp", "emptyDir": {}}]}});
        let patch = json!({"spec": {
            "volumes": [{"name": "more", "emptyDir": {}}],
            "tolerations": [{"key": "b"}],
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["x"]}],
        }});
        let once = merged(base, patch.clone());
        assert_eq!(merged(once.clone(), patch), once);
    }
}

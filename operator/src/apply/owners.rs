//! Who else owns what is ours.
//!
//! The API server notes for each field who has set it (`metadata.managedFields`).
//! A field that another manager owns as well stays when we no longer ask for it,
//! and one that another owns alone was never ours to take back. So what others
//! claim of our fields is taken out of their entries, and applied again.
//!
//! Left alone is who writes through a subresource (an autoscaler's number, a
//! controller's status), and whatever others own that is not ours.

use holdfast_plan::names;
use serde_json::{Map, Value, json};

/// What others claim of ours.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Claimed {
    /// Who.
    pub(super) managers: Vec<String>,
    /// The entries of the live object without it.
    pub(super) without: Value,
    /// What tells this claim from others: all of it but its time.
    pub(super) claim: String,
}

/// What others claim of what is desired; `None` where they claim nothing.
pub(super) fn claimed(desired: &Value, live: &Value) -> Option<Claimed> {
    let entries = live.pointer("/metadata/managedFields")?.as_array()?;
    let (mut managers, mut without) = (Vec::new(), Vec::new());
    let mut claim = String::new();
    for entry in entries {
        let fields = entry.get("fieldsV1").and_then(Value::as_object);
        let Some(fields) = fields.filter(|_| !is_left_alone(entry)) else {
            without.push(entry.clone());
            continue;
        };
        let left = without_ours(fields, desired, false);
        if left == *fields {
            without.push(entry.clone());
            continue;
        }
        let manager = entry.get("manager").and_then(Value::as_str);
        let manager = manager.unwrap_or("somebody");
        managers.push(manager.to_owned());
        claim += &format!("{manager} {} ", Value::Object(fields.clone()));
        if !left.is_empty() {
            let mut entry = entry.clone();
            if let Some(entry) = entry.as_object_mut() {
                entry.insert("fieldsV1".into(), Value::Object(left));
            }
            without.push(entry);
        }
    }
    // No entry at all would be taken for no change; this is none (Kubernetes'
    // page on server-side apply, "Clearing managedFields").
    if without.is_empty() {
        without.push(json!({}));
    }
    (!managers.is_empty()).then_some(Claimed {
        managers,
        without: Value::Array(without),
        claim,
    })
}

fn is_left_alone(entry: &Value) -> bool {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    is_our_own(entry) || text("subresource").is_some_and(|name| !name.is_empty())
}

/// Whether an entry is what we have applied.
fn is_our_own(entry: &Value) -> bool {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    text("manager") == Some(names::MANAGED_BY) && text("operation") == Some("Apply")
}

/// Whether we own a field: `["spec", "replicas"]`.
pub(super) fn is_ours(live: &Value, path: &[&str]) -> bool {
    let entries = live.pointer("/metadata/managedFields");
    let mut entries = entries.and_then(Value::as_array).into_iter().flatten();
    let pointer: String = path.iter().map(|step| format!("/f:{step}")).collect();
    entries.any(|entry| {
        let fields = entry.get("fieldsV1").filter(|_| is_our_own(entry));
        fields.is_some_and(|fields| fields.pointer(&pointer).is_some())
    })
}

/// A set of fields as the API server writes it (`FieldsV1`), without those that
/// `desired` has. Keys are `f:NAME` of a field, `k:{...}` of a list's item by what
/// names it, `v:VALUE` of a set's member, and `.` of the thing itself; a field
/// without anything below it is owned as a whole.
fn without_ours(fields: &Map<String, Value>, desired: &Value, item: bool) -> Map<String, Value> {
    let left = fields.iter().filter_map(|(key, below)| {
        let kept = || Some((key.clone(), below.clone()));
        if key == "." {
            // A map is there for all who have something in it; an item is not.
            return if item { None } else { kept() };
        }
        let Some(ours) = ours(key, desired) else {
            return kept();
        };
        let below = below.as_object().filter(|below| !below.is_empty())?;
        let left = without_ours(below, ours, key.starts_with("k:"));
        (!left.is_empty()).then(|| (key.clone(), Value::Object(left)))
    });
    left.collect()
}

/// What is desired at a key; `None` where nothing is.
fn ours<'d>(key: &str, desired: &'d Value) -> Option<&'d Value> {
    let (kind, rest) = key.split_once(':')?;
    match kind {
        "f" => desired.get(rest),
        "v" => {
            let member: Value = serde_json::from_str(rest).ok()?;
            desired.as_array()?.iter().find(|one| **one == member)
        }
        "k" => {
            let named: Map<String, Value> = serde_json::from_str(rest).ok()?;
            let mut all = desired.as_array()?.iter();
            // A part of a name that we leave out was filled in: `protocol`.
            all.find(|one| {
                let mut parts = named.iter();
                parts.all(|(key, value)| one.get(key).is_none_or(|ours| ours == value))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired() -> Value {
        json!({
            "metadata": {"name": "demo-gateway", "labels": {"a": "b"}, "annotations": {"ours": "1"}},
            "spec": {"template": {"spec": {
                "hostNetwork": true,
                "containers": [{"name": "gateway", "image": "i", "args": ["x"],
                    "ports": [{"name": "http", "containerPort": 5000}]}],
            }}},
        })
    }

    fn live(entries: Value) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn ours() -> Value {
        let all = json!({"f:spec": {"f:template": {"f:spec": {"f:hostNetwork": {}}}}});
        entry(names::MANAGED_BY, "Apply", all)
    }

    #[test]
    fn what_another_manager_owns_of_ours_is_taken_from_it_and_all_else_is_left() {
        let theirs = |env: Value| {
            json!({
                "f:metadata": {"f:annotations": {".": {}, "f:theirs": {}}},
                "f:spec": {"f:template": {"f:spec": {"f:containers": {
                    "k:{\"name\":\"gateway\"}": env,
                }}}},
            })
        };
        let env = json!({"f:env": {"k:{\"name\":\"X\"}": {".": {}, "f:name": {}}}});
        let mut with_image = env.clone();
        with_image["f:image"] = json!({});
        with_image["."] = json!({});
        with_image["f:ports"] = json!({
            "k:{\"containerPort\":5000,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}},
        });
        let found = claimed(
            &desired(),
            &live(json!([
                ours(),
                entry("kubectl-edit", "Update", theirs(with_image))
            ])),
        )
        .unwrap();
        assert_eq!(found.managers, ["kubectl-edit"]);
        assert_eq!(
            found.without,
            json!([ours(), entry("kubectl-edit", "Update", theirs(env))])
        );
        // It is done once.
        assert_eq!(claimed(&desired(), &live(found.without)), None);
    }

    #[test]
    fn a_second_manager_of_our_own_is_another_one() {
        let second = json!({"f:spec": {"f:template": {"f:spec": {"f:hostNetwork": {}}}}});
        let second = entry(names::MANAGED_BY, "Update", second);
        let found = claimed(&desired(), &live(json!([ours(), second]))).unwrap();
        assert_eq!(found.without, json!([ours()]));
        // Nothing is left of who owned all of it alone.
        let alone = entry(
            "kubectl",
            "Apply",
            json!({"f:metadata": {"f:labels": {"f:a": {}}}}),
        );
        let found = claimed(&desired(), &live(json!([alone]))).unwrap();
        assert_eq!(found.without, json!([{}]));
    }

    #[test]
    fn an_autoscaler_and_controllers_are_left_alone() {
        let mut scale = entry(
            "kube-controller-manager",
            "Update",
            json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:hostNetwork": {}}}}}),
        );
        scale["subresource"] = json!("scale");
        let revision = entry(
            "kube-controller-manager",
            "Update",
            json!({"f:metadata": {"f:annotations": {"f:deployment.kubernetes.io/revision": {}}}}),
        );
        assert_eq!(
            claimed(&desired(), &live(json!([ours(), scale, revision]))),
            None
        );
        assert_eq!(claimed(&desired(), &json!({"metadata": {}})), None);
    }

    #[test]
    fn what_is_ours_is_read_off_what_we_have_applied() {
        let live = live(json!([
            ours(),
            entry("kubectl", "Apply", json!({"f:data": {}}))
        ]));
        assert!(is_ours(&live, &["spec", "template", "spec", "hostNetwork"]));
        assert!(!is_ours(&live, &["spec", "replicas"]) && !is_ours(&live, &["data"]));
    }
}

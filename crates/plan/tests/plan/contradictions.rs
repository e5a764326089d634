//! What is refused, with which word and which sentence.

use holdfast_plan::{ChildKind, Contradiction, Decisions, Reason, budgets, desired, validate};
use serde_json::{Value, json};

use crate::support::{ENCRYPTED, SMALLEST, cluster, parse, resource, try_cluster};

fn set(path: &str, value: Value) -> Value {
    let mut resource = resource(SMALLEST);
    let mut place = &mut resource;
    for field in path.split('.') {
        place = &mut place[field];
    }
    *place = value;
    resource
}

fn refused(path: &str, value: Value) -> Vec<Contradiction> {
    try_cluster(&set(path, value)).err().unwrap_or_default()
}

#[test]
fn each_contradiction_has_a_word_and_says_what_to_change() {
    let long = "a".repeat(44);
    let table = [
        (
            "metadata.name",
            json!("a.b"),
            Reason::NameInvalid,
            "lower-case",
        ),
        (
            "metadata.name",
            json!(long),
            Reason::NameInvalid,
            "at most 37",
        ),
        (
            "metadata.name",
            json!("1a"),
            Reason::NameInvalid,
            "begins with a letter",
        ),
        ("metadata.name", json!("a-"), Reason::NameInvalid, "hyphen"),
        (
            "metadata.uid",
            Value::Null,
            Reason::MetadataIncomplete,
            "uid",
        ),
        (
            "metadata.namespace",
            Value::Null,
            Reason::MetadataIncomplete,
            "namespace",
        ),
        (
            "spec.image.tag",
            json!(""),
            Reason::TagMissing,
            "set spec.image.tag",
        ),
        (
            "spec.cache.managed",
            json!({"memory": "1Mi"}),
            Reason::CacheMemoryInvalid,
            "at least 16Mi",
        ),
        (
            "spec.cache.managed",
            json!({"memory": "much"}),
            Reason::CacheMemoryInvalid,
            "at least",
        ),
        (
            "spec.cache",
            json!({"type": "External"}),
            Reason::ExternalMissing,
            "spec.cache: set",
        ),
        (
            "spec.queue",
            json!({"type": "External"}),
            Reason::ExternalMissing,
            "spec.queue: set",
        ),
        (
            "spec.gateway",
            json!({"autoscale": {"max": 3}, "resources": {"limits": {"memory": "1Gi"}}}),
            Reason::AutoscaleNeedsCpuRequest,
            "set spec.gateway.resources.requests.cpu",
        ),
    ];
    for (path, value, reason, sentence) in table {
        let found = refused(path, value.clone());
        let [only] = found.as_slice() else {
            panic!("{path} {value}: {found:?}");
        };
        assert_eq!(only.reason, reason, "{path} {value}");
        assert!(only.to_string().contains(sentence), "{path}: {only}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let mut resource = set("spec.image.tag", json!(""));
    resource["metadata"]["name"] = "A".into();
    let reasons: Vec<_> = try_cluster(&resource).unwrap_err();
    let reasons: Vec<_> = reasons.iter().map(|wrong| wrong.reason).collect();
    assert_eq!(reasons, [Reason::NameInvalid, Reason::TagMissing]);
}

#[test]
fn pods_that_run_are_not_taken_to_tls_or_back_but_those_that_sleep_are() {
    let cases = [
        (SMALLEST, true, "set spec.tls.mode to what it was"),
        (ENCRYPTED, false, "set spec.tls.mode to Disabled"),
    ];
    for (yaml, encrypted, sentence) in cases {
        let resource = parse(&resource(yaml));
        let mut decisions = Decisions::at_rest(&resource.spec, "0.1.0".into());
        decisions.encrypted = Some(!encrypted);
        validate(&resource, decisions.clone()).unwrap();
        decisions.encrypted = Some(encrypted);
        let refused = validate(&resource, decisions.clone()).unwrap_err();
        assert_eq!(refused[0].reason, Reason::TlsModeChanges);
        assert!(refused[0].to_string().contains(sentence), "{}", refused[0]);
        decisions.hibernated = true;
        validate(&resource, decisions).unwrap();
    }
}

#[test]
fn a_pod_template_may_not_touch_what_is_ours() {
    let own = |field: &str, value: Value| json!({"spec": {"containers": [{"name": "node", field: value}]}});
    let table = [
        (own("command", json!(["sh"])), "command is the operator's"),
        (own("args", json!(["x"])), "args is the operator's"),
        (own("image", json!("x")), "image is the operator's"),
        (own("ports", json!([])), "ports is the operator's"),
        (
            own("livenessProbe", Value::Null),
            "livenessProbe is the operator's",
        ),
        (own("readinessProbe", json!({})), "readinessProbe is"),
        (own("startupProbe", json!({})), "startupProbe is"),
        (own("volumeMounts", json!([])), "volumeMounts is"),
        (own("lifecycle", json!({})), "lifecycle is"),
        (
            own("env", json!([{"name": "HOLDFAST_DATA", "value": "/"}])),
            "HOLDFAST_DATA is",
        ),
        (own("$patch", json!("delete")), "directives"),
        (own("env", Value::Null), "env cannot be null"),
        (json!({"spec": null}), "spec cannot be null"),
        (
            json!({"spec": {"containers": null}}),
            "spec.containers cannot be null",
        ),
        (
            json!({"spec": {"volumes": null}}),
            "spec.volumes cannot be null",
        ),
        (
            json!({"metadata": {"labels": null}}),
            "metadata.labels cannot be null",
        ),
        (
            json!({"spec": {"volumes": [{"name": "secrets", "emptyDir": {}}]}}),
            "secrets is",
        ),
        (
            json!({"spec": {"volumes": [{"name": "data-0", "emptyDir": {}}]}}),
            "data-0 is",
        ),
        (
            json!({"spec": {"serviceAccountName": "x"}}),
            "serviceAccountName is",
        ),
        (json!({"spec": {"subdomain": null}}), "subdomain is"),
        (
            json!({"spec": {"initContainers": [{"name": "node"}]}}),
            "name of the operator's container",
        ),
        (json!({"spec": {"containers": [{"image": "x"}]}}), "no name"),
        (json!({"spec": {"priority": "high"}}), "no pod template"),
        (
            json!({"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}),
            "name is the operator's",
        ),
        (
            json!({"metadata": {"annotations": {"holdfast.dev/config-hash": "x"}}}),
            "config-hash is",
        ),
        (
            json!({"metadata": {"name": "x"}}),
            "only labels and annotations",
        ),
        (json!({"status": {}}), "metadata and spec alone"),
    ];
    for (template, sentence) in table {
        let found = refused("spec.nodes.podTemplate", template.clone());
        assert_eq!(found.len(), 1, "{template}: {found:?}");
        assert_eq!(found[0].reason, Reason::PodTemplateRefused);
        assert!(found[0].sentence.contains(sentence), "{}", found[0]);
        assert!(found[0].sentence.contains("spec.nodes.podTemplate"));
    }
}

#[test]
fn each_part_guards_its_own_container() {
    for (part, container) in [
        ("nodes", "node"),
        ("gateway", "gateway"),
        ("worker", "worker"),
    ] {
        let path = format!("spec.{part}.podTemplate");
        let named = |name: &str| json!({"spec": {"containers": [{"name": name, "image": "x"}]}});
        assert_eq!(refused(&path, named(container)).len(), 1, "{part}");
        assert!(refused(&path, named("side")).is_empty(), "{part}");
    }
}

#[test]
fn what_runs_is_guarded_also_while_the_resource_contradicts_itself() {
    let guards = |resource: &Value, disruptions: u32| {
        let resource = parse(resource);
        let decisions = Decisions {
            storage_disruptions: disruptions,
            ..Decisions::at_rest(&resource.spec, "0.1.0".into())
        };
        budgets(&resource, decisions)
    };
    let wrong = set("spec.image.tag", json!(""));
    assert!(try_cluster(&wrong).is_err());
    let held = guards(&wrong, 0);
    assert_eq!(held.len(), 2);
    assert_eq!(held[0].object["spec"]["maxUnavailable"], json!(0));
    // The same objects as those that are planned: neither undoes the other.
    let whole = resource(SMALLEST);
    let planned = desired(&cluster(&whole)).children.into_iter();
    let planned: Vec<_> = planned
        .filter(|child| child.kind == ChildKind::PodDisruptionBudget)
        .collect();
    assert_eq!(guards(&whole, 1), planned);
    assert_eq!(guards(&set("metadata.name", json!("a.b")), 0), []);
}

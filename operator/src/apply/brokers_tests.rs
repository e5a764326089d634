use serde_json::json;

use super::*;

const OLD: &str = "demo-rabbitmq";
const NEW: &str = "demo-rabbitmq-3f2a1";

fn metadata(name: &str) -> Value {
    json!({"name": name, "generation": 1, "labels": {names::COMPONENT_LABEL: "rabbitmq"}})
}

fn set(name: &str, replicas: u32, ready: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(name),
        "spec": {"replicas": replicas},
        "status": {
            "observedGeneration": 1,
            "readyReplicas": ready,
            "updateRevision": "one",
            "currentRevision": "one",
        },
    })
}

fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name), "data": {}})
}

fn service(set: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata("demo-rabbitmq"),
        "spec": {"selector": {LABEL: set}},
    })
}

fn kind_of(object: &Value) -> ChildKind {
    match object["kind"].as_str() {
        Some("StatefulSet") => ChildKind::StatefulSet,
        Some("ConfigMap") => ChildKind::ConfigMap,
        _ => ChildKind::Service,
    }
}

fn live(objects: &[Value]) -> Children {
    let read = |object: &Value| {
        let read: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        ((kind_of(object), read.name_any()), read)
    };
    objects.iter().map(read).collect()
}

fn wanted(set_name: &str, replicas: u32) -> DesiredState {
    let objects = [
        config(set_name),
        service(set_name),
        set(set_name, replicas, 0),
    ];
    let children = objects.into_iter().map(|object| Child {
        kind: kind_of(&object),
        name: object["metadata"]["name"].as_str().unwrap().to_owned(),
        object,
    });
    DesiredState {
        children: children.collect(),
    }
}

/// What is decided, whom the Service names after it, and how many objects are made.
fn decide(there: &Children, replicas: u32, exchanged: bool) -> (Handover, String, usize) {
    let mut desired = wanted(NEW, replicas);
    let handover = hold_back("demo", there, &mut desired, exchanged);
    let named = desired.children.iter().find_map(|child| {
        let selector = child.object.pointer(SELECTOR)?;
        Some(selector[LABEL].as_str().unwrap().to_owned())
    });
    (handover, named.unwrap(), desired.children.len())
}

fn stays(begins: bool) -> Handover {
    Handover {
        stays: Some(OLD.into()),
        begins: begins.then(|| NEW.into()),
    }
}

#[test]
fn those_that_serve_do_so_until_all_of_the_others_are_ready() {
    let old = [config(OLD), service(OLD), set(OLD, 1, 1)];
    let with = |new: Value| live(&[&old[..], &[config(NEW), new]].concat());
    assert_eq!(
        decide(&live(&old), 3, false),
        (stays(true), OLD.into(), 3),
        "it begins"
    );
    for not_yet in [set(NEW, 3, 0), set(NEW, 3, 2)] {
        let there = with(not_yet);
        assert_eq!(decide(&there, 3, false), (stays(false), OLD.into(), 3));
    }
    let mut unseen = set(NEW, 3, 3);
    unseen["metadata"]["generation"] = json!(2);
    assert_eq!(decide(&with(unseen), 3, false).1, OLD);
    let mut going = set(NEW, 3, 3);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(decide(&with(going), 3, false).1, OLD);
    // In the round in which the Service goes over, the old ones are still there.
    let ready = with(set(NEW, 3, 3));
    assert_eq!(decide(&ready, 3, false), (stays(false), NEW.into(), 3));
    let kept = stays(false);
    assert!(kept.keeps(ChildKind::StatefulSet, OLD) && kept.keeps(ChildKind::ConfigMap, OLD));
    assert!(!kept.keeps(ChildKind::StatefulSet, NEW));
    // After it nothing holds them.
    let after = live(&[
        config(OLD),
        set(OLD, 1, 1),
        service(NEW),
        config(NEW),
        set(NEW, 3, 3),
    ]);
    assert_eq!(
        decide(&after, 3, false),
        (Handover::default(), NEW.into(), 3)
    );
}

#[test]
fn nobody_waits_for_those_that_sleep_or_where_none_serve() {
    let asleep = live(&[service(OLD), set(OLD, 0, 0)]);
    assert_eq!(
        decide(&asleep, 0, false),
        (Handover::default(), NEW.into(), 3)
    );
    for there in [live(&[]), live(&[service(OLD)]), live(&[set(OLD, 1, 1)])] {
        assert_eq!(
            decide(&there, 3, false),
            (Handover::default(), NEW.into(), 3)
        );
    }
}

#[test]
fn none_start_while_their_login_is_exchanged() {
    let old = [config(OLD), service(OLD), set(OLD, 1, 1)];
    assert_eq!(
        decide(&live(&old), 3, true),
        (stays(false), OLD.into(), 1),
        "the Service alone is applied, as it is"
    );
    // Those that have started go on: the login waits for them.
    let both = live(&[&old[..], &[set(NEW, 3, 1)]].concat());
    assert_eq!(decide(&both, 3, true), (stays(false), OLD.into(), 3));
    assert!(are_changing(&both) && !are_changing(&live(&old)));
}

#[test]
fn a_set_is_made_again_when_the_one_of_its_name_and_its_claims_are_gone() {
    let claim = |name: &str, owner: Option<&str>| -> PersistentVolumeClaim {
        let owner = owner.map(|uid| {
            json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x", "uid": uid}])
        });
        let metadata = json!({"name": name, "ownerReferences": owner});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    };
    let desired = wanted(NEW, 3);
    let child = desired.children.last().unwrap();
    let own = format!("data-{NEW}-0");
    let going = [claim(&own, Some("u"))];
    assert!(must_wait(child, None, &going));
    let mut deleted = claim(&own, None);
    deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z"))
        .map(Some)
        .unwrap();
    assert!(must_wait(child, None, &[deleted]));
    // Of a set that is there they are what it has.
    let there = live(&[set(NEW, 3, 3)]);
    assert!(!must_wait(child, there.values().next(), &going));
    let mut ending = set(NEW, 3, 3);
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let ending = live(&[ending]);
    assert!(must_wait(child, ending.values().next(), &[]));
    // Nobody's, and another set's.
    let others = [
        claim(&own, None),
        claim(&format!("data-{OLD}-0"), Some("u")),
    ];
    assert!(!must_wait(child, None, &others));
    let service = &desired.children[1];
    assert!(!must_wait(service, None, &going), "it is no set");
}

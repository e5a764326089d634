//! How one queue or cache takes the place of another: the new one is ready, then
//! gateways and workers change over, then the old one goes. What the old one held
//! is given again by the outboxes of the groups.
//!
//! Read off the objects that are there, so that any operator goes on with it.

use std::collections::BTreeMap;

use holdfast_plan::{Child, ChildKind, DesiredState, names};
use kube::ResourceExt;
use kube::api::DynamicObject;
use names::Component;
use serde_json::Value;

use crate::workloads::{CONTAINERS, is_rolled_out};

/// What may be another's, the kind of its workload, and the variable by which
/// gateways and workers find it.
const PARTS: [(Component, ChildKind, &str); 2] = [
    (Component::Rabbitmq, ChildKind::StatefulSet, "RABBITMQ_URL"),
    (Component::Redis, ChildKind::Deployment, "REDIS_URL"),
];
/// Who finds it.
const USERS: [Component; 2] = [Component::Gateway, Component::Worker];

/// The objects that are there, by kind and name.
pub(super) type Children = BTreeMap<(ChildKind, String), DynamicObject>;

/// Leaves gateways and workers with the address that they have until what they
/// are to change over to is ready, and notes who waits for that. Answers the parts
/// of which nothing may be pruned yet, since somebody still has their address.
pub(super) fn hold_back(
    name: &str,
    live: &Children,
    desired: &mut DesiredState,
    held: &mut Vec<String>,
) -> Vec<Component> {
    let mut kept = Vec::new();
    for (part, kind, variable) in PARTS {
        let wanted = find(desired, part, kind);
        // Brokers of another shape have another name.
        let there = match wanted {
            Some(wanted) => live.get(&(kind, wanted.name.clone())),
            None => {
                let mut all = live.iter().filter(|((one, _), _)| *one == kind);
                all.find_map(|(_, object)| is_of(object, &[part]).then_some(object))
            }
        };
        match wanted.map(|wanted| is_asleep(&wanted.object)) {
            Some(true) => {}
            Some(false) if there.is_some_and(is_ready) => {}
            Some(false) => {
                for user in USERS {
                    if keep_variable(name, user, variable, live, desired) {
                        held.push(names::workload(name, user));
                    }
                }
            }
            None if there.is_none() => {}
            None => {
                let mut users = USERS.iter();
                if !users.all(|user| has_changed_over(name, *user, variable, live, desired)) {
                    kept.push(part);
                }
            }
        }
    }
    kept
}

/// Whether the object is of one of these parts.
pub(super) fn is_of(object: &DynamicObject, parts: &[Component]) -> bool {
    let component = object.labels().get(names::COMPONENT_LABEL);
    component.is_some_and(|component| parts.iter().any(|part| part.as_str() == component))
}

/// The workload of a part, which is to be there.
pub(super) fn find(desired: &DesiredState, part: Component, kind: ChildKind) -> Option<&Child> {
    let mut children = desired.children.iter();
    children.find(|child| is_workload(child, part, kind))
}

/// Whether an object is the workload of a part.
pub(super) fn is_workload(child: &Child, part: Component, kind: ChildKind) -> bool {
    let labels = child.object.pointer("/metadata/labels");
    let label = labels.and_then(|labels| labels.get(names::COMPONENT_LABEL)?.as_str());
    child.kind == kind && label == Some(part.as_str())
}

fn number(object: &Value, path: &str) -> Option<i64> {
    object.pointer(path).and_then(Value::as_i64)
}

/// Hibernated: nothing is going to be ready, and nobody waits for it.
pub(super) fn is_asleep(workload: &Value) -> bool {
    number(workload, "/spec/replicas") == Some(0)
}

fn is_ready(workload: &DynamicObject) -> bool {
    number(&workload.data, "/status/readyReplicas").is_some_and(|ready| ready > 0)
}

fn user_key(name: &str, user: Component) -> (ChildKind, String) {
    (ChildKind::Deployment, names::workload(name, user))
}

/// Whether every pod of a user has the address that it is to have.
fn has_changed_over(
    name: &str,
    user: Component,
    variable: &str,
    live: &Children,
    desired: &DesiredState,
) -> bool {
    let key = user_key(name, user);
    let Some(there) = live.get(&key) else {
        return true;
    };
    let there = whole(there);
    let wanted = find(desired, user, key.0).map(|child| &child.object);
    wanted.is_some_and(|wanted| entry(wanted, variable) == entry(&there, variable))
        && is_rolled_out(&there)
}

fn whole(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn entry<'w>(workload: &'w Value, variable: &str) -> Option<&'w Value> {
    let containers = workload.pointer(CONTAINERS).and_then(Value::as_array)?;
    let mut entries = containers
        .iter()
        .filter_map(|container| container.get("env")?.as_array())
        .flatten();
    entries.find(|entry| entry.get("name").and_then(Value::as_str) == Some(variable))
}

/// Leaves a user with the address that it has. Says whether it is to have another.
fn keep_variable(
    name: &str,
    user: Component,
    variable: &str,
    live: &Children,
    desired: &mut DesiredState,
) -> bool {
    let (kind, workload) = user_key(name, user);
    let Some(there) = live.get(&(kind, workload.clone())) else {
        return false;
    };
    let there = whole(there);
    let Some(kept) = entry(&there, variable) else {
        return false;
    };
    let mut differs = false;
    let mut children = desired.children.iter_mut();
    let child = children.find(|child| child.kind == kind && child.name == workload);
    let containers = child.and_then(|child| child.object.pointer_mut(CONTAINERS));
    let entries = containers
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(|container| container.get_mut("env")?.as_array_mut())
        .flatten();
    for entry in entries {
        if entry.get("name") == kept.get("name") {
            differs |= entry != kept;
            *entry = kept.clone();
        }
    }
    differs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(part: Component, url: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": names::workload("demo", part),
                "generation": 1,
                "labels": {names::COMPONENT_LABEL: part.as_str()},
            },
            "spec": {"replicas": 2, "template": {"spec": {"containers": [
                {"name": part.as_str(), "env": [{"name": "A", "value": "b"}, url]},
            ]}}},
            "status": {"observedGeneration": 1, "updatedReplicas": 2, "replicas": 2},
        })
    }

    fn brokers(ready: u32) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "demo-rabbitmq", "labels": {names::COMPONENT_LABEL: "rabbitmq"}},
            "spec": {"replicas": 1},
            "status": {"readyReplicas": ready},
        })
    }

    fn ours() -> Value {
        json!({"name": "RABBITMQ_URL", "value": "amqp://ours"})
    }

    fn theirs() -> Value {
        json!({"name": "RABBITMQ_URL", "valueFrom": {"secretKeyRef": {"name": "mq"}}})
    }

    fn kind_of(object: &Value) -> ChildKind {
        match object["kind"].as_str() {
            Some("StatefulSet") => ChildKind::StatefulSet,
            _ => ChildKind::Deployment,
        }
    }

    fn live(objects: &[Value]) -> Children {
        let named = objects.iter().map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let object = serde_json::from_value(object.clone()).unwrap();
            (name, object)
        });
        objects
            .iter()
            .zip(named)
            .map(|(object, (name, read))| ((kind_of(object), name), read))
            .collect()
    }

    fn desired(objects: &[Value]) -> DesiredState {
        let children = objects.iter().map(|object| Child {
            kind: kind_of(object),
            name: object["metadata"]["name"].as_str().unwrap().to_owned(),
            object: object.clone(),
        });
        DesiredState {
            children: children.collect(),
        }
    }

    fn hold(live: &Children, desired: &mut DesiredState) -> (Vec<Component>, usize) {
        let mut held = Vec::new();
        let kept = hold_back("demo", live, desired, &mut held);
        (kept, held.len())
    }

    fn addresses(desired: &DesiredState) -> Vec<Value> {
        let all = desired.children.iter();
        all.filter_map(|child| entry(&child.object, "RABBITMQ_URL").cloned())
            .collect()
    }

    #[test]
    fn users_keep_their_queue_until_the_new_one_is_ready() {
        let there = |ready: Option<u32>| {
            let mut objects = vec![
                user(Component::Gateway, &theirs()),
                user(Component::Worker, &theirs()),
            ];
            objects.extend(ready.map(brokers));
            live(&objects)
        };
        let wanted = || {
            desired(&[
                user(Component::Gateway, &ours()),
                user(Component::Worker, &ours()),
                brokers(0),
            ])
        };
        for not_yet in [None, Some(0)] {
            let mut desired = wanted();
            assert_eq!(hold(&there(not_yet), &mut desired), (vec![], 2));
            assert_eq!(addresses(&desired), [theirs(), theirs()]);
        }
        let mut ready = wanted();
        assert_eq!(hold(&there(Some(1)), &mut ready), (vec![], 0));
        assert_eq!(addresses(&ready), [ours(), ours()]);
        // A cluster that is made has nothing to keep.
        let mut new = wanted();
        assert_eq!(hold(&live(&[]), &mut new), (vec![], 0));
        assert_eq!(addresses(&new), [ours(), ours()]);
    }

    #[test]
    fn the_old_queue_stays_until_every_pod_has_left_it() {
        let mut wanted = desired(&[
            user(Component::Gateway, &theirs()),
            user(Component::Worker, &theirs()),
        ]);
        let mut on_its_way = user(Component::Worker, &theirs());
        on_its_way["status"]["updatedReplicas"] = json!(1);
        for worker in [user(Component::Worker, &ours()), on_its_way] {
            let there = live(&[user(Component::Gateway, &theirs()), worker, brokers(1)]);
            assert_eq!(hold(&there, &mut wanted), (vec![Component::Rabbitmq], 0));
        }
        let there = live(&[
            user(Component::Gateway, &theirs()),
            user(Component::Worker, &theirs()),
            brokers(1),
        ]);
        assert_eq!(hold(&there, &mut wanted), (vec![], 0));
        assert_eq!(addresses(&wanted), [theirs(), theirs()]);
    }

    #[test]
    fn what_is_kept_is_told_by_its_label() {
        let there = live(&[user(Component::Gateway, &ours()), brokers(1)]);
        let mut kept = there
            .values()
            .filter(|object| is_of(object, &[Component::Rabbitmq]));
        assert_eq!(kept.next().unwrap().name_any(), "demo-rabbitmq");
        assert!(kept.next().is_none());
    }
}

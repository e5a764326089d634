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
/// The lists of a container into which others may have put something, and what
/// names their items.
const CONTAINER_PARTS: [(&str, &str); 3] = [
    ("env", "name"),
    ("volumeMounts", "mountPath"),
    ("ports", "containerPort"),
];

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

/// What somebody else has put into `live` beside ours: containers, init
/// containers, volumes, parts of our own containers, ports of a Service.
/// Server-side apply leaves such things alone, since another owns them.
pub fn foreign_parts(desired: &Value, live: &Value) -> Vec<String> {
    let mut foreign = foreign_ports(desired, live);
    let (Some(desired), Some(live)) = (desired.pointer(POD), live.pointer(POD)) else {
        return foreign;
    };
    for part in PARTS {
        foreign.extend(extra(desired, live, part, "name"));
    }
    let containers = |pod: &Value| items(pod, "containers").to_vec();
    for ours in containers(desired) {
        let name = ours.get("name");
        let theirs = containers(live)
            .into_iter()
            .find(|container| container.get("name") == name);
        for (part, key) in CONTAINER_PARTS {
            foreign.extend(theirs.iter().flat_map(|one| extra(&ours, one, part, key)));
        }
    }
    foreign
}

/// Where the pod of a workload is.
const POD: &str = "/spec/template/spec";
/// Where the ports of a Service are.
const PORTS: &str = "/spec/ports";

fn items<'v>(value: &'v Value, part: &str) -> &'v [Value] {
    let list = value.get(part).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// Items of a list that ours does not have, by what names them.
fn extra(ours: &Value, theirs: &Value, part: &str, key: &str) -> Vec<String> {
    let named = |item: &Value| item.get(key).map(plain);
    let own: Vec<_> = items(ours, part).iter().filter_map(named).collect();
    items(theirs, part)
        .iter()
        .filter_map(named)
        .filter(|name| !own.contains(name))
        .map(|name| format!("{part} {name}"))
        .collect()
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn foreign_ports(desired: &Value, live: &Value) -> Vec<String> {
    match (desired.pointer(PORTS), live.pointer(PORTS)) {
        (Some(_), Some(_)) => extra(
            desired.get("spec").unwrap_or(&Value::Null),
            live.get("spec").unwrap_or(&Value::Null),
            "ports",
            "port",
        ),
        _ => Vec::new(),
    }
}

/// A merge patch that leaves only our own parts: of a pod just as they are there,
/// so that it takes away and changes nothing, and whoever writes it comes to own
/// nothing. What they should be is applied.
pub fn own_parts(desired: &Value, live: &Value) -> Value {
    if desired.pointer(PORTS).is_some() {
        let ports: Vec<Value> = desired
            .get("spec")
            .map_or(&[][..], |spec| items(spec, "ports"))
            .iter()
            .map(|port| with_node_port(port, live))
            .collect();
        return serde_json::json!({ "spec": { "ports": ports } });
    }
    let (Some(desired), Some(live)) = (desired.pointer(POD), live.pointer(POD)) else {
        return serde_json::json!({});
    };
    let parts = PARTS.iter().map(|part| {
        let mut own = own_items(desired, live, part, "name");
        if *part == "containers" {
            for container in &mut own {
                leave_own(desired, container);
            }
        }
        let own = match own.is_empty() {
            true => Value::Null,
            false => Value::Array(own),
        };
        ((*part).to_owned(), own)
    });
    let parts: Map<String, Value> = parts.collect();
    serde_json::json!({ "spec": { "template": { "spec": parts } } })
}

/// Items of a live list that ours has as well, by what names them.
fn own_items(ours: &Value, theirs: &Value, part: &str, key: &str) -> Vec<Value> {
    let own: Vec<_> = items(ours, part)
        .iter()
        .filter_map(|item| item.get(key))
        .collect();
    let live = items(theirs, part).iter();
    live.filter(|item| item.get(key).is_some_and(|name| own.contains(&name)))
        .cloned()
        .collect()
}

/// Takes out of a live container of ours what others have put into it.
fn leave_own(desired: &Value, container: &mut Value) {
    let name = container.get("name").cloned();
    let mut all = items(desired, "containers").iter();
    let Some(ours) = all.find(|one| one.get("name") == name.as_ref()) else {
        return;
    };
    for (part, key) in CONTAINER_PARTS {
        let own = own_items(ours, container, part, key);
        if let Some(list) = container.get_mut(part) {
            *list = Value::Array(own);
        }
    }
}

/// A port that machines have opened for a Service stays the same one.
fn with_node_port(port: &Value, live: &Value) -> Value {
    let mut port = port.clone();
    let spec = live.get("spec").unwrap_or(&Value::Null);
    let same = items(spec, "ports")
        .iter()
        .find(|one| one.get("name") == port.get("name"));
    let opened = same.and_then(|one| one.get("nodePort")).cloned();
    if let (Some(fields), Some(opened)) = (port.as_object_mut(), opened) {
        fields.entry("nodePort").or_insert(opened);
    }
    port
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
        let live = json!({"limits": {"memory": "2Gi"}, "image": "1024Mi"});
        assert_eq!(
            first_difference(&desired, &live).as_deref(),
            Some(".limits.memory")
        );
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
        assert_eq!(foreign_parts(&desired, &live), ["containers miner"]);
        assert_eq!(
            own_parts(&desired, &live).pointer("/spec/template/spec/containers"),
            Some(&json!([{"name": "node"}]))
        );
    }

    #[test]
    fn what_is_taken_out_changes_nothing_of_what_stays() {
        let pod = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
        let desired = pod(json!({
            "containers": [{"name": "node", "image": "ours", "env": [{"name": "A", "value": "1"}]}],
            "volumes": [{"name": "tmp"}],
        }));
        let live = pod(json!({
            "initContainers": [{"name": "before"}],
            "containers": [
                {"name": "node", "image": "theirs", "imagePullPolicy": "Always", "env": [
                    {"name": "A", "value": "2"}, {"name": "LD_PRELOAD", "value": "x"},
                ]},
                {"name": "miner"},
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "loot"}],
        }));
        assert_eq!(foreign_parts(&desired, &live).len(), 4);
        // Another image is put right by who applies, not by this.
        let left = json!({
            "initContainers": null,
            "containers": [{"name": "node", "image": "theirs", "imagePullPolicy": "Always",
                "env": [{"name": "A", "value": "2"}]}],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        });
        assert_eq!(own_parts(&desired, &live), pod(left));
    }

    #[test]
    fn what_others_put_into_our_own_container_is_found() {
        let pod = |env: Value| json!({"spec": {"template": {"spec": {"containers": [{"name": "node", "env": env}]}}}});
        let desired = pod(json!([{"name": "A", "value": "1"}]));
        let live = pod(json!([{"name": "A", "value": "1"}, {"name": "LD_PRELOAD", "value": "x"}]));
        assert_eq!(foreign_parts(&desired, &live), ["env LD_PRELOAD"]);
        assert_eq!(foreign_parts(&desired, &desired), Vec::<String>::new());
    }

    #[test]
    fn a_services_ports_are_ours_alone_and_keep_what_machines_have_opened() {
        let desired = json!({"spec": {"ports": [{"name": "http", "port": 5000}]}});
        let live = json!({"spec": {"ports": [{"name": "http", "port": 5999, "nodePort": 30100}]}});
        assert_eq!(foreign_parts(&desired, &live), ["ports 5999"]);
        assert_eq!(
            own_parts(&desired, &live),
            json!({"spec": {"ports": [{"name": "http", "port": 5000, "nodePort": 30100}]}})
        );
    }
}

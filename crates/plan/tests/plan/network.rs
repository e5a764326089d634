//! The policies as an evaluator understands them, against the table.

use std::collections::BTreeMap;

use holdfast_plan::names::{self, Component};
use holdfast_plan::network::{Allowed, Peer, connections};
use holdfast_plan::{ChildKind, DesiredState};
use serde_json::Value;

use crate::support::{ENCRYPTED, EXTERNAL, SMALLEST, parse, plan, resource};

/// Who might connect.
#[derive(Debug)]
struct Pod {
    what: &'static str,
    namespace: &'static str,
    labels: BTreeMap<String, String>,
    component: Option<Component>,
}

fn part(component: Component) -> Pod {
    Pod {
        what: component.as_str(),
        namespace: "files",
        labels: names::labels("demo", component),
        component: Some(component),
    }
}

fn other(what: &'static str, namespace: &'static str, labels: BTreeMap<String, String>) -> Pod {
    Pod {
        what,
        namespace,
        labels,
        component: None,
    }
}

fn pods() -> Vec<Pod> {
    let mut pods: Vec<Pod> = Component::WITH_PODS.into_iter().map(part).collect();
    let operator = BTreeMap::from([(names::NAME_LABEL.into(), names::OPERATOR.into())]);
    pods.push(other("operator", "holdfast-system", operator));
    pods.push(other("stranger", "elsewhere", BTreeMap::new()));
    pods.push(other("neighbour", "files", BTreeMap::new()));
    let node = Component::Node;
    pods.push(other(
        "a node of the same name elsewhere",
        "elsewhere",
        names::labels("demo", node),
    ));
    pods.push(other(
        "a node of another cluster",
        "files",
        names::labels("other", node),
    ));
    pods
}

fn table(yaml: &str) -> Vec<Allowed> {
    connections(&parse(&resource(yaml)).spec)
}

/// What the table says of a connection from `pod`, or from outside.
fn expected(table: &[Allowed], pod: Option<&Pod>, to: Component, port: u16) -> bool {
    table.iter().any(|allowed| {
        allowed.to == to
            && allowed.port == port
            && match (allowed.from, pod) {
                (Peer::Anywhere, _) => true,
                (Peer::AnyPod, pod) => pod.is_some(),
                (Peer::Operator, pod) => pod.is_some_and(|pod| pod.what == "operator"),
                (Peer::Part(part), pod) => pod.is_some_and(|pod| pod.component == Some(part)),
            }
    })
}

fn matches(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    assert!(
        selector.get("matchExpressions").is_none(),
        "not understood here"
    );
    let wanted = selector["matchLabels"].as_object();
    wanted
        .into_iter()
        .flatten()
        .all(|(name, value)| labels.get(name).is_some_and(|found| found == value))
}

/// What the policies of namespace `files` say, as Kubernetes defines them: a pod
/// that no policy selects is open, else one rule must allow.
fn evaluated(state: &DesiredState, pod: Option<&Pod>, to: &Pod, port: u16) -> bool {
    let policies: Vec<&Value> = state
        .children
        .iter()
        .filter(|child| child.kind == ChildKind::NetworkPolicy)
        .map(|child| &child.object["spec"])
        .filter(|spec| matches(&spec["podSelector"], &to.labels))
        .collect();
    policies.is_empty()
        || policies.iter().any(|spec| {
            spec["ingress"].as_array().unwrap().iter().any(|rule| {
                let ports = rule["ports"].as_array().unwrap();
                ports
                    .iter()
                    .any(|open| open["port"] == port && open["protocol"] == "TCP")
                    && rule.get("from").is_none_or(|from| {
                        from.as_array()
                            .unwrap()
                            .iter()
                            .any(|peer| admits(peer, pod))
                    })
            })
        })
}

fn admits(peer: &Value, pod: Option<&Pod>) -> bool {
    let Some(pod) = pod else { return false };
    let there = match peer.get("namespaceSelector") {
        // Namespaces have no labels here: only the empty selector takes them.
        Some(selector) => matches(selector, &BTreeMap::new()),
        None => pod.namespace == "files",
    };
    there
        && peer
            .get("podSelector")
            .is_none_or(|selector| matches(selector, &pod.labels))
}

#[test]
fn the_policies_allow_what_the_table_says_and_nothing_else() {
    let ports = [
        5000, 8000, 9090, 5671, 5672, 15671, 15672, 4369, 25672, 6379, 22, 9000,
    ];
    for yaml in [SMALLEST, ENCRYPTED] {
        let (state, table) = (plan(yaml), table(yaml));
        let (mut open, mut closed) = (0, 0);
        for to in Component::WITH_PODS.into_iter().map(part) {
            for port in ports {
                for pod in pods().iter().map(Some).chain([None]) {
                    let expected = expected(&table, pod, to.component.unwrap(), port);
                    let evaluated = evaluated(&state, pod, &to, port);
                    assert_eq!(evaluated, expected, "{pod:?} to {} on {port}", to.what);
                    *if expected { &mut open } else { &mut closed } += 1;
                }
            }
        }
        assert!(open > 50 && closed > 400, "{open} {closed}");
    }
}

#[test]
fn the_table_closes_what_must_be_closed() {
    use Component::{Gateway, Node, Rabbitmq, Redis};
    let pods = pods();
    let pod = |what: &str| pods.iter().find(|pod| pod.what == what);
    let cases = [
        ("stranger", Node, 8000, false),
        ("neighbour", Node, 8000, false),
        ("a node of the same name elsewhere", Node, 8000, false),
        ("a node of another cluster", Node, 8000, false),
        ("operator", Node, 8000, true),
        ("stranger", Gateway, 5000, true),
        ("stranger", Node, 9090, true),
        ("node", Redis, 6379, false),
        ("gateway", Rabbitmq, 15672, false),
        ("gateway", Rabbitmq, 15671, false),
    ];
    let (plain, encrypted) = (table(SMALLEST), table(ENCRYPTED));
    for table in [&plain, &encrypted] {
        for (from, to, port, allowed) in cases {
            assert_eq!(
                expected(table, pod(from), to, port),
                allowed,
                "{from} to {to:?} {port}"
            );
        }
        assert!(expected(table, None, Gateway, 5000));
        assert!(!expected(table, None, Node, 9090));
    }
    let differs = [
        ("gateway", Rabbitmq, 5672, 5671),
        ("worker", Rabbitmq, 5672, 5671),
        ("operator", Rabbitmq, 15672, 15671),
    ];
    for (from, to, in_plain, with_tls) in differs {
        assert!(
            expected(&plain, pod(from), to, in_plain),
            "{from} {in_plain}"
        );
        assert!(
            !expected(&plain, pod(from), to, with_tls),
            "{from} {with_tls}"
        );
        assert!(
            !expected(&encrypted, pod(from), to, in_plain),
            "{from} {in_plain}"
        );
        assert!(
            expected(&encrypted, pod(from), to, with_tls),
            "{from} {with_tls}"
        );
    }
    // The operator asks the cache which passwords it takes.
    assert!(expected(&plain, pod("operator"), Redis, 6379));
    assert!(expected(&encrypted, pod("operator"), Redis, 6379));
}

#[test]
fn what_does_not_run_has_no_policy() {
    let state = plan(EXTERNAL);
    let policies = state
        .children
        .iter()
        .filter(|child| child.kind == ChildKind::NetworkPolicy);
    let names: Vec<&str> = policies.map(|child| child.name.as_str()).collect();
    assert_eq!(names, ["demo-node", "demo-gateway", "demo-worker"]);
}

//! Who may connect to whom: one table, from which the policies are rendered and
//! against which tests check them.
//!
//! Every part is closed but for what the table names. Only what comes in is
//! ruled: where pods go (DNS, an external queue) differs from place to place.
//! A port that is not in the table is closed, whoever asks.

use holdfast_crd::{CacheType, QueueType, StorageClusterSpec};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};
use crate::object::child;
use crate::tls;

/// Who connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Anybody, from outside of Kubernetes too.
    Anywhere,
    /// Any pod of any namespace.
    AnyPod,
    /// The operator, in whichever namespace it is.
    Operator,
    /// A part of the same cluster.
    Part(Component),
}

/// A connection that is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// Who connects.
    pub from: Peer,
    /// To what.
    pub to: Component,
    /// On which port.
    pub port: u16,
}

const fn allowed(from: Peer, to: Component, port: u16) -> Allowed {
    Allowed { from, to, port }
}

/// All connections that are allowed. Where TLS is on, what has a port of its own
/// for it is called there alone.
pub fn connections(spec: &StorageClusterSpec) -> Vec<Allowed> {
    use Component::{Gateway, Node, Rabbitmq, Redis, Worker};
    use Peer::{AnyPod, Anywhere, Operator, Part};
    let encrypted = tls::is_on(spec);
    let amqp = names::amqp_port(encrypted);
    vec![
        allowed(Anywhere, Gateway, names::GATEWAY_PORT),
        allowed(AnyPod, Gateway, names::METRICS_PORT),
        allowed(AnyPod, Node, names::METRICS_PORT),
        allowed(AnyPod, Worker, names::METRICS_PORT),
        allowed(Part(Node), Node, names::NODE_PORT),
        allowed(Part(Gateway), Node, names::NODE_PORT),
        allowed(Part(Worker), Node, names::NODE_PORT),
        allowed(Operator, Node, names::NODE_PORT),
        allowed(Part(Gateway), Rabbitmq, amqp),
        allowed(Part(Worker), Rabbitmq, amqp),
        // Users are changed there, and the queue's length is read.
        allowed(
            Operator,
            Rabbitmq,
            names::rabbitmq_management_port(encrypted),
        ),
        allowed(Part(Rabbitmq), Rabbitmq, names::EPMD_PORT),
        allowed(Part(Rabbitmq), Rabbitmq, names::RABBITMQ_CLUSTER_PORT),
        allowed(Part(Gateway), Redis, names::REDIS_PORT),
        allowed(Part(Worker), Redis, names::REDIS_PORT),
        // It looks at the certificate there, and whether a password is taken.
        allowed(Operator, Redis, names::REDIS_PORT),
    ]
}

/// A policy for each part that runs.
pub(crate) fn build_policies(cluster: &Cluster) -> Vec<Child> {
    Component::WITH_PODS
        .into_iter()
        .filter(|component| runs(cluster, *component))
        .map(|component| build_policy(cluster, component))
        .collect()
}

/// Whether a part is run by the operator.
fn runs(cluster: &Cluster, component: Component) -> bool {
    match component {
        Component::Rabbitmq => cluster.spec.queue.kind == QueueType::Managed,
        Component::Redis => cluster.spec.cache.kind == CacheType::Managed,
        _ => true,
    }
}

fn build_policy(cluster: &Cluster, component: Component) -> Child {
    let all = connections(&cluster.spec);
    let to_here = all.iter().filter(|allowed| allowed.to == component);
    let mut ports: Vec<u16> = to_here.clone().map(|allowed| allowed.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let rule = |port: &u16| {
        let peers = to_here.clone().filter(|allowed| allowed.port == *port);
        let peers: Vec<Option<Value>> = peers.map(|allowed| peer(cluster, allowed.from)).collect();
        json!({
            // Without peers a rule is for everybody.
            "from": peers.into_iter().collect::<Option<Vec<Value>>>(),
            "ports": [{"protocol": "TCP", "port": port}],
        })
    };
    child(
        cluster,
        ChildKind::NetworkPolicy,
        component,
        names::workload(&cluster.name, component),
        json!({"spec": {
            "podSelector": {"matchLabels": names::selector(&cluster.name, component)},
            "policyTypes": ["Ingress"],
            "ingress": ports.iter().map(rule).collect::<Vec<_>>(),
        }}),
    )
}

/// A peer as policies have it; `None` is everybody.
fn peer(cluster: &Cluster, from: Peer) -> Option<Value> {
    match from {
        Peer::Anywhere => None,
        Peer::AnyPod => Some(json!({"namespaceSelector": {}})),
        Peer::Operator => Some(json!({
            "namespaceSelector": {},
            "podSelector": {"matchLabels": {names::NAME_LABEL: names::OPERATOR}},
        })),
        Peer::Part(component) => Some(json!({
            "podSelector": {"matchLabels": names::selector(&cluster.name, component)},
        })),
    }
}

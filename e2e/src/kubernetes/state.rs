//! What a StorageCluster says of itself.

use holdfast_crd::{NodeStatus, StorageCluster, StorageClusterStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The conditions that are there from the first status on.
pub const CONDITIONS: [&str; 6] = [
    "Ready",
    "Reconciling",
    "Stalled",
    "Degraded",
    "DataAtRisk",
    "ZoneSpread",
];

/// The condition of that type.
pub fn condition<'a>(cluster: &'a StorageCluster, kind: &str) -> Option<&'a Condition> {
    let conditions = &cluster.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether a condition is True, False or Unknown.
pub fn is(cluster: &StorageCluster, kind: &str, status: &str) -> bool {
    condition(cluster, kind).is_some_and(|condition| condition.status == status)
}

/// Whether the status is about the spec of now.
pub fn is_current(cluster: &StorageCluster) -> bool {
    let observed = cluster.status.as_ref().and_then(|s| s.observed_generation);
    observed.is_some() && observed == cluster.metadata.generation
}

/// Whether all is as it was asked for, and nothing under way.
pub fn is_settled(cluster: &StorageCluster) -> bool {
    let asked = cluster.spec.nodes.replicas;
    let nodes = cluster.status.as_ref().map(|status| &status.nodes);
    is_current(cluster)
        && is(cluster, "Ready", "True")
        && is(cluster, "Degraded", "False")
        && is(cluster, "Reconciling", "False")
        && nodes.is_some_and(|nodes| nodes.replicas == asked && nodes.ready == asked)
}

/// The node with that number.
pub fn node(cluster: &StorageCluster, ordinal: u32) -> Option<&NodeStatus> {
    let nodes = &cluster.status.as_ref()?.nodes.list;
    nodes.iter().find(|node| node.ordinal == ordinal)
}

/// The whole of it in a line, for who waits in vain.
pub fn say(cluster: &StorageCluster) -> String {
    let Some(status) = &cluster.status else {
        return "no status yet".into();
    };
    let StorageClusterStatus {
        phase,
        conditions,
        nodes,
        objects,
        ..
    } = status;
    let conditions: Vec<String> = conditions
        .iter()
        .map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message))
        .collect();
    let states: Vec<String> = nodes
        .list
        .iter()
        .map(|node| format!("{} {}", node.pod, node.state))
        .collect();
    format!(
        "phase {phase:?}, generation {:?} of {:?}, nodes {} of {} [{}], degraded {:?}; {}",
        status.observed_generation,
        cluster.metadata.generation,
        nodes.ready,
        nodes.replicas,
        states.join(", "),
        objects.as_ref().map(|objects| objects.degraded),
        conditions.join("; ")
    )
}

/// The cluster's identity.
pub fn id_of(cluster: &StorageCluster) -> Option<&str> {
    cluster.status.as_ref()?.cluster_id.as_deref()
}

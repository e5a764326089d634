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

/// Conditions that say of what was asked for how far it is.
const OF_THE_WISH: [&str; 3] = ["Ready", "Reconciling", "Stalled"];

/// Whether one of the conditions that say how far things are has a message
/// like that.
pub fn tells(cluster: &StorageCluster, like: impl Fn(&str) -> bool) -> bool {
    OF_THE_WISH
        .iter()
        .filter_map(|kind| condition(cluster, kind))
        .any(|condition| like(&condition.message))
}

/// Whether a message has a number in it, apart from those in these names.
pub fn has_number(message: &str, names: &[&str]) -> bool {
    let mut rest = message.to_owned();
    for name in names {
        rest = rest.replace(name, "");
    }
    rest.contains(|letter: char| letter.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_pod_is_no_number_that_says_anything() {
        let names = ["demo-node-3"];
        assert!(!has_number("demo-node-3 is not drained", &names));
        assert!(has_number("demo-node-3 stays: 2 others, 3 needed", &names));
    }
}

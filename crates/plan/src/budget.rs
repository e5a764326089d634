//! How many pods others may take away at once.

use serde_json::json;

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};
use crate::object::child;

/// The budgets. That of storage nodes is 0 unless the operator knows that one may go.
pub(crate) fn build_budgets(cluster: &Cluster) -> Vec<Child> {
    [
        (Component::Node, cluster.decisions.storage_disruptions),
        (Component::Gateway, 1),
    ]
    .map(|(component, disruptions)| {
        child(
            cluster,
            ChildKind::PodDisruptionBudget,
            component,
            names::workload(&cluster.name, component),
            json!({"spec": {
                "selector": {"matchLabels": names::selector(&cluster.name, component)},
                "maxUnavailable": disruptions,
                // What does not serve may always go: else a machine with a pod
                // that cannot start could never be emptied.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            }}),
        )
    })
    .into()
}

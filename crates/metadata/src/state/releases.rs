//! Which formats the cluster writes, in group 0: raised by one step at a time,
//! never lowered, and only to what every node that counts can read.

use holdfast_model::release::lacking;
use holdfast_model::{ActiveRelease, ClusterState, Supported};

use super::cluster::held;
use super::{Stop, invalid};

/// Nodes that a refusal names.
const NAMED_NODES: usize = 5;

/// Whether a program may start as a node of a cluster that writes `active`.
///
/// Refused as [`Held`](crate::command::Refusal::Held), which every release can
/// read: the one that is refused may be an old one.
pub(super) fn check_start(supports: &Supported, active: ActiveRelease) -> Result<(), Stop> {
    if supports.reads(active) {
        return Ok(());
    }
    Err(held(supports.refusal(active)))
}

/// Lets the cluster write `to`.
pub(super) fn finalize(state: &mut ClusterState, to: ActiveRelease) -> Result<(), Stop> {
    if to == state.active {
        return Ok(());
    }
    if !to.is_next_after(state.active) {
        return Err(invalid(format!(
            "the cluster writes {}, and goes up by one step at a time: {to} is not the next",
            state.active
        )));
    }
    let lacking = lacking(state.layout.nodes.values(), to);
    if !lacking.is_empty() {
        return Err(held(format!(
            "{to} cannot be finalised: {}",
            named(state, &lacking)
        )));
    }
    state.active = to;
    Ok(())
}

fn named(state: &ClusterState, lacking: &[holdfast_model::NodeId]) -> String {
    let nodes = lacking.iter().take(NAMED_NODES);
    let mut named: Vec<String> = nodes
        .filter_map(|id| state.layout.nodes.get(id))
        .map(|node| {
            let release = node.supports.release;
            format!(
                "node {} at {} is of release {release}",
                node.id, node.address
            )
        })
        .collect();
    if lacking.len() > NAMED_NODES {
        named.push(format!("and {} more", lacking.len() - NAMED_NODES));
    }
    named.join(", ")
}

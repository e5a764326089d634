//! Whether a node can be spared: whether the others can hold what it has, where
//! it should be, and whether they are well enough to be given more to do.

use std::collections::BTreeSet;

use holdfast_crd::Spread;
use holdfast_model::{Layout, LayoutNode, NodeId, NodeState};

use super::Situation;
use crate::nodes::Sight;

/// Of the room that the others have, what a drain may take: room for uploads
/// must stay.
const FILL_PERCENT: u64 = 90;

/// Why a node is not drained.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Hindrance {
    /// It is not known yet whether it can be.
    Unknown(&'static str),
    /// It cannot be spared; a sentence with the numbers.
    Needed(String),
}

/// Whether the others can do without a node.
pub(super) fn can_spare(case: &Situation<'_>, node: &LayoutNode) -> Result<(), Hindrance> {
    let Some(state) = &case.sight.state else {
        return Err(Hindrance::Unknown("nobody speaks for the cluster"));
    };
    let layout = &state.layout;
    let others: Vec<&LayoutNode> = layout
        .nodes
        .values()
        .filter(|other| other.id != node.id && other.takes_data())
        .collect();
    let needed = |checked: Result<(), String>| checked.map_err(Hindrance::Needed);
    needed(check_count(case, &others))?;
    needed(check_answers(case.sight, layout, node.id))?;
    needed(check_zones(case, node, &others))?;
    needed(check_room(case.sight, node, &others))?;
    check_census(case.sight)
}

fn check_count(case: &Situation<'_>, others: &[&LayoutNode]) -> Result<(), String> {
    let redundancy = &case.resource.spec.redundancy;
    let needed = redundancy.copies.max(redundancy.metadata_replicas) as usize;
    let count = others.len();
    match count < needed {
        true => Err(format!(
            "{count} other nodes take data, and {needed} are needed"
        )),
        false => Ok(()),
    }
}

/// Everybody who has, or may have, something must be there: the one that is to
/// go as well, whose disk is counted before it does.
fn check_answers(sight: &Sight, layout: &Layout, leaving: NodeId) -> Result<(), String> {
    let counts = |node: &&LayoutNode| !matches!(node.state, NodeState::Lost | NodeState::Drained);
    let counting = layout.nodes.values().filter(counts);
    let away: Vec<NodeId> = counting
        .map(|node| node.id)
        .filter(|id| !sight.answers(*id))
        .collect();
    if away.contains(&leaving) {
        return Err(format!(
            "node {leaving} itself does not answer: name it in spec.removedNodes if it is lost"
        ));
    }
    match away.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "{} of the nodes that stay do not answer, node {first} among them",
            away.len()
        )),
    }
}

/// Copies go to different zones while there are enough of them.
fn check_zones(
    case: &Situation<'_>,
    node: &LayoutNode,
    others: &[&LayoutNode],
) -> Result<(), String> {
    let left = count_zones(others.iter().copied());
    let now = count_zones(others.iter().copied().chain([node]));
    let copies = case.resource.spec.redundancy.copies as usize;
    let required = case.resource.spec.nodes.placement.zones == Spread::Required;
    if left < now && left < copies && (now >= copies || required) {
        return Err(format!(
            "nodes are in {now} zones, without it in {left}, and {copies} copies are to be in zones of their own"
        ));
    }
    Ok(())
}

fn count_zones<'a>(nodes: impl Iterator<Item = &'a LayoutNode>) -> usize {
    let zones: BTreeSet<&String> = nodes.filter_map(|node| node.zone.as_ref()).collect();
    zones.len()
}

fn check_room(sight: &Sight, node: &LayoutNode, others: &[&LayoutNode]) -> Result<(), String> {
    let used = space(sight, node).0;
    let free: u64 = others
        .iter()
        .map(|other| space(sight, other).1 / 100 * FILL_PERCENT)
        .sum();
    if used > free {
        return Err(format!(
            "it holds {} MiB, and the others have room for {} MiB",
            used >> 20,
            free >> 20
        ));
    }
    Ok(())
}

/// Bytes that a node holds, and that it has free.
fn space(sight: &Sight, node: &LayoutNode) -> (u64, u64) {
    let status = sight.nodes.values().find(|status| status.node == node.id);
    status.map_or((0, 0), |status| {
        (status.space.fragment_bytes, status.space.free)
    })
}

/// What is below its redundancy is mended before anything is moved for another
/// reason.
fn check_census(sight: &Sight) -> Result<(), Hindrance> {
    let Some(counts) = sight.counts() else {
        return Err(Hindrance::Unknown("the objects are being counted"));
    };
    if counts.clean() {
        return Ok(());
    }
    Err(Hindrance::Needed(format!(
        "{} objects are below their redundancy, {} unavailable, {} lost, {} fragments missing, {} disks silent",
        counts.degraded, counts.unavailable, counts.lost, counts.missing, counts.silent_disks
    )))
}

//! Where new fragments and group members go: a pure choice.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::DiskId;
use crate::layout::{Layout, LayoutNode};

/// What is known of a disk right now, beside the layout.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct DiskUse {
    /// Bytes used.
    pub used: u64,
    /// Bytes it can hold.
    pub capacity: u64,
    /// Whether its node answers.
    pub answers: bool,
    /// Whether it refuses fragments, being full.
    pub full: bool,
    /// Whether it refuses what travels inside commands, too.
    pub inline_full: bool,
}

/// Chooses up to `count` disks for new fragments, beside those that hold some
/// already: never the same disk twice, in zones and on hosts not yet used
/// before others, then the least used for their weight first.
///
/// `tie` breaks ties, so that two gateways do not both pile onto one disk.
/// Fewer than `count` come back where there are not enough disks; whether that
/// is enough is the caller's to decide.
pub fn choose_disks(
    layout: &Layout,
    uses: &BTreeMap<DiskId, DiskUse>,
    holding: &[DiskId],
    count: usize,
    tie: u64,
) -> Vec<DiskId> {
    let mut zones = BTreeSet::new();
    let mut hosts = BTreeSet::new();
    for node in holding.iter().filter_map(|disk| layout.node_of(*disk)) {
        zones.insert(node.zone.clone());
        hosts.insert(node.host.clone());
    }
    let mut candidates: Vec<&LayoutNode> = layout
        .nodes
        .values()
        .filter(|node| node.takes_data() && !holding.contains(&node.disk))
        .filter(|node| {
            uses.get(&node.disk)
                .is_some_and(|disk| disk.answers && !disk.full)
        })
        .collect();
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let rank = |node: &LayoutNode| {
            let fill = uses
                .get(&node.disk)
                .map_or(u64::MAX, |disk| fill(disk, node.weight));
            let mix = tie
                .wrapping_add(node.disk.raft_id())
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (
                zones.contains(&node.zone),
                hosts.contains(&node.host),
                fill,
                mix,
            )
        };
        let Some(best) = candidates
            .iter()
            .enumerate()
            .min_by_key(|(_, node)| rank(node))
        else {
            break;
        };
        let node = candidates.swap_remove(best.0);
        zones.insert(node.zone.clone());
        hosts.insert(node.host.clone());
        chosen.push(node.disk);
    }
    chosen
}

/// How full a disk is for its weight, in steps of 1/64, coarse enough that
/// nearly equal disks take turns.
fn fill(disk: &DiskUse, weight: u32) -> u64 {
    let share = disk.used as u128 * 64 * 100;
    let room = u128::from(disk.capacity.max(1)) * u128::from(weight.max(1));
    (share / room) as u64
}

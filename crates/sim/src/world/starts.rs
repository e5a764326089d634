//! What members know of each other's starts.

use std::collections::BTreeMap;

use holdfast_metadata::state::read_cluster;
use holdfast_model::{DiskId, GroupId};
use holdfast_node::Node;
use holdfast_node::identity::Identity;

use super::{Member, World};

/// The newest starts that a node's own rows of group 0 name; none without them.
fn in_rows(node: &Node) -> BTreeMap<DiskId, u64> {
    let view = node.store().snapshot().ok();
    let state = view.and_then(|view| read_cluster(&view.group(GroupId::CLUSTER)).ok()?);
    let nodes = state.into_iter().flat_map(|state| state.layout.nodes);
    nodes
        .map(|(_, node)| (node.disk, node.incarnation))
        .collect()
}

impl Member {
    /// Keeps what its disk knows of starts, when its node ends.
    pub(super) fn keep_starts(&mut self) {
        if let Some(node) = &self.node {
            self.starts = in_rows(node);
        }
    }
}

impl World {
    /// Whether all others can tell that the disk of this one is an older copy,
    /// whatever they have forgotten with their power.
    pub fn others_know_copy(&self, number: usize) -> bool {
        let disk = self.members.get(&number).map(|member| &member.disk);
        let copy = disk.and_then(|disk| Identity::find(disk).ok().flatten());
        copy.is_none_or(|copy| self.others_know_later(number, copy.disk, copy.incarnation + 1))
    }

    /// Whether every member but this one knows that `disk` has been started
    /// after its start of that number: those that run are asked, of those that
    /// do not it is what their rows said last. A member of no cluster yet has no
    /// vote, and may know nothing.
    pub fn others_know_later(&self, number: usize, disk: DiskId, start: u64) -> bool {
        let others = self.members.iter().filter(|(other, _)| **other != number);
        others.into_iter().all(|(other, member)| {
            let known = match (&member.node, self.runs(*other)) {
                (Some(node), true) => match node.born() {
                    Ok(groups) => groups.known_start(disk),
                    Err(_) => return true,
                },
                (Some(node), false) => in_rows(node).get(&disk).copied().unwrap_or(0),
                (None, _) => member.starts.get(&disk).copied().unwrap_or(0),
            };
            known > start
        })
    }
}

//! When a node that is being emptied is empty.
//!
//! Not when a queue is: when its disk was listed and nothing on it is referred
//! to, or may yet be. A fragment of a running upload may still be committed
//! until its group's floor has passed its generation.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_metadata::protocol::FileEntry;
use holdfast_metadata::query::ChunkRow;
use holdfast_model::{DiskId, Generation, GroupId, Layout, LayoutNode, NodeState};

use crate::census::Rows;
use crate::error::WorkError;
use crate::members::GroupSight;
use crate::shared::Shared;
use crate::spans::Walk;

/// What is left on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Remains {
    /// Places in chunk rows that name the disk.
    pub referenced: u64,
    /// Fragments that a commit may yet refer to.
    pub pending: u64,
    /// Fragments to which nothing can refer any more.
    pub harmless: u64,
}

/// What is left on a disk of one span of a group.
pub(crate) fn weigh(
    disk: DiskId,
    rows: &[ChunkRow],
    files: &[FileEntry],
    floor: Generation,
) -> Remains {
    let places = rows.iter().flat_map(|row| &row.chunk.fragments);
    let mut remains = Remains {
        referenced: places.filter(|place| place.disk == disk).count() as u64,
        ..Remains::default()
    };
    let rows = Rows(rows);
    for file in files.iter().filter(|file| !rows.refer(disk, &file.id)) {
        // A committed chunk that does not name the disk has been moved.
        let moved = rows.find(&file.id).is_some_and(|row| row.committed);
        if moved || file.generation < floor {
            remains.harmless += 1;
        } else {
            remains.pending += 1;
        }
    }
    remains
}

/// Counts what is left on a disk, in all groups.
pub(crate) async fn count_remains(shared: &Shared, disk: DiskId) -> Result<Remains, WorkError> {
    let state = shared.state()?;
    let mut all = Remains::default();
    for group in state.layout.data_groups() {
        let (_, floor) = shared.generations(group).await?;
        let mut disks = BTreeSet::from([disk]);
        let mut walk = Walk::new(group);
        while let Some(span) = walk.next(shared, &mut disks).await? {
            let files = span.files.get(&disk).ok_or(WorkError::UnknownDisk(disk))?;
            let remains = weigh(disk, &span.rows, files, floor);
            all.referenced += remains.referenced;
            all.pending += remains.pending;
            all.harmless += remains.harmless;
        }
    }
    Ok(all)
}

/// Nodes that drain and carry no group: those to be counted.
pub(crate) fn emptied_of_groups<'a>(
    layout: &'a Layout,
    groups: &BTreeMap<GroupId, GroupSight>,
) -> Vec<&'a LayoutNode> {
    let carries = |disk: DiskId| {
        layout
            .groups
            .values()
            .any(|members| members.contains(&disk))
            || groups
                .values()
                .any(|sight| sight.voters.contains(&disk) || sight.learners.contains(&disk))
    };
    let draining = layout
        .nodes
        .values()
        .filter(|node| node.state == NodeState::Draining);
    draining.filter(|node| !carries(node.disk)).collect()
}

/// Why a node that drains will not become empty; `None` while it can.
pub(crate) fn nowhere_to_go(layout: &Layout, node: &LayoutNode) -> Option<String> {
    let staying = layout
        .nodes
        .values()
        .filter(|other| other.takes_data())
        .count();
    let needed = layout.redundancy.fragments();
    (staying < needed).then(|| {
        format!(
            "node {} cannot be drained: {staying} other nodes take data, and {needed} are needed",
            node.id
        )
    })
}

/// The layout in which an empty node is drained; `None`, with what is in the
/// way, while it is not.
pub(crate) fn plan_drained(
    layout: &Layout,
    node: &LayoutNode,
    remains: Remains,
) -> Result<Layout, String> {
    if remains != Remains::default() {
        return Err(format!(
            "node {} still has {} fragments that are referred to, {} that may yet be, and {} to be deleted",
            node.id, remains.referenced, remains.pending, remains.harmless
        ));
    }
    let mut next = layout.clone();
    if let Some(node) = next.nodes.get_mut(&node.id) {
        node.state = NodeState::Drained;
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use holdfast_model::{BucketId, Chunk, FragmentId, FragmentPlace, Redundancy, UploadId};

    use super::*;
    use crate::scenario::{Scenario, disk, node};

    fn row(n: u8, committed: bool, on: &[u8]) -> ChunkRow {
        ChunkRow {
            upload: UploadId::from_bytes([n; 16]),
            chunk: Chunk {
                index: 0,
                size: 1,
                stored: 1,
                redundancy: Redundancy::copies(3),
                stripe_bytes: 1,
                generation: Generation(1),
                fragments: (0..)
                    .zip(on)
                    .map(|(index, n)| FragmentPlace {
                        index,
                        disk: disk(*n),
                    })
                    .collect(),
            },
            bucket: BucketId::from_bytes([0; 16]),
            committed,
        }
    }

    fn file(n: u8, index: u8, generation: u64) -> FileEntry {
        let upload = UploadId::from_bytes([n; 16]);
        FileEntry {
            id: FragmentId {
                group: GroupId(1),
                upload,
                chunk: 0,
                index,
            },
            generation: Generation(generation),
            bytes: 1,
            corrupt: false,
        }
    }

    #[test]
    fn is_a_disk_empty_only_when_nothing_on_it_is_or_may_be_referred_to() {
        let rows = [
            row(1, true, &[1, 2]),
            row(2, true, &[2, 3]),
            row(4, false, &[2]),
        ];
        // 1 is referenced, 2 was moved away, 3 is below the floor, 4 is of a
        // running upload, 5 of one that nobody knows yet.
        let files = [
            file(1, 0, 9),
            file(2, 0, 9),
            file(3, 0, 4),
            file(4, 1, 9),
            file(5, 0, 9),
        ];
        let remains = weigh(disk(1), &rows, &files, Generation(5));
        assert_eq!(
            remains,
            Remains {
                referenced: 1,
                pending: 2,
                harmless: 2
            }
        );
        // Referenced and not on the disk: still not empty.
        assert_eq!(weigh(disk(3), &rows, &[], Generation(5)).referenced, 1);
    }

    #[test]
    fn is_a_node_drained_only_when_it_is_empty() {
        let scenario = Scenario::read("1 a draining\n2 b active\n3 c active\n4 d active");
        let leaving = &scenario.layout.nodes[&node(1)];
        let remains = |referenced, pending, harmless| Remains {
            referenced,
            pending,
            harmless,
        };
        for left in [remains(1, 0, 0), remains(0, 1, 0), remains(0, 0, 1)] {
            assert!(plan_drained(&scenario.layout, leaving, left).is_err());
        }
        let next = plan_drained(&scenario.layout, leaving, Remains::default()).unwrap();
        assert_eq!(next.nodes[&node(1)].state, NodeState::Drained);
        assert_eq!(next.epoch, scenario.layout.epoch);
    }

    #[test]
    fn is_a_drain_that_leaves_too_few_nodes_refused_with_the_reason() {
        let three = "1 a draining\n2 b active\n3 c active";
        let scenario = Scenario::read(three);
        let reason = nowhere_to_go(&scenario.layout, &scenario.layout.nodes[&node(1)]).unwrap();
        assert!(
            reason.ends_with("2 other nodes take data, and 3 are needed"),
            "{reason}"
        );
        let scenario = Scenario::read(&format!("{three}\n4 d active"));
        assert_eq!(
            nowhere_to_go(&scenario.layout, &scenario.layout.nodes[&node(1)]),
            None
        );
    }

    #[test]
    fn is_a_node_that_carries_a_group_not_even_counted() {
        let nodes = "1 a draining\n2 b active\n3 c active";
        let empty = Scenario::read(&format!("{nodes}\ngroup 1: 2* 3"));
        assert_eq!(emptied_of_groups(&empty.layout, &empty.groups).len(), 1);
        for group in [
            "group 1: 2* 3 +1",
            "group 1: 1 2* 3",
            "group 1: 2* 3 wanted 1 2 3",
        ] {
            let carries = Scenario::read(&format!("{nodes}\n{group}"));
            assert_eq!(
                emptied_of_groups(&carries.layout, &carries.groups),
                Vec::<&LayoutNode>::new()
            );
        }
    }
}

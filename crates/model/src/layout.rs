//! The layout: which nodes there are, where, in what state, and which metadata
//! groups they carry. Numbered by epoch; a function of the one before.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::ids::{BucketId, DiskId, Epoch, GroupId, NodeId, Slot};
use crate::names::ObjectKey;
use crate::redundancy::Redundancy;
use crate::release::Supported;

/// Classes into which object keys are hashed.
pub const SLOTS: u16 = 4096;
/// Groups that share the slots at a cluster's birth.
pub const DEFAULT_GROUPS: u16 = 16;

/// A layout.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Layout {
    /// Its number.
    #[n(0)]
    pub epoch: Epoch,
    /// The redundancy of new chunks.
    #[n(1)]
    pub redundancy: Redundancy,
    /// On how many nodes each group is kept: 1, 3 or 5, fixed at birth.
    #[n(2)]
    pub metadata_replicas: u8,
    /// Which group has which slots, in order, without gaps.
    #[n(3)]
    pub slots: Vec<SlotRange>,
    /// The nodes.
    #[n(4)]
    pub nodes: BTreeMap<NodeId, LayoutNode>,
    /// On which disks each group is to be.
    #[n(5)]
    pub groups: BTreeMap<GroupId, Vec<DiskId>>,
}

/// A run of slots of one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct SlotRange {
    /// The first.
    #[n(0)]
    pub first: Slot,
    /// The last.
    #[n(1)]
    pub last: Slot,
    /// Whose they are.
    #[n(2)]
    pub group: GroupId,
}

/// A node of the layout.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct LayoutNode {
    /// Its identity.
    #[n(0)]
    pub id: NodeId,
    /// Its disk. One to a node for now.
    #[n(1)]
    pub disk: DiskId,
    /// Where it listens, as `host:port`; resolved again at every connection.
    #[n(2)]
    pub address: String,
    /// Its failure domain; without one it is placed nowhere.
    #[n(3)]
    pub zone: Option<String>,
    /// The machine it runs on.
    #[n(4)]
    pub host: Option<String>,
    /// Its share of the data, 100 being usual.
    #[n(5)]
    pub weight: u32,
    /// Its state.
    #[n(6)]
    pub state: NodeState,
    /// Counts its starts; a newer one fences an older.
    #[n(7)]
    pub incarnation: u64,
    /// What the program of that start can read and write.
    #[n(8)]
    #[cbor(default)]
    pub supports: Supported,
}

/// A node's state, as group 0 has agreed on it. Whether it answers right now is
/// not in here.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    Encode,
    Decode,
    serde::Serialize,
    serde::Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Joined, but its zone is not known: takes no data.
    #[n(0)]
    Unplaced,
    /// Takes data.
    #[n(1)]
    Active,
    /// Has been silent for longer than the grace time: its fragments are made
    /// again elsewhere where there is room for them.
    #[n(2)]
    Down,
    /// Is being emptied; serves what it still has.
    #[n(3)]
    Draining,
    /// Emptied, and carries no group: may be taken away.
    #[n(4)]
    Drained,
    /// Given up: nothing on it counts any more.
    #[n(5)]
    Lost,
}

impl LayoutNode {
    /// Whether new fragments and group members may go there.
    pub fn takes_data(&self) -> bool {
        self.state == NodeState::Active && self.zone.is_some()
    }

    /// Whether fragments on it count towards an object's redundancy.
    pub fn keeps_data(&self) -> bool {
        !matches!(self.state, NodeState::Lost | NodeState::Drained)
    }
}

/// The slot of an object: the first two bytes of SHA-256 of
/// bucket id and key, big-endian, modulo [`SLOTS`].
pub fn slot_of(bucket: BucketId, key: &ObjectKey) -> Slot {
    let digest = Sha256::new()
        .chain_update(bucket.as_bytes())
        .chain_update(key.as_str())
        .finalize();
    let number = digest
        .iter()
        .take(2)
        .fold(0u16, |n, byte| n << 8 | u16::from(*byte));
    Slot(number % SLOTS)
}

/// Shares the slots evenly among groups 1 to `groups`.
pub fn initial_slots(groups: u16) -> Vec<SlotRange> {
    let groups = groups.clamp(1, SLOTS);
    let start = |index: u16| (u32::from(index) * u32::from(SLOTS) / u32::from(groups)) as u16;
    (0..groups)
        .map(|index| SlotRange {
            first: Slot(start(index)),
            last: Slot(start(index + 1) - 1),
            group: GroupId(index + 1),
        })
        .collect()
}

impl Layout {
    /// The group that owns a slot.
    pub fn group_of_slot(&self, slot: Slot) -> Option<GroupId> {
        let after = self.slots.partition_point(|range| range.first <= slot);
        let range = self.slots.get(after.checked_sub(1)?)?;
        (slot <= range.last).then_some(range.group)
    }

    /// The group of an object.
    pub fn group_of(&self, bucket: BucketId, key: &ObjectKey) -> Option<GroupId> {
        self.group_of_slot(slot_of(bucket, key))
    }

    /// The groups that own slots, in order.
    pub fn data_groups(&self) -> Vec<GroupId> {
        let mut groups: Vec<_> = self.slots.iter().map(|range| range.group).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The node that a disk is in.
    pub fn node_of(&self, disk: DiskId) -> Option<&LayoutNode> {
        self.nodes.values().find(|node| node.disk == disk)
    }

    /// What is wrong with this layout, if anything: slots without an owner,
    /// members that are no nodes, a group twice on one disk, an even or wrong
    /// number of members.
    pub fn check(&self) -> Result<(), String> {
        let mut next = 0;
        for range in &self.slots {
            if range.first.0 != next || range.last < range.first {
                return Err(format!("slot {next} has no single owner"));
            }
            if !self.groups.contains_key(&range.group) {
                return Err(format!(
                    "group {} owns slots and does not exist",
                    range.group
                ));
            }
            next = range.last.0 + 1;
        }
        if next != SLOTS {
            return Err(format!("slots from {next} on have no owner"));
        }
        for (group, disks) in &self.groups {
            if disks.len() > usize::from(self.metadata_replicas) || disks.is_empty() {
                return Err(format!("group {group} has {} members", disks.len()));
            }
            for (at, disk) in disks.iter().enumerate() {
                if self.node_of(*disk).is_none() {
                    return Err(format!("group {group} is on the unknown disk {disk}"));
                }
                if disks.iter().skip(at + 1).any(|other| other == disk) {
                    return Err(format!("group {group} is twice on disk {disk}"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_group() {
        for groups in [1, 3, 16, 4096] {
            let slots = initial_slots(groups);
            let mut next = 0;
            for range in &slots {
                assert_eq!(range.first.0, next);
                next = range.last.0 + 1;
            }
            assert_eq!(next, SLOTS);
        }
    }

    #[test]
    fn an_objects_slot_never_changes() {
        let bucket = BucketId::from_bytes([1; 16]);
        let slot = |key: &str| slot_of(bucket, &ObjectKey::new(key).unwrap()).0;
        // Written down when the format was made: a change loses every object.
        assert_eq!((slot("a"), slot("photo.jpg")), (2905, 861));
    }
}

//! Who is where, and how often each disk has been started: how Raft's numbers
//! lead to disks and addresses, and which copy of a disk is the newest.
//!
//! Promises:
//! 1. What is known of a start only ever rises.
//! 2. Members that talk know the same: each batch carries a sum of what its
//!    sender knows, and where sums differ all of it is told, both ways
//!    ([`AddressBook::sum`], [`AddressBook::starts_unless`]).
//! 3. A disk that knows of a newer start of its own takes nothing in and sends
//!    nothing any more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_model::{ClusterState, DiskId};
use holdfast_runtime::Address;

use super::peers::Identity;
use crate::protocol::{DiskStart, NodeError};

/// Disks whose starts are remembered beyond those that a layout has named: far
/// more than are on their way into one.
const MAX_STRANGERS: usize = 1_024;

/// Who is where, and which start of each disk is the newest.
#[derive(Default)]
pub struct AddressBook {
    /// One lock: a message is admitted by both.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<u64, Entry>,
    starts: BTreeMap<u64, u64>,
    /// Of `starts`, kept with it.
    sum: u64,
}

struct Entry {
    disk: DiskId,
    address: Address,
}

impl Inner {
    fn start(&self, member: u64) -> u64 {
        self.starts.get(&member).copied().unwrap_or(0)
    }

    fn raise(&mut self, member: u64, incarnation: u64) {
        let known = self.start(member);
        if incarnation <= known {
            return;
        }
        if known > 0 {
            self.sum ^= mix(member, known);
        }
        self.sum ^= mix(member, incarnation);
        self.starts.insert(member, incarnation);
    }
}

/// A start's part of the sum: parts of different starts share nothing. The
/// finalizer of SplitMix64 (Steele, Lea, Flood 2014), twice.
fn mix(member: u64, incarnation: u64) -> u64 {
    [member, incarnation].into_iter().fold(0, |sum, one| {
        let mut z = (sum ^ one).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

impl AddressBook {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the cluster's state says; entries that it does not name stay.
    pub fn learn(&self, state: &ClusterState) {
        let mut inner = self.lock();
        for node in state.layout.nodes.values() {
            let member = node.disk.raft_id();
            let entry = Entry {
                disk: node.disk,
                address: Address(node.address.clone()),
            };
            inner.entries.insert(member, entry);
            inner.raise(member, node.incarnation);
        }
    }

    /// Takes what a member says of starts.
    pub(super) fn hear(&self, starts: &[DiskStart]) {
        let mut inner = self.lock();
        for start in starts {
            let known = inner.starts.contains_key(&start.member);
            let room = inner.starts.len() < inner.entries.len() + MAX_STRANGERS;
            if known || room || inner.entries.contains_key(&start.member) {
                inner.raise(start.member, start.incarnation);
            }
        }
    }

    /// Takes this disk's own start.
    pub(super) fn begin(&self, own: &Identity) {
        self.lock().raise(own.disk.raft_id(), own.incarnation);
    }

    /// All that is known of starts, but for who knows the same by this sum.
    pub(super) fn starts_unless(&self, theirs: Option<u64>) -> Vec<DiskStart> {
        match theirs {
            Some(sum) if sum == self.sum() => Vec::new(),
            _ => self.starts(),
        }
    }

    fn starts(&self) -> Vec<DiskStart> {
        let inner = self.lock();
        let starts = inner.starts.iter();
        starts
            .map(|(member, incarnation)| DiskStart {
                member: *member,
                incarnation: *incarnation,
            })
            .collect()
    }

    /// A sum of it: who has the same knows the same.
    pub(super) fn sum(&self) -> u64 {
        self.lock().sum
    }

    /// Whether a newer start of this very disk is known: this is an older copy.
    pub(super) fn outdated(&self, own: &Identity) -> bool {
        self.incarnation(own.disk.raft_id()) > own.incarnation
    }

    /// Where a member listens.
    pub fn address(&self, raft_id: u64) -> Option<(DiskId, Address)> {
        let inner = self.lock();
        let entry = inner.entries.get(&raft_id)?;
        Some((entry.disk, entry.address.clone()))
    }

    /// How often a member has been started, as far as is known.
    pub fn incarnation(&self, raft_id: u64) -> u64 {
        self.lock().start(raft_id)
    }

    /// The disk of a Raft number.
    pub fn disk(&self, raft_id: u64) -> Option<DiskId> {
        self.address(raft_id).map(|(disk, _)| disk)
    }

    /// Checks who speaks: a disk that is known, in a start that is not older
    /// than the newest one known, which is remembered.
    ///
    /// # Errors
    /// [`NodeError::Mistaken`]: it is an older copy of the disk, or another.
    pub fn admit(&self, from: DiskId, incarnation: u64) -> Result<(), NodeError> {
        let mut inner = self.lock();
        let member = from.raft_id();
        let known = inner.start(member);
        if incarnation < known {
            return Err(NodeError::Mistaken(format!(
                "start {incarnation} of disk {from} comes after start {known}: it is an older copy, replace it as if it were empty"
            )));
        }
        match inner.entries.get(&member) {
            // Not in the layout that is known here yet: the group's own
            // membership decides.
            None => {}
            Some(entry) if entry.disk != from => {
                return Err(NodeError::Mistaken(format!("disk {from} is not a member")));
            }
            Some(_) => inner.raise(member, incarnation),
        }
        Ok(())
    }

    /// Has a test's book know a disk by a number.
    #[cfg(test)]
    pub(super) fn know(&self, member: u64, disk: DiskId, incarnation: u64) {
        let mut inner = self.lock();
        let address = Address("node:8000".into());
        inner.entries.insert(member, Entry { disk, address });
        inner.raise(member, incarnation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(member: u64, incarnation: u64) -> DiskStart {
        DiskStart {
            member,
            incarnation,
        }
    }

    #[test]
    fn what_is_known_of_a_start_only_rises_whatever_the_order() {
        let told = [
            start(1, 4),
            start(2, 1),
            start(1, 2),
            start(1, 5),
            start(2, 1),
        ];
        let (one, other) = (AddressBook::default(), AddressBook::default());
        one.hear(&told);
        told.iter().rev().for_each(|start| other.hear(&[*start]));
        for book in [&one, &other] {
            assert_eq!(book.starts(), vec![start(1, 5), start(2, 1)]);
        }
        assert_eq!(one.sum(), other.sum());
        other.hear(&[start(2, 2)]);
        assert_ne!(one.sum(), other.sum());
        one.hear(&other.starts_unless(Some(one.sum())));
        assert_eq!(one.sum(), other.sum());
        assert_eq!(one.starts_unless(Some(other.sum())), vec![]);
    }

    #[test]
    fn starts_of_strangers_are_remembered_up_to_a_limit_and_members_always() {
        let book = AddressBook::default();
        let strangers = 1..=MAX_STRANGERS as u64 + 5;
        let told: Vec<_> = strangers.map(|member| start(member, 1)).collect();
        book.hear(&told);
        assert_eq!(book.starts().len(), MAX_STRANGERS);
        let member = DiskId::from_bytes([9; 16]);
        book.know(member.raft_id(), member, 1);
        book.hear(&[start(member.raft_id(), 6), start(1, 3)]);
        assert_eq!(book.incarnation(member.raft_id()), 6);
        assert_eq!(book.incarnation(1), 3);
    }
}

//! Digests for the census: of each group, and of each of its 256 ranges of
//! upload ids, how many fragments there are and a sum over them, kept with
//! every change. Two disks, or a disk and its past, that agree in a range need
//! not compare its fragments one by one.

use std::collections::BTreeMap;

use holdfast_model::{FragmentId, GroupId};

use crate::index::Location;

/// A digest of some fragments. Whoever holds the same fragments, of the same
/// generations and states, has the same; whoever has the same, but for a chance
/// of one in 2^64, holds the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digest {
    /// How many.
    pub fragments: u64,
    /// The exclusive or of [`fragment_hash`] over them.
    pub sum: u64,
    /// The exclusive or of [`FragmentId::digest`] over those that are not
    /// corrupt, to be compared with what a group's rows refer to: rows do not
    /// know the generation of each fragment.
    pub names: u64,
}

impl Digest {
    /// The digest of both together, for ranges that have nothing in common.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            fragments: self.fragments + other.fragments,
            sum: self.sum ^ other.sum,
            names: self.names ^ other.names,
        }
    }
}

impl Digest {
    /// Adds a fragment to the sums, or takes it out again.
    fn mix_in(&mut self, id: &FragmentId, at: &Location) {
        self.sum ^= fragment_hash(id, at.generation.0, at.corrupt);
        if !at.corrupt {
            self.names ^= id.digest();
        }
    }
}

/// The digests of a disk: those of fragments whose upload id begins with a byte.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Digests {
    ranges: BTreeMap<(GroupId, u8), Digest>,
}

impl Digests {
    pub(crate) fn add(&mut self, id: &FragmentId, at: &Location) {
        let digest = self.ranges.entry(range_of(id)).or_default();
        digest.fragments += 1;
        digest.mix_in(id, at);
    }

    pub(crate) fn remove(&mut self, id: &FragmentId, at: &Location) {
        let range = range_of(id);
        if let Some(digest) = self.ranges.get_mut(&range) {
            digest.fragments -= 1;
            digest.mix_in(id, at);
            if digest.fragments == 0 {
                self.ranges.remove(&range);
            }
        }
    }

    pub(crate) fn of_group(&self, group: GroupId) -> BTreeMap<u8, Digest> {
        let all = (group, 0)..=(group, u8::MAX);
        let ranges = self.ranges.range(all);
        ranges.map(|((_, byte), digest)| (*byte, *digest)).collect()
    }
}

fn range_of(id: &FragmentId) -> (GroupId, u8) {
    (id.group, id.census_range())
}

/// A hash of a fragment's name, generation and state: the parts, as
/// little-endian words, each mixed in with the finalizer of SplitMix64 (Steele,
/// Lea, Flood 2014). A checksum would not do, as sums of checksums cancel out.
pub fn fragment_hash(id: &FragmentId, generation: u64, corrupt: bool) -> u64 {
    let upload = u128::from_le_bytes(*id.upload.as_bytes());
    let rest = u64::from(id.group.0)
        | u64::from(id.index) << 16
        | u64::from(corrupt) << 24
        | u64::from(id.chunk) << 32;
    [upload as u64, (upload >> 64) as u64, rest, generation]
        .into_iter()
        .fold(0x9e37_79b9_7f4a_7c15, |hash, word| mix(hash ^ word))
}

fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use holdfast_model::UploadId;

    use super::*;

    #[test]
    fn a_hash_is_what_other_disks_compute_and_tells_every_part() {
        let id = FragmentId {
            group: GroupId(1),
            upload: UploadId::from_bytes([2; 16]),
            chunk: 3,
            index: 4,
        };
        let hash = fragment_hash(&id, 5, false);
        let others = [
            fragment_hash(&id, 6, false),
            fragment_hash(&id, 5, true),
            fragment_hash(&FragmentId { chunk: 4, ..id }, 5, false),
            fragment_hash(&FragmentId { index: 3, ..id }, 5, false),
        ];
        assert!(others.iter().all(|other| *other != hash));
        assert_eq!(format!("{hash:016x}"), "52b17fcbf8b5f6fe");
    }
}

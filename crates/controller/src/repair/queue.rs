//! Which of the chunks of all groups that a node leads goes first. Pure.

use std::collections::BTreeMap;

use holdfast_metadata::query::ChunkRow;
use holdfast_model::GroupId;

/// Chunks copied at a time: small ones wait for syncs and calls, and share them.
const CHUNKS_AT_ONCE: usize = 16;
/// Bytes of chunks that are being copied, which are held in memory whole; one
/// chunk may always be.
const BYTES_AT_ONCE: u64 = 32 << 20;

/// A chunk that can be worked on.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Waiting {
    pub group: GroupId,
    pub row: ChunkRow,
    /// How many of its fragments that can be read may still be lost.
    pub spare: usize,
}

/// The fewest to spare first, over all groups; among equals the groups take
/// turns, so that none waits for another's end.
pub(super) fn in_order(mut found: Vec<Waiting>) -> Vec<Waiting> {
    found.sort_by_key(|chunk| chunk.spare);
    let mut turns: BTreeMap<(usize, GroupId), usize> = BTreeMap::new();
    let mut ordered: Vec<(usize, Waiting)> = found
        .into_iter()
        .map(|chunk| {
            let turn = turns.entry((chunk.spare, chunk.group)).or_default();
            *turn += 1;
            (*turn, chunk)
        })
        .collect();
    ordered.sort_by_key(|(turn, chunk)| (chunk.spare, *turn, chunk.group));
    ordered.into_iter().map(|(_, chunk)| chunk).collect()
}

/// Whether a chunk may be begun beside `count` others of `held` bytes.
pub(super) fn room_for(chunk: &Waiting, count: usize, held: u64) -> bool {
    let bytes = u64::from(chunk.row.chunk.stored);
    count == 0 || (count < CHUNKS_AT_ONCE && held + bytes <= BYTES_AT_ONCE)
}

#[cfg(test)]
mod tests {
    use holdfast_model::{BucketId, Chunk, Generation, Redundancy, UploadId};

    use super::*;

    fn chunk(group: u16, index: u32, spare: usize) -> Waiting {
        Waiting {
            group: GroupId(group),
            row: ChunkRow {
                upload: UploadId::from_bytes([1; 16]),
                chunk: Chunk {
                    index,
                    size: 1,
                    stored: 8 << 20,
                    redundancy: Redundancy::copies(3),
                    stripe_bytes: 1,
                    generation: Generation(1),
                    fragments: Vec::new(),
                },
                bucket: BucketId::from_bytes([0; 16]),
                committed: true,
            },
            spare,
        }
    }

    fn order(found: Vec<Waiting>) -> Vec<(u16, u32)> {
        let ordered = in_order(found);
        let names = ordered.iter().map(|one| (one.group.0, one.row.chunk.index));
        names.collect()
    }

    #[test]
    fn does_the_last_copy_in_the_last_group_go_before_all_that_have_one_to_spare() {
        let mut found: Vec<_> = (0..500).map(|index| chunk(1, index, 1)).collect();
        found.extend([chunk(2, 0, 1), chunk(7, 0, 0), chunk(7, 1, 1)]);
        let order = order(found);
        assert_eq!(order[0], (7, 0));
        assert_eq!(order.len(), 503);
    }

    #[test]
    fn do_groups_take_turns_among_what_is_as_urgent_and_keep_their_own_order() {
        let mut found: Vec<_> = (0..3).map(|index| chunk(1, index, 1)).collect();
        found.extend([chunk(2, 5, 1), chunk(2, 4, 1), chunk(3, 9, 2)]);
        let expected = [(1, 0), (2, 5), (1, 1), (2, 4), (1, 2), (3, 9)];
        assert_eq!(order(found), expected);
    }

    #[test]
    fn are_few_large_and_many_small_chunks_copied_at_a_time() {
        let large = chunk(1, 0, 1);
        let mut small = large.clone();
        small.row.chunk.stored = 4_000;
        assert!(room_for(&large, 3, 24 << 20) && !room_for(&large, 4, 32 << 20));
        assert!(room_for(&small, 15, 60_000) && !room_for(&small, 16, 64_000));
        // One that has more than all may hold is copied alone.
        small.row.chunk.stored = 64 << 20;
        assert!(room_for(&small, 0, 0) && !room_for(&small, 1, 1));
    }
}

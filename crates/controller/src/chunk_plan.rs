//! What is to be done for one chunk: which fragments are made, from where and
//! on which disks. Pure.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_model::placement::{DiskUse, choose_disks};
use holdfast_model::{Chunk, DiskId, FragmentPlace, Layout, NodeState};

/// A fragment to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Make {
    /// Which, and on which disk.
    pub place: FragmentPlace,
    /// The one that it replaces, which goes when the new one is verified.
    pub replaces: Option<FragmentPlace>,
}

/// What is to be done for a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChunkPlan {
    /// Where to read it, the best first.
    pub sources: Vec<FragmentPlace>,
    /// The fragments to make: the missing ones before those that only move.
    pub makes: Vec<Make>,
}

/// Why nothing can be done for a chunk that needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hindrance {
    /// No disk that answers has a fragment to copy.
    NoSource,
    /// There is no disk to put one on.
    NoRoom,
    /// The chunk is not kept as copies, which this version cannot rebuild.
    NotCopies,
}

/// What is to be done for a chunk; `None` when it is where it should be.
///
/// Fragments on disks that are given up are made again, and so are those on
/// nodes that are down or draining, if they fit elsewhere.
pub(crate) fn plan_chunk(
    chunk: &Chunk,
    layout: &Layout,
    uses: &BTreeMap<DiskId, DiskUse>,
    readable: &BTreeSet<DiskId>,
    tie: u64,
) -> Result<Option<ChunkPlan>, Hindrance> {
    let state = |disk: DiskId| layout.node_of(disk).map(|node| node.state);
    let stays = |place: &&FragmentPlace| {
        matches!(
            state(place.disk),
            Some(NodeState::Active | NodeState::Unplaced)
        )
    };
    let named: BTreeSet<u8> = chunk.fragments.iter().map(|place| place.index).collect();
    let missing = (0..chunk.redundancy.fragments())
        .filter_map(|index| u8::try_from(index).ok())
        .filter(|index| !named.contains(index))
        .map(|index| (index, None));
    let moving = chunk.fragments.iter().filter(|place| !stays(place));
    let wanted: Vec<(u8, Option<FragmentPlace>)> = missing
        .chain(moving.map(|place| (place.index, Some(*place))))
        .collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    if chunk.redundancy.data != 1 {
        return Err(Hindrance::NotCopies);
    }
    let mut sources: Vec<FragmentPlace> = chunk
        .fragments
        .iter()
        .filter(|place| readable.contains(&place.disk))
        .filter(|place| !matches!(state(place.disk), None | Some(NodeState::Lost)))
        .copied()
        .collect();
    if sources.is_empty() {
        return Err(Hindrance::NoSource);
    }
    // A disk that is being emptied has nothing better to do than to be read.
    sources.sort_by_key(|place| state(place.disk) != Some(NodeState::Draining));
    let holding: Vec<DiskId> = chunk.fragments.iter().map(|place| place.disk).collect();
    let targets = choose_disks_beside(layout, uses, &holding, &chunk.fragments, wanted.len(), tie);
    if targets.is_empty() {
        return Err(Hindrance::NoRoom);
    }
    let makes = wanted
        .into_iter()
        .zip(targets)
        .map(|((index, replaces), disk)| Make {
            place: FragmentPlace { index, disk },
            replaces,
        })
        .collect();
    Ok(Some(ChunkPlan { sources, makes }))
}

/// Disks for new fragments: never one that holds a fragment of the chunk, and
/// in zones that those which stay do not use, before others.
fn choose_disks_beside(
    layout: &Layout,
    uses: &BTreeMap<DiskId, DiskUse>,
    holding: &[DiskId],
    fragments: &[FragmentPlace],
    count: usize,
    tie: u64,
) -> Vec<DiskId> {
    let staying: Vec<DiskId> = fragments
        .iter()
        .map(|place| place.disk)
        .filter(|disk| {
            layout
                .node_of(*disk)
                .is_some_and(|node| node.state == NodeState::Active)
        })
        .collect();
    let mut uses = uses.clone();
    uses.retain(|disk, _| !holding.contains(disk));
    choose_disks(layout, &uses, &staying, count, tie)
}

/// How many of a chunk's fragments may still be lost before it cannot be read:
/// none where nobody answers for more than it needs.
pub(crate) fn spare(chunk: &Chunk, readable: &BTreeSet<DiskId>) -> usize {
    let places = chunk.fragments.iter();
    let there = places.filter(|place| readable.contains(&place.disk));
    there
        .count()
        .saturating_sub(usize::from(chunk.redundancy.data))
}

/// Whether a chunk has lost all that it could: the next loss would be for good.
pub(crate) fn is_on_its_last(chunk: &Chunk, readable: &BTreeSet<DiskId>) -> bool {
    let parity = chunk.redundancy.fragments() > usize::from(chunk.redundancy.data);
    parity && spare(chunk, readable) == 0
}

/// The fragments once some have been made: each takes the place of what it
/// replaces, in order of index.
pub(crate) fn places_after(before: &[FragmentPlace], made: &[Make]) -> Vec<FragmentPlace> {
    let mut after: Vec<FragmentPlace> = before
        .iter()
        .filter(|place| !made.iter().any(|make| make.replaces == Some(**place)))
        .copied()
        .collect();
    after.extend(made.iter().map(|make| make.place));
    after.sort_by_key(|place| place.index);
    after
}

#[cfg(test)]
mod tests {
    use holdfast_model::{Generation, Redundancy};

    use super::*;
    use crate::scenario::{Scenario, disk};

    fn chunk(redundancy: Redundancy, places: &[(u8, u8)]) -> Chunk {
        Chunk {
            index: 0,
            size: 10,
            stored: 10,
            redundancy,
            stripe_bytes: 10,
            generation: Generation(1),
            fragments: places
                .iter()
                .map(|(index, n)| FragmentPlace {
                    index: *index,
                    disk: disk(*n),
                })
                .collect(),
        }
    }

    fn plan(nodes: &str, chunk: &Chunk, full: &[u8]) -> String {
        let scenario = Scenario::read(nodes);
        let uses = scenario
            .answering
            .iter()
            .map(|d| {
                let full = full.iter().any(|n| disk(*n) == *d);
                let used = u64::from(d.as_bytes()[0]) * 10;
                (
                    *d,
                    DiskUse {
                        used,
                        capacity: 100,
                        answers: true,
                        full,
                        inline_full: full,
                    },
                )
            })
            .collect();
        let answering = &scenario.answering;
        let number = |place: FragmentPlace| place.disk.as_bytes()[0];
        match plan_chunk(chunk, &scenario.layout, &uses, answering, 0) {
            Ok(None) => "nothing".into(),
            Err(hindrance) => format!("{hindrance:?}"),
            Ok(Some(plan)) => {
                let makes: Vec<String> = plan
                    .makes
                    .iter()
                    .map(|make| {
                        let old = make
                            .replaces
                            .map_or(String::new(), |p| format!(" for {}", number(p)));
                        format!("{} on {}{old}", make.place.index, number(make.place))
                    })
                    .collect();
                format!("from {}: {}", number(plan.sources[0]), makes.join(", "))
            }
        }
    }

    const COPIES: Redundancy = Redundancy::copies(3);
    const FOUR: &str = "1 a active\n2 b active\n3 c active\n4 d active";

    #[test]
    fn is_a_whole_chunk_left_alone() {
        let whole = chunk(COPIES, &[(0, 1), (1, 2), (2, 3)]);
        assert_eq!(plan(FOUR, &whole, &[]), "nothing");
    }

    #[test]
    fn is_a_missing_fragment_made_on_a_disk_without_one_in_a_free_zone() {
        let degraded = chunk(COPIES, &[(0, 1), (2, 3)]);
        assert_eq!(plan(FOUR, &degraded, &[]), "from 1: 1 on 2");
        let nodes = "1 a active\n2 a active\n3 c active\n4 d active";
        assert_eq!(plan(nodes, &degraded, &[]), "from 1: 1 on 4");
    }

    #[test]
    fn three_nodes_one_lost_is_repair_impossible_and_said_so() {
        let nodes = "1 a active\n2 b active\n3 c lost silent";
        let left = chunk(COPIES, &[(0, 1), (1, 2)]);
        assert_eq!(plan(nodes, &left, &[]), "NoRoom");
        assert_eq!(
            plan(&format!("{nodes}\n4 c active"), &left, &[]),
            "from 1: 2 on 4"
        );
    }

    #[test]
    fn is_a_draining_disk_read_first_and_its_fragment_moved() {
        let nodes = FOUR.replace("2 b active", "2 b draining");
        let whole = chunk(COPIES, &[(0, 1), (1, 2), (2, 3)]);
        assert_eq!(plan(&nodes, &whole, &[]), "from 2: 1 on 4 for 2");
        assert_eq!(plan(&nodes, &whole, &[4]), "NoRoom");
    }

    #[test]
    fn is_a_chunk_on_its_last_when_only_one_of_its_copies_can_be_read() {
        let of = |redundancy, places: &[(u8, u8)], readable: &[u8]| {
            let readable = readable.iter().map(|n| disk(*n)).collect();
            let chunk = chunk(redundancy, places);
            (spare(&chunk, &readable), is_on_its_last(&chunk, &readable))
        };
        let all = [(0, 1), (1, 2), (2, 3)];
        assert_eq!(of(COPIES, &all, &[1, 2, 3]), (2, false));
        assert_eq!(of(COPIES, &all[..2], &[1, 2, 3]), (1, false));
        assert_eq!(of(COPIES, &all[..1], &[1, 2, 3]), (0, true));
        // Named by the row, and on a node that does not answer.
        assert_eq!(of(COPIES, &all, &[2]), (0, true));
        // Kept once as it was meant to be.
        assert_eq!(of(Redundancy::copies(1), &all[..1], &[1]), (0, false));
    }

    #[test]
    fn is_what_is_missing_made_before_what_only_moves() {
        let nodes = "1 a draining\n2 b active\n3 c active";
        let degraded = chunk(COPIES, &[(0, 1), (1, 2)]);
        assert_eq!(plan(nodes, &degraded, &[]), "from 1: 2 on 3");
    }

    #[test]
    fn is_what_lies_on_a_silent_disk_no_source() {
        let nodes = FOUR.replace("1 a active", "1 a active silent");
        assert_eq!(plan(&nodes, &chunk(COPIES, &[(0, 1)]), &[]), "NoSource");
        let nodes = FOUR.replace("1 a active", "1 a down silent");
        let moved = chunk(COPIES, &[(0, 1), (1, 2), (2, 3)]);
        assert_eq!(plan(&nodes, &moved, &[]), "from 2: 0 on 4 for 1");
    }

    #[test]
    fn is_erasure_coding_refused_and_not_copied_wrongly() {
        let coded = chunk(Redundancy { data: 2, parity: 1 }, &[(0, 1), (1, 2)]);
        assert_eq!(plan(FOUR, &coded, &[]), "NotCopies");
    }

    #[test]
    fn do_new_places_replace_old_ones_in_order_of_index() {
        let place = |index, n| FragmentPlace {
            index,
            disk: disk(n),
        };
        let made = [
            Make {
                place: place(2, 5),
                replaces: None,
            },
            Make {
                place: place(0, 4),
                replaces: Some(place(0, 1)),
            },
        ];
        let after = places_after(&[place(0, 1), place(1, 2)], &made);
        assert_eq!(after, [place(0, 4), place(1, 2), place(2, 5)]);
    }
}

use holdfast_model::layout::initial_slots;
use holdfast_model::{DiskId, Redundancy as Copies};

use super::*;

const EPOCH: Epoch = Epoch(7);

/// Two groups with objects, and group 0.
fn layout() -> Layout {
    Layout {
        epoch: EPOCH,
        redundancy: Copies::copies(3),
        metadata_replicas: 3,
        slots: initial_slots(2),
        nodes: BTreeMap::new(),
        groups: (0..=2)
            .map(|group| (GroupId(group), vec![DiskId::from_bytes([1; 16])]))
            .collect(),
    }
}

fn census(group: u16, epoch: Epoch, time: u64) -> GroupCensus {
    GroupCensus {
        group: GroupId(group),
        objects: 100,
        degraded: 10,
        unavailable: 3,
        lost: 1,
        missing: 5,
        silent_disks: u64::from(group),
        epoch,
        time: Timestamp(time),
    }
}

fn taken(reports: &[GroupCensus]) -> GroupCensuses {
    let mut known = GroupCensuses::new();
    for census in reports {
        let report = CensusReport {
            groups: vec![*census],
            chunks_to_copy: 0,
        };
        take_report(&mut known, &report);
    }
    known
}

#[test]
fn the_counts_of_all_groups_are_added_with_the_oldest_time() {
    let known = taken(&[census(1, EPOCH, 90), census(2, EPOCH, 70)]);
    let sum = sum_up(&known, &layout());
    let counts = Counts {
        objects: 200,
        degraded: 20,
        unavailable: 6,
        lost: 2,
        missing: 10,
        silent_disks: 2,
    };
    assert_eq!(sum.complete(), Some(counts));
    assert_eq!((sum.epoch, sum.oldest), (EPOCH, Some(Timestamp(70))));
    assert_eq!(counts.lacking(), 28);
}

#[test]
fn a_group_that_nobody_counts_is_named_and_in_no_sum() {
    let sum = sum_up(&taken(&[census(1, EPOCH, 90)]), &layout());
    assert_eq!(sum.uncounted, vec![GroupId(2)]);
    assert_eq!(sum.complete(), None);
    assert_eq!((sum.counts.objects, sum.counts.degraded), (100, 10));
    let none = sum_up(&GroupCensuses::new(), &layout());
    assert_eq!(none.uncounted, vec![GroupId(1), GroupId(2)]);
    assert_eq!((none.oldest, none.complete()), (None, None));
}

#[test]
fn a_count_of_another_layout_says_nothing_of_this_one() {
    for other in [Epoch(6), Epoch(8)] {
        let known = taken(&[census(1, EPOCH, 90), census(2, other, 95)]);
        let sum = sum_up(&known, &layout());
        assert_eq!(sum.uncounted, vec![GroupId(2)], "{other:?}");
        assert_eq!(sum.oldest, Some(Timestamp(90)));
    }
}

#[test]
fn of_two_counts_of_a_group_the_newer_layout_counts_then_the_later_time() {
    let (old, later) = (census(1, Epoch(6), 99), census(1, EPOCH, 80));
    let latest = census(1, EPOCH, 85);
    for order in [
        [old, later, latest],
        [latest, old, later],
        [later, latest, old],
    ] {
        assert_eq!(taken(&order).get(&GroupId(1)), Some(&latest));
    }
}

#[test]
fn anything_that_lacks_or_is_silent_is_not_clean() {
    assert!(
        Counts {
            objects: 9,
            ..Counts::default()
        }
        .clean()
    );
    let fields: [fn(&mut Counts) -> &mut u64; 5] = [
        |counts| &mut counts.degraded,
        |counts| &mut counts.unavailable,
        |counts| &mut counts.lost,
        |counts| &mut counts.missing,
        |counts| &mut counts.silent_disks,
    ];
    for field in fields {
        let mut counts = Counts::default();
        *field(&mut counts) = 1;
        assert!(!counts.clean(), "{counts:?}");
    }
}

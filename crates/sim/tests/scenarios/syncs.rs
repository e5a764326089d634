//! Disks that take nothing any more, not even the note that they have failed, and
//! work again later: what they hold must not be served or voted with.

use holdfast_sim::faults::Step;

use crate::named::{play, told};

/// The first sync of a start is that of the identity; others are of the log, the
/// state and the fragments. The node comes back when the disk works again.
#[test]
fn a_disk_whose_syncs_fail_in_a_start_is_refused_when_they_succeed_again() {
    for syncs in 0..5 {
        let steps = [
            (3_000, Step::Kill(2)),
            (3_100, Step::FailSyncs(2, syncs)),
            (3_200, Step::Start(2)),
            (26_000, Step::Mend(2)),
            (26_100, Step::Start(2)),
            (32_000, Step::Replace(2)),
        ];
        let report = play(20 + syncs, 3, &steps);
        assert!(told(
            &report,
            "node 2 ends itself: the disk has failed: syncing"
        ));
        let again = "node 2 stays away: this disk has failed before";
        assert!(told(&report, again), "after {syncs} syncs");
    }
}

/// The note was in the page cache alone, and the power cut has taken it.
#[test]
fn a_disk_whose_note_is_lost_in_a_power_cut_is_refused_by_the_others() {
    for (seed, fault) in [(26, Step::Refuse(2)), (27, Step::FailSyncs(2, 3))] {
        let steps = [
            (3_000, fault),
            (26_000, Step::PowerCut(2)),
            (26_100, Step::Mend(2)),
            (26_200, Step::Start(2)),
            (36_000, Step::Replace(2)),
        ];
        let report = play(seed, 3, &steps);
        assert!(told(&report, "node 2 ends itself: the disk has failed"));
        let noted = told(&report, "node 2 stays away: this disk has failed before");
        assert!(noted || told(&report, "knows of a later start"), "{seed}");
        assert!(noted || told(&report, "node 2 starts"), "{seed}");
    }
}

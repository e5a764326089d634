//! A steady load while something is wrong that must not matter to it.

use std::time::Duration;

use holdfast_client::ClusterError;
use holdfast_metadata::command::Refusal;
use holdfast_sim::Report;
use holdfast_sim::faults::Step;
use holdfast_sim::journal::{Did, Work};

use crate::named::{play, play_with, told};

fn between(report: &Report, from: u64, to: u64) -> Vec<&Did> {
    let second = Duration::from_secs;
    report.during(second(from), second(to)).collect()
}

/// In the hurry of the simulation no upload without an intent is waited for longer.
const FLOOR_DELAY: Duration = Duration::from_secs(6);

/// Refused for what the object is or has, as the client could expect, or given up
/// after longer than the clean-up waits here.
fn expected(did: &Did) -> bool {
    use Refusal::{ConditionFailed, Exhausted, NoSuchObject};
    match &did.error {
        None => true,
        Some(ClusterError::Refused(Refusal::UploadLost(_))) => did.took >= FLOOR_DELAY,
        Some(ClusterError::Refused(why)) => {
            matches!(why, ConditionFailed(_) | Exhausted | NoSuchObject)
        }
        Some(_) => false,
    }
}

fn count(did: &[&Did], work: impl Fn(Work) -> bool) -> usize {
    did.iter().filter(|did| work(did.work)).count()
}

fn is_put(work: Work) -> bool {
    matches!(work, Work::Put(_))
}

/// The time within which so many of a hundred were answered.
fn percentile(did: &[&Did], percent: usize) -> Duration {
    let mut took: Vec<Duration> = did.iter().map(|did| did.took).collect();
    took.sort();
    took[(took.len() - 1) * percent / 100]
}

#[test]
fn a_node_fifty_times_slower_slows_and_stops_nobody() {
    let pause = Duration::from_millis(20);
    let run = |slow: bool| {
        let steps = [
            (3_000, Step::SlowNode(2, slow)),
            (28_000, Step::SlowNode(2, false)),
        ];
        play_with(11, 3, &steps, pause)
    };
    let (slow, even) = (run(true), run(false));
    // Not the first seconds: who is slow is found out by waiting for it.
    let (slow, even) = (between(&slow, 8, 28), between(&even, 8, 28));
    let failed: Vec<_> = slow.iter().filter(|did| !expected(did)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    for (what, work) in [
        ("puts", is_put as fn(Work) -> bool),
        ("reads", |work| work == Work::Read),
    ] {
        let (slow, even) = (count(&slow, work), count(&even, work));
        println!("{what}: {slow} with the slow node, {even} without");
        assert!(slow * 2 >= even, "{what}: {slow} of {even}");
    }
    for percent in [50, 90, 99] {
        let (slow, even) = (percentile(&slow, percent), percentile(&even, percent));
        println!("{percent} %: {slow:?} with the slow node, {even:?} without");
    }
}

#[test]
fn objects_are_read_and_written_for_five_minutes_without_a_majority_of_group_0() {
    let steps = [
        (5_000, Step::Silence(Some(0))),
        (305_000, Step::Silence(None)),
    ];
    let report = play_with(14, 3, &steps, Duration::from_millis(1_000));
    // Late in it as well as early, and nothing fails or is refused but for what
    // an object is or has.
    for minute in 0..5 {
        let did = between(&report, 5 + minute * 60, 65 + minute * 60);
        let failed: Vec<_> = did.iter().filter(|did| !expected(did)).collect();
        assert!(failed.is_empty(), "minute {minute}: {failed:#?}");
        let puts = count(&did, is_put);
        let reads = count(&did, |work| work == Work::Read);
        let others = did.len() - puts - reads;
        println!("minute {minute}: {puts} puts, {reads} reads, {others} others");
        assert!(
            puts > 30 && reads > 20 && others > 20,
            "{puts} {reads} {others}"
        );
    }
}

#[test]
fn a_drain_compaction_and_a_new_layout_go_on_beside_a_full_disk_a_wrong_clock_and_a_slow_node() {
    let mut steps = vec![
        (2_500, Step::Grow),
        (4_000, Step::Full(2, true)),
        (4_500, Step::Clock(3, 3_600_000)),
        (5_000, Step::SlowNode(4, true)),
        (6_000, Step::Drain(1)),
        (120_000, Step::StartAll),
    ];
    for turn in 0..20 {
        let node = 1 + turn as usize % 5;
        steps.push((6_500 + turn * 2_000, Step::KeepIndex(node, turn % 2 == 0)));
    }
    steps.sort_by_key(|(at, _)| *at);
    let report = play(24, 4, &steps);
    assert!(told(&report, "is ordered to be Draining"));
    assert_eq!(report.drained_under_faults, [1]);
    for point in ["compact: freed", "layout.set", "layout.swapped"] {
        let passed = report.passed_under_faults.get(point).copied();
        println!("{point}: {passed:?}");
        assert!(passed.is_some(), "{:?}", report.passed_under_faults);
    }
}

//! Faults with a name, each alone and at a fixed time, under the same clients
//! and the same judge as the seeds.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

use std::time::Duration;

use holdfast_sim::faults::{Step, WORK};
use holdfast_sim::{Report, Run, run_with};

/// A seed with steps of its own, in milliseconds; clients work for a while
/// after the last.
fn play(seed: u64, nodes: usize, steps: &[(u64, Step)]) -> Report {
    let steps: Vec<_> = steps
        .iter()
        .map(|(at, step)| (Duration::from_millis(*at), step.clone()))
        .collect();
    let last = steps.last().map_or(Duration::ZERO, |(at, _)| *at);
    let work = (last + Duration::from_secs(3)).max(WORK / 3);
    let run = Run {
        seed,
        nodes: Some(nodes),
        live: false,
        // Long runs take their time.
        pause: Duration::from_millis(if last.as_secs() > 60 { 6_000 } else { 250 }),
    };
    let report = run_with(run, |_, _| (steps, work));
    let from = report.story.len().saturating_sub(80);
    assert!(
        report.wrong.is_empty(),
        "{:#?} after\n{}",
        report.wrong,
        report.story[from..].join("\n")
    );
    assert!(report.counts.puts > 5, "{:?}", report.counts);
    report
}

fn told(report: &Report, what: &str) -> bool {
    report.story.iter().any(|line| line.contains(what))
}

#[test]
fn a_cluster_of_five_is_founded_and_bears_the_loss_of_any_node() {
    play(1, 5, &[(3_000, Step::PowerCut(4)), (9_000, Step::Start(4))]);
}

#[test]
fn a_cluster_grows_and_a_node_is_drained_until_its_disk_is_empty() {
    let report = play(2, 3, &[(3_000, Step::Grow), (5_000, Step::Drain(1))]);
    assert!(told(&report, "is ordered to be Draining"));
}

#[test]
fn a_disk_that_is_replaced_by_an_empty_one_is_filled_again() {
    play(3, 3, &[(4_000, Step::SwapDisk(2))]);
}

#[test]
fn a_node_given_up_for_lost_is_refused_when_it_comes_back() {
    let steps = [
        (4_000, Step::Lose(2)),
        (7_000, Step::Start(2)),
        (15_000, Step::Replace(2)),
    ];
    let report = play(4, 4, &steps);
    assert!(told(&report, "refuses this node"), "{:#?}", report.story);
    assert!(!told(&report, "node 2 still runs"));
}

#[test]
fn a_node_with_an_older_copy_of_its_disk_is_refused() {
    let steps = [
        (4_000, Step::CopyDisk(2)),
        (4_300, Step::Kill(2)),
        (4_400, Step::Start(2)),
        (6_000, Step::PowerCut(2)),
        (6_200, Step::Start(2)),
        (9_000, Step::OldDisk(2)),
        (14_000, Step::Replace(2)),
    ];
    let report = play(5, 3, &steps);
    assert!(told(&report, "node 2 ends itself"));
    assert!(!told(&report, "node 2 still runs"));
}

#[test]
fn bits_that_flip_in_the_raft_log_are_found_and_the_disk_is_replaced() {
    let steps = [(6_000, Step::RotLog(2, 3)), (8_000, Step::Replace(2))];
    let report = play(6, 3, &steps);
    assert!(
        told(&report, "node 2 stays away"),
        "it started with a rotten log"
    );
}

#[test]
fn bits_that_flip_in_the_state_store_are_found_and_the_disk_is_replaced() {
    let steps = [(6_000, Step::RotState(3, 40)), (9_000, Step::Replace(3))];
    let report = play(7, 3, &steps);
    assert!(
        told(&report, "node 3 stays away") || told(&report, "node 3 ends itself"),
        "it went on with a rotten state"
    );
}

#[test]
fn bits_that_flip_in_heads_and_closing_records_of_fragments_cost_nothing() {
    let steps = [
        (6_000, Step::Flip(2, 10, true)),
        (7_000, Step::PowerCut(2)),
        (7_500, Step::Start(2)),
    ];
    play(8, 3, &steps);
}

#[test]
fn a_file_of_fragments_that_reads_as_zeros_costs_nothing() {
    let steps = [
        (6_000, Step::ZeroFile(1)),
        (7_000, Step::PowerCut(1)),
        (7_500, Step::Start(1)),
    ];
    play(9, 3, &steps);
}

#[test]
fn full_disks_refuse_uploads_and_take_them_again() {
    let report = play(
        10,
        3,
        &[(3_000, Step::FullAll(true)), (9_000, Step::FullAll(false))],
    );
    assert!(report.counts.reads > 5);
}

#[test]
fn a_node_fifty_times_slower_slows_and_stops_nobody() {
    play(
        11,
        3,
        &[
            (3_000, Step::SlowNode(2, true)),
            (12_000, Step::SlowNode(2, false)),
        ],
    );
}

#[test]
fn clocks_an_hour_off_on_each_node_in_turn_are_borne() {
    let mut steps = Vec::new();
    for (turn, node) in (1..=3).enumerate() {
        for (half, off) in [3_600_000, -3_600_000].into_iter().enumerate() {
            let at = 3_000 + (turn as u64 * 2 + half as u64) * 2_000;
            steps.push((at, Step::Clock(node, off)));
            steps.push((at + 1_800, Step::Clock(node, 0)));
        }
    }
    play(12, 3, &steps);
}

#[test]
fn leaders_that_are_killed_again_and_again_lose_nothing() {
    let mut steps = Vec::new();
    for turn in 0..12 {
        let group = if turn % 3 == 0 { 0 } else { 1 + turn as u16 };
        steps.push((3_000 + turn * 1_500, Step::CutLeader(group)));
        steps.push((3_900 + turn * 1_500, Step::StartAll));
    }
    play(13, 3, &steps);
}

#[test]
fn objects_are_read_and_written_for_five_minutes_without_a_majority_of_group_0() {
    let steps = [
        (5_000, Step::Silence(Some(0))),
        (305_000, Step::Silence(None)),
    ];
    let report = play(14, 3, &steps);
    let at = |line: &String| {
        line.trim_start()
            .split('.')
            .next()
            .unwrap()
            .parse::<u64>()
            .ok()
    };
    // Late in it as well as early, and nothing fails but what the conditions of
    // puts refuse.
    let minutes: Vec<_> = (0..5)
        .map(|minute| {
            let minute = 10 + minute * 60..70 + minute * 60;
            let within = |line: &&String| at(line).is_some_and(|second| minute.contains(&second));
            let lines = report.story.iter().filter(within);
            let (mut done, mut failed) = (0, 0);
            for line in lines.filter(|line| line.contains(" put ")) {
                done += usize::from(line.ends_with(": done"));
                failed += usize::from(line.contains("quorum") || line.contains("unknown"));
            }
            (done, failed)
        })
        .collect();
    assert!(
        minutes
            .iter()
            .all(|(done, failed)| *done > 3 && *failed == 0),
        "{minutes:?}"
    );
}

#[test]
fn named_points_are_passed_and_power_is_cut_at_one_of_each_kind() {
    let steps = [
        (3_000, Step::CutAt("log.written", 20)),
        (6_000, Step::StartAll),
        (7_000, Step::SwapDisk(2)),
        (7_100, Step::CutAt("repair.copied", 0)),
        (16_000, Step::StartAll),
        (17_000, Step::CutAt("layout.swapped", 0)),
        (24_000, Step::StartAll),
        (25_000, Step::CutAt("commit.applied", 20)),
        (27_000, Step::StartAll),
        (28_000, Step::CutAt("cleanup.deleted", 0)),
        (40_000, Step::StartAll),
    ];
    let report = play(15, 4, &steps);
    // A purge needs more log than so short a run writes; seeds come to it.
    let missed: Vec<_> = holdfast_sim::points::all()
        .filter(|point| *point != "log.purged" && !report.passed.contains_key(point))
        .collect();
    assert!(missed.is_empty(), "never passed: {missed:?}");
    let cut: Vec<_> = report
        .seen
        .iter()
        .filter_map(|seen| seen.strip_prefix("point:"))
        .collect();
    assert!(cut.len() >= 4, "power was cut only at {cut:?}");
}

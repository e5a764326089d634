//! Faults with a name, each alone and at a fixed time, under the same clients
//! and the same judge as the seeds.

use std::time::Duration;

use holdfast_sim::faults::{Step, WORK};
use holdfast_sim::network::{GOOD, Quality};
use holdfast_sim::{Report, Run, run_with};

/// A seed with steps of its own, in milliseconds; clients work for a while
/// after the last.
pub fn play(seed: u64, nodes: usize, steps: &[(u64, Step)]) -> Report {
    play_with(seed, nodes, steps, Duration::from_millis(250))
}

/// The same with clients that pause so long at most between two operations.
pub fn play_with(seed: u64, nodes: usize, steps: &[(u64, Step)], pause: Duration) -> Report {
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
        pause,
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

pub fn told(report: &Report, what: &str) -> bool {
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
fn two_whose_clocks_have_both_jumped_believe_each_other_again() {
    let mut steps = vec![
        (4_000, Step::PowerCut(3)),
        (5_000, Step::Pair(1, 2, true)),
        (9_500, Step::Pair(1, 2, false)),
        (38_000, Step::Start(3)),
    ];
    for (at, node) in [(6_000, 1), (7_500, 2)] {
        steps.push((at, Step::Clock(node, 3_600_000)));
        steps.push((at + 1_000, Step::Clock(node, 0)));
    }
    steps.sort_by_key(|(at, _)| *at);
    let report = play(20, 3, &steps);
    let put = |line: &&String| line.contains(" put ") && line.ends_with(": done");
    let second = |line: &String| line.trim_start().split('.').next().unwrap().parse::<u64>();
    let puts = report.story.iter().filter(put);
    let puts = puts.filter(|line| (24..38).contains(&second(line).unwrap()));
    assert!(puts.count() > 5, "{:#?}", report.story);
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
fn a_disk_whose_sync_fails_ends_its_node_and_is_refused_from_then_on() {
    let steps = [(4_000, Step::FailSync(2)), (8_000, Step::Replace(2))];
    let report = play(16, 3, &steps);
    assert!(told(&report, "node 2 ends itself"));
    assert!(told(&report, "node 2 gets an empty disk"));
}

#[test]
fn a_node_that_comes_and_goes_loses_nothing() {
    let mut steps = Vec::new();
    for turn in 0..14 {
        let step = match turn % 3 {
            0 => Step::Kill(2),
            _ => Step::PowerCut(2),
        };
        steps.push((3_000 + turn * 1_300, step));
        steps.push((3_500 + turn * 1_300, Step::Start(2)));
    }
    play(17, 3, &steps);
}

#[test]
fn partitions_one_way_flapping_and_overlapping_are_borne() {
    let mut steps = vec![
        (3_000, Step::Deaf(1, true)),
        (5_000, Step::Mute(2, true)),
        (5_500, Step::Deaf(1, false)),
        (8_000, Step::Isolate(3, true)),
        (8_500, Step::Mute(2, false)),
        (11_000, Step::Isolate(3, false)),
        (11_200, Step::Pair(1, 2, true)),
        (13_000, Step::Pair(2, 3, true)),
        (15_000, Step::Pair(1, 2, false)),
        (17_000, Step::Pair(2, 3, false)),
    ];
    for turn in 0..10 {
        let on = turn % 2 == 0;
        steps.push((18_000 + turn * 700, Step::Deaf(1 + turn as usize % 3, on)));
    }
    for node in 1..=3 {
        steps.push((26_000, Step::Deaf(node, false)));
    }
    let bad = Quality {
        lost_per_mille: 60,
        max_latency_millis: 60,
        late_per_mille: 60,
        late_millis: 9_000,
        repeated_per_mille: 200,
    };
    steps.push((26_500, Step::Links(bad)));
    steps.push((32_000, Step::Links(GOOD)));
    play(18, 3, &steps);
}

#[test]
fn a_drain_and_compaction_go_on_under_power_cuts_and_partitions() {
    let mut steps = vec![
        (3_000, Step::Drain(1)),
        (4_000, Step::PowerCut(2)),
        (6_000, Step::Start(2)),
        (7_000, Step::Isolate(3, true)),
        (9_000, Step::Isolate(3, false)),
        (10_000, Step::Kill(1)),
        (11_000, Step::Start(1)),
        (12_000, Step::CutLeader(0)),
        (13_500, Step::StartAll),
        (14_000, Step::CutAt("compact: switched", 0)),
        (20_000, Step::StartAll),
        (20_500, Step::PowerCutAll),
        (21_500, Step::StartAll),
    ];
    for turn in 0..8 {
        let node = 1 + turn as usize % 4;
        steps.push((3_500 + turn * 2_000, Step::KeepIndex(node, turn % 2 == 0)));
    }
    steps.sort_by_key(|(at, _)| *at);
    let report = play(19, 4, &steps);
    assert!(told(&report, "is ordered to be Draining"));
    assert!(report.passed.contains_key("compact: freed"));
}

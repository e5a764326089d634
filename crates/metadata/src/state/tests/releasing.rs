//! Which formats the cluster writes.

use super::*;
use crate::command::ClusterCommand;
use holdfast_model::release::VersionRange;
use holdfast_model::{ActiveRelease, LayoutNode, NodeId, NodeState, Release, Supported};

fn minor(minor: u32) -> Supported {
    let range = VersionRange {
        min: (minor - 1).max(1),
        max: minor,
    };
    Supported {
        release: Release {
            major: 0,
            minor,
            patch: 4,
        },
        wire: range,
        disk: range,
    }
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn start(number: u8, incarnation: u64, supports: Supported) -> ClusterCommand {
    ClusterCommand::Join {
        node: node(number),
        disk: disk(u64::from(number)),
        address: format!("node{number}:8000"),
        zone: Some("a".into()),
        host: None,
        incarnation,
        supports,
    }
}

fn run(bench: &mut Bench, change: ClusterCommand) -> Outcome {
    bench.run(Command::Cluster(Box::new(change)))
}

fn finalize(to: u32) -> ClusterCommand {
    let to = minor(to).newest();
    ClusterCommand::Finalize { to }
}

fn active(bench: &Bench) -> ActiveRelease {
    match bench.ask(&Query::Cluster) {
        Answer::Cluster(state) => state.active,
        other => panic!("{other:?}"),
    }
}

/// Why group 0 holds back.
fn held(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused(Refusal::Held(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Group 0 of a cluster with a node of each of these minor releases.
fn cluster_of(minors: &[u32]) -> Bench {
    let mut bench = Bench::of(GroupId::CLUSTER, &cluster_state(1));
    for (number, of) in (1..).zip(minors) {
        let joined = run(&mut bench, start(number, 1, minor(*of)));
        assert!(matches!(joined, Outcome::Joined(_)), "{joined:?}");
    }
    bench
}

#[test]
fn what_a_node_cannot_read_is_not_finalised_and_the_node_is_named() {
    let mut bench = cluster_of(&[2, 1, 2]);
    let why = held(run(&mut bench, finalize(2)));
    assert!(why.contains(&node(2).to_string()), "{why}");
    assert!(why.contains("node2:8000 is of release 0.1.4"), "{why}");
    assert!(!why.contains("node1:8000"), "{why}");
    assert_eq!(active(&bench), ActiveRelease::FIRST);
    run(&mut bench, start(2, 2, minor(2)));
    assert_eq!(run(&mut bench, finalize(2)), Outcome::Done);
    assert_eq!(active(&bench), minor(2).newest());
    // The same again, under another id, changes nothing.
    assert_eq!(run(&mut bench, finalize(2)), Outcome::Done);
}

#[test]
fn a_node_that_was_given_up_holds_nothing_back() {
    let mut bench = cluster_of(&[2, 1]);
    let lost = ClusterCommand::SetNodeState {
        node: node(2),
        state: NodeState::Lost,
    };
    held(run(&mut bench, finalize(2)));
    run(&mut bench, lost);
    assert_eq!(run(&mut bench, finalize(2)), Outcome::Done);
}

#[test]
fn a_cluster_goes_up_by_one_step_and_never_down() {
    let mut bench = cluster_of(&[2]);
    let refused = |outcome| matches!(outcome, Outcome::Refused(Refusal::Invalid(_)));
    assert!(refused(run(&mut bench, finalize(3))));
    assert_eq!(run(&mut bench, finalize(2)), Outcome::Done);
    assert!(refused(run(&mut bench, finalize(1))));
    assert_eq!(active(&bench), minor(2).newest());
}

#[test]
fn a_repeated_request_gets_its_first_outcome() {
    let mut bench = cluster_of(&[1]);
    let request = bench.request(Command::Cluster(Box::new(finalize(2))));
    let first = bench.send(&request);
    held(first.clone());
    run(&mut bench, start(1, 2, minor(2)));
    assert_eq!(bench.send(&request), first);
    assert_eq!(active(&bench), ActiveRelease::FIRST);
}

#[test]
fn a_start_that_cannot_read_what_is_written_is_refused_and_both_are_named() {
    let mut bench = cluster_of(&[2, 2]);
    run(&mut bench, finalize(2));
    let old = held(run(&mut bench, start(2, 2, minor(1))));
    assert!(old.contains("release 0.2.0 (wire 2, disk 2)"), "{old}");
    assert!(old.contains("this is release 0.1.4"), "{old}");
    // One that skips a release can read no more of it.
    let new = held(run(&mut bench, start(3, 1, minor(4))));
    assert!(new.contains("image of release 0.2.0 first"), "{new}");
    let next = run(&mut bench, start(2, 2, minor(3)));
    assert!(matches!(next, Outcome::Joined(_)), "{next:?}");
}

/// What a release appended that its elder does not know, at the end of an array.
fn without_last(bytes: &[u8], last: &[u8]) -> Vec<u8> {
    let mut earlier = bytes.strip_suffix(last).unwrap().to_vec();
    earlier[0] -= 1;
    earlier
}

#[test]
fn states_and_commands_of_before_are_read_as_of_the_first_release() {
    let first_active = minicbor::to_vec(ActiveRelease::FIRST).unwrap();
    let first_supported = minicbor::to_vec(Supported::FIRST).unwrap();
    let state = cluster_state(1);
    let bytes = minicbor::to_vec(&state).unwrap();
    let earlier = without_last(&bytes, &first_active);
    assert_eq!(minicbor::decode::<ClusterState>(&earlier).unwrap(), state);

    let bench = cluster_of(&[1]);
    let Answer::Cluster(state) = bench.ask(&Query::Cluster) else {
        panic!("no state");
    };
    let mut known = state.layout.nodes[&node(1)].clone();
    known.supports = Supported::FIRST;
    let bytes = minicbor::to_vec(&known).unwrap();
    let earlier = without_last(&bytes, &first_supported);
    assert_eq!(minicbor::decode::<LayoutNode>(&earlier).unwrap(), known);
}

#[test]
fn the_command_stays_as_it_is_in_logs() {
    let bytes = minicbor::to_vec(finalize(2)).unwrap();
    // Variant 14 of an array: formats of 0.2.0, wire 2, disk 2.
    let golden = [0x82, 14, 0x81, 0x83, 0x83, 0, 2, 0, 2, 2];
    assert_eq!(bytes, golden);
    let decoded: ClusterCommand = minicbor::decode(&golden).unwrap();
    assert_eq!(decoded, finalize(2));
}

//! The cluster as a whole: well, born, placed.

use super::*;

#[test]
fn nothing_is_done_to_a_cluster_that_is_well() {
    let verdict = World::of(3).decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.notes, []);
    assert_eq!((verdict.storage_replicas, verdict.busy), (3, Busy::No));
    assert_eq!(verdict.storage_disruptions, 1);
}

#[test]
fn nobody_may_take_a_node_while_an_object_lacks_a_copy_or_somebody_works_on_one() {
    let mut degraded = World::of(3);
    let census = degraded.sight.censuses.get_mut(&GroupId(1)).unwrap();
    census.degraded = 1;
    assert_eq!(degraded.decide().storage_disruptions, 0);
    let mut uncounted = World::of(3);
    uncounted.state().layout.epoch = Epoch(6);
    assert_eq!(uncounted.decide().storage_disruptions, 0);
    let mut held = World::of(3);
    held.hold_permit(1, "a person works on it");
    assert_eq!(held.decide().storage_disruptions, 0);
    let mut leaderless = World::of(3);
    leaderless.sight.leaders.clear();
    assert_eq!(leaderless.decide().storage_disruptions, 0);
}

#[test]
fn a_cluster_is_founded_once_all_first_members_answer() {
    let mut world = World::of(3);
    world.sight = Sight::default();
    let verdict = world.decide();
    assert_eq!((verdict.busy, verdict.steps), (Busy::Birth, vec![]));
    for ordinal in 0..3 {
        let mut unborn = status(ordinal);
        unborn.cluster = None;
        world.sight.nodes.insert(ordinal, unborn);
    }
    let ordinals = vec![0, 1, 2];
    assert_eq!(world.decide().steps, [Step::Found { ordinals }]);
}

#[test]
fn a_node_whose_pod_has_moved_is_placed_anew() {
    let mut world = World::of(3);
    world.pods.get_mut(&1).unwrap().machine = Some("machine-2".into());
    let step = Step::Place {
        node: id(1),
        zone: "zone-2".into(),
        machine: "machine-2".into(),
    };
    assert_eq!(world.decide().steps, [step]);
}

#[test]
fn nothing_is_decided_while_the_resource_is_suspended() {
    let mut world = World::of(4);
    world.want(3);
    world.outdate(&[0]);
    world.resource.spec.hibernate = true;
    world.resource.spec.suspend = true;
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.hibernated), (vec![], false));
}

#[test]
fn a_node_that_no_machine_takes_is_told_with_numbers() {
    let mut world = World::of(3);
    world.want(4);
    world.set.spec.as_mut().unwrap().replicas = Some(4);
    let waiting = PodSight {
        ready: false,
        machine: None,
        not_ready_seconds: 20,
        unschedulable: Some("0/3 nodes are available".into()),
        ..pod(3)
    };
    world.pods.insert(3, waiting);
    let (reason, sentence) = world.decide().stalled.unwrap();
    assert_eq!(reason, "NoMachine");
    for word in ["4 storage nodes", "3 have", "demo-node-3", "0/3 nodes"] {
        assert!(sentence.contains(word), "{sentence}");
    }
    // One that has joined waits for its own machine.
    world.want(3);
    world.pods.remove(&3);
    world.silence(2);
    let away = world.pods.get_mut(&2).unwrap();
    (away.ready, away.not_ready_seconds) = (false, 20);
    away.unschedulable = Some("0/3 nodes are available".into());
    assert_eq!(world.decide().stalled, None);
}

#[test]
fn the_drain_of_a_machine_is_told_for_what_it_waits() {
    let drained = || {
        let mut world = World::of(3);
        world.machines.get_mut("machine-1").unwrap().cordoned = true;
        world
    };
    assert_eq!(drained().decide().notes, [], "it may go");
    let mut degraded = drained();
    let census = degraded.sight.censuses.get_mut(&GroupId(1)).unwrap();
    census.degraded = 4;
    let notes = degraded.decide().notes;
    let told = notes
        .iter()
        .find(|note| note.reason == "DrainWaits")
        .unwrap();
    let sentence = &told.sentence;
    assert!(
        sentence.contains("demo-node-1") && sentence.contains("4 objects lack a copy"),
        "{sentence}"
    );
    let mut held = drained();
    held.hold_permit(0, "a person works on it");
    let told = held.decide().notes;
    assert!(
        told.iter()
            .any(|note| note.sentence.contains("a person works on it"))
    );
    // Elsewhere nothing waits.
    degraded.machines.get_mut("machine-1").unwrap().cordoned = false;
    assert!(
        degraded
            .decide()
            .notes
            .iter()
            .all(|note| note.reason != "DrainWaits")
    );
}

//! A new release or configuration goes round.

use super::*;

#[test]
fn an_outdated_pod_is_restarted_with_the_permit_from_the_highest_down() {
    let mut world = World::of(3);
    world.outdate(&[0, 1, 2]);
    let restart = |ordinal| Step::Restart {
        node: id(ordinal),
        ordinal,
        anyway: false,
    };
    let verdict = world.decide();
    assert_eq!(
        (verdict.busy, verdict.steps),
        (Busy::Rolling, vec![restart(2)])
    );
    // Held, and the pod is still the old one: an operator died in between.
    world.hold_permit(2, RESTART);
    assert_eq!(world.decide().steps, [restart(2)]);
    // The new pod is not ready: nobody else is touched.
    world.pods.insert(2, pod(2));
    world.pods.get_mut(&2).unwrap().ready = false;
    assert_eq!(world.decide().steps, []);
    // It is ready, but its node does not answer yet.
    world.pods.get_mut(&2).unwrap().ready = true;
    world.silence(2);
    assert_eq!(world.decide().steps, []);
    // It does.
    world.sight.nodes.insert(2, status(2));
    let release = Step::Release {
        node: id(2),
        epoch: Epoch(7),
    };
    assert_eq!(world.decide().steps, [release]);
    world.state().permit = None;
    assert_eq!(world.decide().steps, [restart(1)]);
}

#[test]
fn a_pod_that_serves_nothing_is_replaced_first_and_needs_no_permit() {
    let mut world = World::of(3);
    world.outdate(&[0, 1, 2]);
    world.silence(0);
    let down = world.pods.get_mut(&0).unwrap();
    (down.ready, down.not_ready_seconds) = (false, 5);
    assert_eq!(world.decide().steps, [Step::DeletePod { ordinal: 0 }]);
    // While nobody speaks for the cluster it must have been so for a minute.
    world.sight.leaders.clear();
    assert_eq!(world.decide().steps, []);
    world.pods.get_mut(&0).unwrap().not_ready_seconds = 60;
    assert_eq!(world.decide().steps, [Step::DeletePod { ordinal: 0 }]);
}

#[test]
fn no_pod_is_replaced_before_its_set_has_been_looked_at() {
    let mut world = World::of(3);
    world.outdate(&[0, 1, 2]);
    world.set.metadata.generation = Some(3);
    assert_eq!(world.decide().steps, []);
}

#[test]
fn a_rollout_waits_for_whoever_has_the_permit() {
    let mut world = World::of(3);
    world.outdate(&[2]);
    world.hold_permit(0, "a person works on it");
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.notes.first().unwrap().reason, "PermitHeld");
}

#[test]
fn a_person_may_say_that_one_generation_goes_on_while_degraded() {
    let mut world = World::of(3);
    world.outdate(&[2]);
    let key = holdfast_plan::names::PROCEED_WHILE_DEGRADED;
    let says = |generation: &str| BTreeMap::from([(key.to_owned(), generation.to_owned())]);
    let anyway = |world: &World| match world.decide().steps.as_slice() {
        [Step::Restart { anyway, .. }] => *anyway,
        other => panic!("{other:?}"),
    };
    world.resource.metadata.annotations = Some(says("3"));
    assert!(!anyway(&world));
    world.resource.metadata.annotations = Some(says("4"));
    assert!(anyway(&world));
    // It is a lack of copies that is passed over, not another node that is away.
    let less = |change: fn(&mut World)| {
        let mut world = World::of(3);
        world.outdate(&[2]);
        world.resource.metadata.annotations = Some(says("4"));
        change(&mut world);
        world
    };
    assert!(!anyway(&less(|world| world.silence(0))));
    assert!(!anyway(&less(|world| {
        world.pods.get_mut(&0).unwrap().ready = false;
    })));
    assert!(!anyway(&less(|world| {
        world.pods.get_mut(&0).unwrap().deleting = true;
    })));
    assert!(!anyway(&less(|world| drop(world.pods.remove(&1)))));
}

#[test]
fn one_node_at_a_time_is_replaced_also_where_a_person_passes_over_the_census() {
    let mut world = World::of(3);
    world.outdate(&[0, 1, 2]);
    let key = holdfast_plan::names::PROCEED_WHILE_DEGRADED;
    let says = BTreeMap::from([(key.to_owned(), "4".to_owned())]);
    world.resource.metadata.annotations = Some(says);
    world.census().degraded = 5;
    let restart = |ordinal| Step::Restart {
        node: id(ordinal),
        ordinal,
        anyway: true,
    };
    assert_eq!(world.decide().steps, [restart(2)]);
    // It was granted, and the pod was deleted: until it is back nobody else goes.
    world.hold_permit(2, RESTART);
    world.silence(2);
    world.pods.get_mut(&2).unwrap().deleting = true;
    assert_eq!(world.decide().steps, []);
    world.pods.remove(&2);
    assert_eq!(world.decide().steps, []);
    world.pods.insert(2, pod(2));
    assert_eq!(world.decide().steps, [], "it is ready and does not answer");
    world.sight.nodes.insert(2, status(2));
    let verdict = world.decide();
    assert!(matches!(verdict.steps[..], [Step::Release { .. }]));
    world.state().permit = None;
    assert_eq!(world.decide().steps, [restart(1)]);
}

#[test]
fn a_ready_pod_whose_node_is_not_known_waits_for_it_to_join_and_others_do_not() {
    let mut world = World::of(4);
    world.outdate(&[2, 3]);
    // Those who answer may not have heard of it.
    world.state().layout.nodes.remove(&id(3));
    let restart = Step::Restart {
        node: id(2),
        ordinal: 2,
        anyway: false,
    };
    assert_eq!(world.decide().steps, [restart]);
    world.pods.insert(2, pod(2));
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.busy), (vec![], Busy::Rolling));
    assert_eq!(verdict.notes.first().unwrap().reason, "NotJoined");
    world.sight.leaders.clear();
    assert_eq!(world.decide().steps, []);
    // It serves nothing: nobody need be asked.
    world.stop(3, 70);
    assert_eq!(world.decide().steps, [Step::DeletePod { ordinal: 3 }]);
}

#[test]
fn a_fix_reaches_pods_that_serve_nothing_although_nobody_can_grant_a_permit() {
    let mut world = World::of(3);
    // One setting has taken two down, one of them with the permit.
    world.outdate(&[1, 2]);
    world.hold_permit(2, RESTART);
    world.sight.leaders.clear();
    for ordinal in [1, 2] {
        world.silence(ordinal);
        let down = world.pods.get_mut(&ordinal).unwrap();
        (down.ready, down.not_ready_seconds) = (false, 70);
    }
    assert_eq!(world.decide().steps, [Step::DeletePod { ordinal: 1 }]);
    world.pods.get_mut(&1).unwrap().deleting = true;
    assert_eq!(world.decide().steps, []);
    world.pods.insert(1, pod(1));
    assert_eq!(world.decide().steps, [Step::DeletePod { ordinal: 2 }]);
    // All three: nobody even says which cluster it is.
    world.outdate(&[0, 1]);
    for ordinal in [0, 1] {
        world.silence(ordinal);
        let down = world.pods.get_mut(&ordinal).unwrap();
        (down.ready, down.not_ready_seconds) = (false, 70);
    }
    world.sight.state = None;
    assert_eq!(world.decide().steps, [Step::DeletePod { ordinal: 0 }]);
}

#[test]
fn while_one_is_restarted_another_that_is_silent_for_a_moment_is_left_alone() {
    let mut world = World::of(5);
    world.outdate(&[0, 1, 2, 3]);
    world.hold_permit(4, RESTART);
    world.silence(1);
    let down = world.pods.get_mut(&1).unwrap();
    (down.ready, down.not_ready_seconds) = (false, 5);
    assert_eq!(world.decide().steps, []);
}

#[test]
fn a_pod_that_kubernetes_refuses_to_make_is_told_after_a_while() {
    let mut world = World::of(3);
    world.outdate(&[0, 1]);
    world.hold_permit(2, RESTART);
    world.silence(2);
    let stalled = |world: &World| {
        let verdict = world.decide();
        assert_eq!((verdict.steps, verdict.busy), (vec![], Busy::Rolling));
        verdict.stalled
    };
    world.now_seconds = 1_000;
    world.pods.get_mut(&2).unwrap().deleting = true;
    assert_eq!(stalled(&world), None, "it takes its time to end");
    world.pods.remove(&2);
    let (reason, sentence) = stalled(&world).unwrap();
    assert_eq!(reason, "RolloutStopped");
    assert!(sentence.contains("demo-node-2") && sentence.contains("statefulset demo-node"));
    world.now_seconds = 10;
    assert_eq!(stalled(&world), None);
}

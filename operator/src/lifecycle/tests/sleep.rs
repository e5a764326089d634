//! Falling asleep, and waking up.

use holdfast_model::{HIBERNATE, WAKE_LIMIT};

use super::*;

fn sleepy(nodes: u32) -> World {
    let mut world = World::of(nodes);
    world.resource.spec.hibernate = true;
    world
}

#[test]
fn a_cluster_falls_asleep_once_it_has_been_told_and_stays_so() {
    let mut world = sleepy(3);
    let verdict = world.decide();
    assert_eq!(verdict.steps, [Step::Sleep { node: id(0) }]);
    assert!(!verdict.hibernated, "it does not know yet");
    assert_eq!(verdict.busy, Busy::Scaling);
    world.hold_permit(0, HIBERNATE);
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.hibernated), (vec![], true));
    assert_eq!(verdict.notes, []);
    // Pods go one after the other, and nobody speaks any more.
    world.silence(0);
    world.sight.leaders.clear();
    assert!(world.decide().hibernated);
    world.all_gone();
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.hibernated), (vec![], true));
    // One that is made asleep has neither set nor pods.
    let never = decide(&world.situation(None));
    assert_eq!((never.steps, never.hibernated), (vec![], true));
}

#[test]
fn a_set_that_is_being_made_again_does_not_pass_for_one_that_sleeps() {
    let world = sleepy(3);
    assert!(!decide(&world.situation(None)).hibernated);
}

#[test]
fn a_cluster_does_not_fall_asleep_in_the_middle_of_something_and_says_of_what() {
    let awake = |change: &dyn Fn(&mut World), why: &str| {
        let mut world = sleepy(4);
        change(&mut world);
        let verdict = world.decide();
        assert!(!verdict.hibernated, "{why}");
        let sleeps = |step: &Step| matches!(step, Step::Sleep { .. });
        assert!(!verdict.steps.iter().any(sleeps), "{why}");
        assert_ne!(verdict.busy, Busy::No, "{why}");
        let mut notes = verdict.notes.iter();
        let note = notes.find(|note| note.reason == "HibernateWaits").unwrap();
        assert!(
            note.warning && note.sentence.contains(why),
            "{}",
            note.sentence
        );
    };
    awake(&|world| world.hold_permit(2, RESTART), RESTART);
    awake(
        &|world| world.hold_permit(2, "a new kernel"),
        "a new kernel",
    );
    let emptied = |world: &mut World| world.node(3).state = NodeState::Draining;
    awake(&emptied, &id(3).to_string());
    // Between a drain and the removal, and between two of them.
    let drained = |world: &mut World| {
        world.want(3);
        world.node(3).state = NodeState::Drained;
        world.mark(3);
    };
    awake(&drained, &id(3).to_string());
    // Between two nodes of an upgrade nobody has the permit.
    awake(&|world| world.outdate(&[0, 1]), "2 pods wait");
    let changed = |world: &mut World| world.set.metadata.generation = Some(3);
    awake(&changed, "StatefulSet");
}

#[test]
fn what_has_not_begun_yet_is_no_reason_to_stay_awake() {
    let mut world = sleepy(4);
    world.want(3);
    assert_eq!(world.decide().steps, [Step::Sleep { node: id(0) }]);
    // Nor is what can be mended later as well.
    world.want(4);
    world.census().degraded = 3;
    world.stop(3, 5);
    assert_eq!(world.decide().steps, [Step::Sleep { node: id(0) }]);
}

#[test]
fn a_cluster_that_nobody_speaks_for_is_put_to_sleep_after_a_minute_with_a_warning() {
    let mut world = sleepy(3);
    world.hold_permit(2, RESTART);
    world.sight.leaders.remove(&GroupId::CLUSTER);
    world.leaderless = Duration::from_secs(59);
    let verdict = world.decide();
    assert!(!verdict.hibernated);
    assert_eq!(verdict.notes.first().unwrap().reason, "HibernateWaits");
    world.leaderless = Duration::from_secs(60);
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.hibernated), (vec![], true));
    let note = verdict.notes.first().unwrap();
    assert!(note.warning);
    assert_eq!(note.reason, "HibernatingWithoutPermit");
    // Where group 0 has a leader it is asked, whatever else has none.
    let mut led = sleepy(3);
    led.sight.leaders.remove(&GroupId(2));
    led.leaderless = Duration::from_secs(600);
    assert_eq!(led.decide().steps, [Step::Sleep { node: id(0) }]);
}

/// A cluster that wakes up, of which only some nodes are there.
fn waking(there: &[u32]) -> World {
    let mut world = World::of(3);
    world.hold_permit(0, HIBERNATE);
    world.now_seconds = 30 * 24 * 3_600;
    for ordinal in 0..3 {
        if !there.contains(&ordinal) {
            world.stop(ordinal, 100);
        }
    }
    world
}

fn given_back() -> Step {
    Step::Release {
        node: id(0),
        epoch: Epoch(7),
    }
}

#[test]
fn the_permit_to_sleep_is_given_back_when_all_nodes_are_there_in_any_order() {
    for there in [&[0, 1][..], &[1, 2], &[0, 2]] {
        let verdict = waking(there).decide();
        assert_eq!((verdict.steps, verdict.storage_replicas), (vec![], 3));
        let note = verdict.notes.iter().find(|note| note.reason == "WakingUp");
        let missing = (0..3).find(|ordinal| !there.contains(ordinal)).unwrap();
        let pod = format!("demo-node-{missing}");
        assert!(note.unwrap().sentence.contains(&pod));
    }
    let mut world = waking(&[0, 1, 2]);
    assert_eq!(world.decide().steps, [given_back()]);
    world.sight.leaders.remove(&GroupId::CLUSTER);
    assert_eq!(world.decide().steps, [], "nobody could take it");
    // A node that was given up meanwhile, or never was, is not waited for.
    let mut lost = waking(&[0, 1]);
    lost.node(2).state = NodeState::Lost;
    assert_eq!(lost.decide().steps, [given_back()]);
}

#[test]
fn a_node_that_does_not_come_back_is_missed_after_a_while() {
    let mut world = waking(&[0, 1]);
    let limit = u64::try_from(WAKE_LIMIT.as_millis()).unwrap();
    let mut running = |millis: u64| {
        // One may have started anew: it counts since when the first was there.
        world.sight.nodes.get_mut(&1).unwrap().now = Timestamp(millis);
        world.decide()
    };
    assert_eq!(running(limit - 1).steps, []);
    let verdict = running(limit);
    assert_eq!(verdict.steps, [given_back()]);
    let note = verdict
        .notes
        .iter()
        .find(|note| note.reason == "NodesMissed");
    assert!(note.unwrap().sentence.contains("demo-node-2"));
}

#[test]
fn waking_is_called_off_and_a_fix_reaches_pods_that_do_not_start() {
    let mut world = waking(&[0, 1]);
    world.resource.spec.hibernate = true;
    assert!(world.decide().hibernated, "it has the permit already");
    world.resource.spec.hibernate = false;
    world.outdate(&[0, 1, 2]);
    assert_eq!(world.decide().steps, [Step::DeletePod { ordinal: 2 }]);
    world.pods.insert(2, pod(2));
    assert_eq!(world.decide().steps, [], "the others are ready");
}

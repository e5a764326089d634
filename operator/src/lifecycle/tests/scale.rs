//! More nodes, and fewer.

use super::*;

#[test]
fn a_smaller_cluster_drains_then_asks_then_shrinks_then_gives_back() {
    let mut world = World::of(4);
    world.want(3);
    let mark = |node| Step::Mark { node };
    let verdict = world.decide();
    let draining = Step::SetState {
        node: id(3),
        state: NodeState::Draining,
    };
    assert_eq!(verdict.steps, [mark(Some(id(3))), draining]);
    assert_eq!((verdict.storage_replicas, verdict.busy), (4, Busy::Scaling));
    // It drains: the number stays.
    world.node(3).state = NodeState::Draining;
    world.set.metadata.annotations = Some(BTreeMap::from([(MARK.to_owned(), id(3).to_string())]));
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.storage_replicas), (vec![], 4));
    // Found empty: the permit first.
    world.node(3).state = NodeState::Drained;
    let verdict = world.decide();
    assert_eq!(verdict.steps, [Step::PermitRemoval { node: id(3) }]);
    assert_eq!(verdict.storage_replicas, 4);
    world.hold_permit(3, REMOVE);
    // Why it is drained is noted before it goes.
    let verdict = world.decide();
    let noted = Step::NoteRemoved {
        ordinal: 3,
        node: Some(id(3)),
    };
    assert_eq!((verdict.steps, verdict.storage_replicas), (vec![noted], 4));
    world.claims.get_mut(&3).unwrap().removed = Some(id(3));
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.storage_replicas), (vec![], 3));
    // The set is smaller, and the pod still ends.
    world.set.spec.as_mut().unwrap().replicas = Some(3);
    world.silence(3);
    assert_eq!(world.decide().steps, [mark(None)]);
    world.pods.remove(&3);
    let release = Step::Release {
        node: id(3),
        epoch: Epoch(7),
    };
    assert_eq!(world.decide().steps, [release, mark(None)]);
}

#[test]
fn a_drain_that_somebody_took_back_is_taken_back() {
    let mut world = World::of(4);
    world.node(3).state = NodeState::Draining;
    // An administrator's own drain is not ours to end.
    assert_eq!(world.decide().steps, []);
    world.set.metadata.annotations = Some(BTreeMap::from([(MARK.to_owned(), id(3).to_string())]));
    let active = Step::SetState {
        node: id(3),
        state: NodeState::Active,
    };
    assert_eq!(world.decide().steps, [active, Step::Mark { node: None }]);
}

/// Why a fourth node is not drained, of a cluster that was changed.
fn refusal(change: impl FnOnce(&mut World)) -> String {
    let mut world = World::of(4);
    world.want(3);
    change(&mut world);
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.storage_replicas), (vec![], 4));
    let (reason, sentence) = verdict.stalled.expect("it is drained");
    assert_eq!(reason, "CannotScaleDown");
    let told = verdict.notes.iter().find(|note| note.reason == reason);
    assert_eq!(told.unwrap().sentence, sentence);
    sentence
}

#[test]
fn what_cannot_be_done_without_a_node_is_said_with_numbers() {
    let says = |sentence: String, words: &[&str]| {
        for word in words {
            assert!(sentence.contains(word), "{word}: {sentence}");
        }
    };
    let full = refusal(|world| {
        world.sight.nodes.get_mut(&3).unwrap().space.fragment_bytes = 200 << 30;
    });
    says(full, &["204800 MiB", "138"]);
    let few = refusal(|world| world.node(0).state = NodeState::Down);
    says(few, &["2 other nodes", "3 are needed"]);
    let away = refusal(|world| world.silence(1));
    says(away, &["1 of the nodes that stay", &id(1).to_string()]);
    let itself = refusal(|world| world.silence(3));
    says(itself, &["itself does not answer", "spec.removedNodes"]);
    let degraded = refusal(|world| world.census().degraded = 5);
    says(degraded, &["5 objects are below their redundancy"]);
    let missing = refusal(|world| world.census().missing = 7);
    says(missing, &["7 fragments missing"]);
}

#[test]
fn a_node_that_is_down_beside_enough_others_is_away_all_the_same() {
    let mut world = World::of(5);
    world.want(4);
    world.node(0).state = NodeState::Down;
    world.stop(0, 5);
    let (reason, _) = world.decide().stalled.unwrap();
    assert_eq!(reason, "CannotScaleDown");
    // One that was given up is nobody.
    world.node(0).state = NodeState::Lost;
    assert_eq!(world.decide().stalled, None);
}

#[test]
fn nothing_is_drained_until_the_objects_have_been_counted() {
    let mut world = World::of(4);
    world.want(3);
    world.state().layout.epoch = Epoch(6);
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.stalled), (vec![], None));
    assert_eq!(verdict.notes.first().unwrap().reason, "DrainWaits");
}

#[test]
fn a_zone_that_the_copies_need_keeps_its_last_node() {
    let zones = |zones: [&'static str; 4]| {
        move |world: &mut World| {
            for (ordinal, zone) in (0..).zip(zones) {
                world.node(ordinal).zone = Some(zone.into());
                let machine = format!("machine-{ordinal}");
                world.machines.get_mut(&machine).unwrap().zone = zone.into();
            }
        }
    };
    let sentence = refusal(zones(["a", "a", "b", "c"]));
    assert!(sentence.contains("3 zones, without it in 2"), "{sentence}");
    let drained = |zoned: [&'static str; 4], required: bool| {
        let mut world = World::of(4);
        world.want(3);
        zones(zoned)(&mut world);
        if required {
            world.resource.spec.nodes.placement.zones = holdfast_crd::Spread::Required;
        }
        world.decide().stalled.is_none()
    };
    // Its zone keeps another node, or three others are left.
    assert!(drained(["a", "b", "c", "c"], true));
    assert!(drained(["a", "b", "c", "d"], true));
    // There were not enough before: only who asked for it strictly is kept from it.
    assert!(drained(["a", "a", "a", "b"], false));
    assert!(!drained(["a", "a", "a", "b"], true));
}

#[test]
fn asking_for_more_nodes_during_a_drain_calls_it_off() {
    let draining = || {
        let mut world = World::of(4);
        world.want(3);
        world.node(3).state = NodeState::Draining;
        world.mark(3);
        assert_eq!(world.decide().steps, []);
        world
    };
    let active = Step::SetState {
        node: id(3),
        state: NodeState::Active,
    };
    for wanted in [4, 5] {
        let mut world = draining();
        world.want(wanted);
        let verdict = world.decide();
        let steps = [active.clone(), Step::Mark { node: None }];
        assert_eq!(verdict.steps, steps, "{wanted}");
        assert_eq!(verdict.storage_replicas, wanted);
        let told = |reason: &str| verdict.notes.iter().any(|note| note.reason == reason);
        assert!(told("DrainCancelled"));
        assert_eq!(told("ScalingUp"), wanted == 5);
    }
    // At its very end, with the permit to remove it.
    let mut world = draining();
    world.node(3).state = NodeState::Drained;
    world.hold_permit(3, REMOVE);
    world.want(4);
    let release = Step::Release {
        node: id(3),
        epoch: Epoch(7),
    };
    let steps = [release, active, Step::Mark { node: None }];
    assert_eq!(world.decide().steps, steps);
}

#[test]
fn a_node_that_never_joined_goes_at_once_but_only_where_the_cluster_says_so() {
    let mut world = World::of(4);
    world.want(3);
    world.silence(3);
    world.state().layout.nodes.remove(&id(3));
    assert_eq!(world.decide().storage_replicas, 4, "its pod is ready");
    world.stop(3, 5);
    assert_eq!(world.decide().storage_replicas, 3);
    // One that answers is about to join.
    world.sight.nodes.insert(3, status(3));
    assert_eq!(world.decide().storage_replicas, 4);
    world.silence(3);
    // Those who answer may not have heard of its joining.
    world.sight.leaders.remove(&GroupId::CLUSTER);
    assert_eq!(world.decide().storage_replicas, 4);
}

#[test]
fn a_node_that_was_removed_and_comes_back_takes_data_again() {
    let mut world = World::of(4);
    world.node(3).state = NodeState::Drained;
    world.claims.get_mut(&3).unwrap().removed = Some(id(3));
    let (ordinal, node) = (3, Some(id(3)));
    assert_eq!(world.decide().steps, [Step::Mark { node }]);
    // The note goes before it takes anything: a volume with it counts as empty.
    world.mark(3);
    let noted = Step::NoteRemoved {
        ordinal,
        node: None,
    };
    let active = Step::SetState {
        node: id(3),
        state: NodeState::Active,
    };
    let done = Step::Mark { node: None };
    let steps = [noted.clone(), active.clone(), done.clone()];
    assert_eq!(world.decide().steps, steps);
    // An operator that died in between goes on.
    world.claims.get_mut(&3).unwrap().removed = None;
    assert_eq!(world.decide().steps, [active, done.clone()]);
    world.node(3).state = NodeState::Active;
    assert_eq!(world.decide().steps, [done]);
    world.set.metadata.annotations = None;
    world.claims.get_mut(&3).unwrap().removed = Some(id(3));
    // What was noted and is not true any more goes, whoever has left it.
    assert_eq!(world.decide().steps, [noted]);
}

#[test]
fn nodes_that_come_back_on_their_volumes_do_so_one_after_the_other() {
    let mut world = World::of(5);
    for ordinal in [3, 4] {
        world.node(ordinal).state = NodeState::Drained;
        world.claims.get_mut(&ordinal).unwrap().removed = Some(id(ordinal));
    }
    let mark = |ordinal| Step::Mark {
        node: Some(id(ordinal)),
    };
    assert_eq!(world.decide().steps, [mark(3)]);
    world.mark(3);
    let activated = |step: &Step| matches!(step, Step::SetState { .. });
    let steps = world.decide().steps;
    assert_eq!(steps.iter().filter(|step| activated(step)).count(), 1);
    world.node(3).state = NodeState::Active;
    world.claims.get_mut(&3).unwrap().removed = None;
    world.set.metadata.annotations = None;
    assert_eq!(world.decide().steps, [mark(4)]);
}

#[test]
fn what_an_administrator_has_drained_stays_drained_and_is_told() {
    let mut world = World::of(4);
    for state in [NodeState::Draining, NodeState::Drained] {
        world.node(1).state = state;
        let verdict = world.decide();
        assert_eq!((verdict.steps, verdict.busy), (vec![], Busy::No));
        let note = verdict.notes.iter().find(|note| note.about == "drained");
        let sentence = &note.unwrap().sentence;
        let names = |word: &str| sentence.contains(word);
        assert!(names("demo-node-1") && names(&format!("activate {}", id(1))));
    }
    // It says nothing of what was removed from the volume before.
    world.claims.get_mut(&1).unwrap().removed = Some(id(3));
    assert_eq!(world.decide().steps, []);
}

#[test]
fn a_removal_that_is_called_off_at_its_end_is_taken_back() {
    let mut world = World::of(4);
    world.node(3).state = NodeState::Drained;
    world.set.metadata.annotations = Some(BTreeMap::from([(MARK.to_owned(), id(3).to_string())]));
    let active = Step::SetState {
        node: id(3),
        state: NodeState::Active,
    };
    assert_eq!(world.decide().steps, [active, Step::Mark { node: None }]);
}

#[test]
fn a_drained_volume_goes_only_where_that_was_asked_for() {
    let mut world = World::of(4);
    world.want(3);
    world.node(3).state = NodeState::Drained;
    world.set.spec.as_mut().unwrap().replicas = Some(3);
    world.silence(3);
    world.pods.remove(&3);
    assert_eq!(world.decide().steps, []);
    world.resource.spec.nodes.storage.retention.when_scaled_down =
        holdfast_crd::RetentionPolicy::Delete;
    // Nobody has noted that it was removed from it.
    assert_eq!(world.decide().steps, []);
    world.claims.get_mut(&3).unwrap().removed = Some(id(2));
    assert_eq!(world.decide().steps, []);
    world.claims.get_mut(&3).unwrap().removed = Some(id(3));
    let delete = Step::DeleteClaim {
        ordinal: 3,
        uid: "claim-3".into(),
    };
    assert_eq!(world.decide().steps, [delete]);
    // Whatever the resource says, a volume that is not known to be empty stays.
    world.node(3).state = NodeState::Down;
    assert_eq!(world.decide().steps, []);
}

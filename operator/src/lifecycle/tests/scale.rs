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

#[test]
fn what_cannot_be_done_without_a_node_is_said_with_numbers() {
    let mut full = World::of(4);
    full.want(3);
    full.sight.nodes.get_mut(&3).unwrap().space.fragment_bytes = 200 << 30;
    let verdict = full.decide();
    assert_eq!(verdict.steps, []);
    let (reason, sentence) = verdict.stalled.unwrap();
    assert_eq!(reason, "CannotScaleDown");
    assert!(sentence.contains("204800 MiB"), "{sentence}");
    let mut away = World::of(4);
    away.want(3);
    away.silence(1);
    assert!(away.decide().stalled.unwrap().1.contains("does not answer"));
    let mut few = World::of(4);
    few.want(3);
    few.node(0).state = NodeState::Down;
    assert!(few.decide().stalled.unwrap().1.contains("2 other nodes"));
}

#[test]
fn a_node_that_never_joined_goes_at_once_but_only_where_the_cluster_says_so() {
    let mut world = World::of(4);
    world.want(3);
    world.silence(3);
    world.state().layout.nodes.remove(&id(3));
    assert_eq!(world.decide().storage_replicas, 3);
    // Those who answer may not have heard of its joining.
    world.sight.leaders.remove(&GroupId::CLUSTER);
    assert_eq!(world.decide().storage_replicas, 4);
}

#[test]
fn a_node_that_was_removed_and_comes_back_takes_data_again() {
    let mut world = World::of(4);
    world.node(3).state = NodeState::Drained;
    world.claims.get_mut(&3).unwrap().removed = Some(id(3));
    let active = Step::SetState {
        node: id(3),
        state: NodeState::Active,
    };
    assert_eq!(world.decide().steps, [active]);
    // What was noted has been true, and would be taken for it the next time.
    world.node(3).state = NodeState::Active;
    let noted = Step::NoteRemoved {
        ordinal: 3,
        node: None,
    };
    assert_eq!(world.decide().steps, [noted]);
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
    let delete = Step::DeleteClaim {
        ordinal: 3,
        uid: "claim-3".into(),
    };
    assert_eq!(world.decide().steps, [delete]);
    // Whatever the resource says, a volume that is not known to be empty stays.
    world.node(3).state = NodeState::Down;
    assert_eq!(world.decide().steps, []);
}

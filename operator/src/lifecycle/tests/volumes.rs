//! Volumes that grow, and those that are kept of nodes that are gone.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::*;

fn larger(world: &mut World) {
    world.resource.spec.nodes.storage.size = Quantity("200Gi".into());
    world.can_grow = Some(true);
}

#[test]
fn volumes_grow_where_their_class_lets_them_and_the_set_is_made_again() {
    let mut world = World::of(3);
    world.claims.get_mut(&1).unwrap().smaller = true;
    world.can_grow = Some(true);
    let ordinals = vec![1];
    assert_eq!(world.decide().steps, [Step::Grow { ordinals }]);
    world.can_grow = Some(false);
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.stalled.unwrap().0, "VolumesCannotGrow");
    // All have their room; the template is still the old one.
    world.claims.get_mut(&1).unwrap().smaller = false;
    larger(&mut world);
    assert_eq!(world.decide().steps, [Step::RecreateSet]);
    world.hold_permit(0, "a person works on it");
    assert_eq!(world.decide().steps, []);
}

/// A cluster whose volumes are all large enough but for its set, which makes
/// smaller ones, or one of which is not.
fn growing(smaller: bool) -> World {
    let mut world = World::of(3);
    larger(&mut world);
    world.claims.get_mut(&1).unwrap().smaller = smaller;
    world
}

#[test]
fn nothing_is_done_about_volumes_while_pods_are_replaced_or_somebody_works_on_one() {
    for smaller in [true, false] {
        let about_volumes = |change: &dyn Fn(&mut World)| {
            let mut world = growing(smaller);
            change(&mut world);
            let steps = world.decide().steps.into_iter();
            let ours = |step: &Step| matches!(step, Step::Grow { .. } | Step::RecreateSet);
            steps.filter(ours).count()
        };
        assert_eq!(about_volumes(&|_| {}), 1);
        assert_eq!(about_volumes(&|world| world.outdate(&[0])), 0);
        let changed = |world: &mut World| world.set.metadata.generation = Some(3);
        assert_eq!(about_volumes(&changed), 0);
        assert_eq!(about_volumes(&|world| world.hold_permit(0, RESTART)), 0);
    }
    // The rollout goes on meanwhile, and it is told what waits for it.
    let mut world = growing(true);
    world.outdate(&[0]);
    let verdict = world.decide();
    assert!(matches!(verdict.steps[..], [Step::Restart { .. }]));
    assert!(
        verdict
            .notes
            .iter()
            .any(|note| note.reason == "VolumesWait")
    );
}

#[test]
fn a_set_is_not_made_again_while_nodes_leave_it() {
    let mut world = growing(false);
    world.want(2);
    assert!(!world.decide().steps.contains(&Step::RecreateSet));
    world.want(3);
    world.mark(2);
    assert!(!world.decide().steps.contains(&Step::RecreateSet));
}

/// Three nodes, and the volume of a fourth that was found empty and removed.
fn retired() -> World {
    let mut world = World::of(3);
    world.claims.insert(3, claim(3));
    world.claims.get_mut(&3).unwrap().removed = Some(id(3));
    let mut node = world.node(0).clone();
    (node.id, node.disk) = (id(3), disk(3));
    (node.address, node.state) = (address(3), NodeState::Drained);
    world.state().layout.nodes.insert(id(3), node);
    world
}

#[test]
fn the_volume_of_a_node_that_was_removed_neither_grows_nor_is_waited_for() {
    let mut world = retired();
    larger(&mut world);
    let old = world.claims.get_mut(&3).unwrap();
    (old.smaller, old.grown) = (true, false);
    assert_eq!(world.decide().steps, [Step::RecreateSet]);
    world.can_grow = Some(false);
    assert_eq!(world.decide().stalled, None);
}

#[test]
fn the_volume_of_a_node_that_was_removed_brings_no_node_back() {
    let mut world = retired();
    assert_eq!(world.decide().storage_replicas, 3);
    // The set is being made again around its pods.
    let replicas = |world: &World| decide(&world.situation(None)).storage_replicas;
    assert_eq!(replicas(&world), 3);
    // It wakes up, or the resource is there again: nobody runs yet.
    world.all_gone();
    assert_eq!(world.decide().storage_replicas, 3);
    assert_eq!(replicas(&world), 3);
    // One that is asked for is another matter.
    world.want(4);
    assert_eq!(replicas(&world), 4);
}

#[test]
fn a_volume_that_may_hold_something_brings_its_node_back_and_is_drained_then() {
    let mut world = World::of(4);
    world.want(3);
    let running = world.sight.clone();
    world.all_gone();
    let replicas = |world: &World| decide(&world.situation(None)).storage_replicas;
    assert_eq!((world.decide().storage_replicas, replicas(&world)), (4, 4));
    // It runs again: what was asked for is done in its order.
    world.sight = running;
    world.pods = (0..4).map(|n| (n, pod(n))).collect();
    world.set_replicas(4);
    let verdict = world.decide();
    let draining = Step::SetState {
        node: id(3),
        state: NodeState::Draining,
    };
    assert!(verdict.steps.contains(&draining));
    assert_eq!(verdict.storage_replicas, 4);
}

#[test]
fn the_cluster_knows_better_than_a_note_whether_a_volume_is_empty() {
    let mut world = retired();
    world.node(3).state = NodeState::Active;
    let replicas = decide(&world.situation(None)).storage_replicas;
    assert_eq!(replicas, 4);
}

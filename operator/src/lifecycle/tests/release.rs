//! When a release is finalised, and which ones are refused.

use holdfast_model::{Release, Supported};

use super::super::release::{refuse_image, refuse_operator, written};
use super::*;

fn version(text: &str) -> Release {
    text.parse().unwrap()
}

/// The release after the first one.
fn next() -> Supported {
    let mut next = Supported::FIRST;
    next.release = version("0.2.1");
    (next.wire.max, next.disk.max) = (2, 2);
    next
}

/// A cluster all of whose parts run the next release, looked after by an
/// operator of it.
fn upgraded() -> World {
    let mut world = World::of(3);
    world.own = next();
    for ordinal in 0..3 {
        world.node(ordinal).supports = next();
    }
    world
}

fn finalized() -> Vec<Step> {
    let to = version("0.2.0");
    vec![Step::Finalize { to }]
}

fn manual(world: &mut World, annotation: Option<&str>) {
    world.resource.spec.upgrade.finalize = holdfast_crd::Finalize::Manual;
    let key = holdfast_plan::names::FINALIZE.to_owned();
    world.resource.metadata.annotations =
        annotation.map(|value| BTreeMap::from([(key, value.to_owned())]));
}

#[test]
fn what_every_part_runs_is_finalised_and_only_once() {
    let mut world = upgraded();
    assert_eq!(world.decide().steps, finalized());
    world.state().active = next().newest();
    assert_eq!(world.decide(), World::of(3).decide());
}

#[test]
fn nothing_is_finalised_before_every_part_runs_it() {
    let without = |change: fn(&mut World)| {
        let mut world = upgraded();
        change(&mut world);
        let steps = world.decide().steps;
        assert!(!steps.contains(&finalized()[0]), "{steps:?}");
    };
    without(|world| world.node(1).supports = Supported::FIRST);
    without(|world| world.common_tag = None);
    without(|world| world.outdate(&[0]));
    without(|world| world.hold_permit(0, "a person works on it"));
    without(|world| world.sight.leaders.clear());
    without(|world| world.want(4));
}

#[test]
fn it_waits_for_a_clean_census_and_says_so() {
    let mut world = upgraded();
    let census = world.sight.censuses.values_mut().next_back().unwrap();
    census.degraded = 1;
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert!(
        verdict
            .notes
            .iter()
            .any(|note| note.reason == "FinalizeWaits")
    );
}

#[test]
fn by_hand_it_waits_for_the_annotation_with_that_release() {
    let mut world = upgraded();
    for wrong in [None, Some("0.1.0"), Some("0.3.0"), Some("yes")] {
        manual(&mut world, wrong);
        let verdict = world.decide();
        assert_eq!(verdict.steps, [], "{wrong:?}");
        let note = verdict.notes.last().unwrap();
        assert!(note.sentence.contains("holdfast.dev/finalize=0.2.0"));
    }
    manual(&mut world, Some("0.2.0"));
    assert_eq!(world.decide().steps, finalized());
}

#[test]
fn an_operator_does_not_finalise_what_is_newer_than_itself() {
    let mut world = upgraded();
    world.own = Supported::FIRST;
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    let note = verdict.notes.last().unwrap();
    assert!(note.warning && note.sentence.contains("upgrade the operator"));
}

#[test]
fn an_operator_older_than_its_cluster_is_refused() {
    let old = Supported::FIRST;
    let refused = |written: &str| refuse_operator(Some(version(written)), None, &old);
    assert_eq!(refused("0.1.0"), None);
    // A correction changes no format.
    assert_eq!(
        refuse_operator(Some(version("0.1.9").first_of_minor()), None, &old),
        None
    );
    assert!(refused("0.2.0").unwrap().contains("changes nothing"));
    let active = next().newest();
    assert!(refuse_operator(None, Some(active), &old).is_some());
    assert_eq!(
        refuse_operator(Some(active.release), Some(active), &next()),
        None
    );
}

#[test]
fn what_the_cluster_writes_is_known_while_no_node_answers() {
    let mut world = World::of(3);
    world.resource.status = Some(holdfast_crd::StorageClusterStatus {
        cluster_version: Some("0.2.0".into()),
        ..Default::default()
    });
    let at = |world: &World| written(&world.resource, &world.sight).unwrap();
    assert_eq!(at(&world), version("0.2.0"));
    world.sight = Sight::default();
    assert_eq!(at(&world), version("0.2.0"));
    world.resource.status = None;
    assert_eq!(written(&world.resource, &world.sight), None);
}

#[test]
fn an_image_that_is_too_old_or_skips_a_release_is_refused_by_its_tag() {
    let refused = |tag: &str| refuse_image(tag, Some(version("0.2.0")));
    for good in [
        "0.2.0",
        "0.2.7",
        "v0.3.0",
        "0.3.0-rc.1",
        "latest",
        "2f3a",
        "1.0.0",
    ] {
        assert_eq!(refused(good), None, "{good}");
    }
    assert!(refused("0.1.9").unwrap().contains("older image"));
    assert!(refused("0.4.0").unwrap().contains("one after the other"));
    assert_eq!(refuse_image("0.4.0", None), None);
}

#[test]
fn a_rollout_that_stops_at_its_first_pod_says_what_the_pod_said() {
    let mut world = World::of(3);
    world.outdate(&[0, 1]);
    world.hold_permit(2, RESTART);
    let pod = world.pods.get_mut(&2).unwrap();
    (pod.ready, pod.failure) = (false, Some("use release 0.2.0".into()));
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    let (reason, sentence) = verdict.stalled.unwrap();
    assert_eq!(reason, "RolloutStopped");
    assert!(sentence.contains("demo-node-2") && sentence.contains("use release 0.2.0"));
    // The tag is set back: the pod is outdated now, and replaced.
    world.outdate(&[2]);
    let verdict = world.decide();
    assert!(verdict.stalled.is_none() && !verdict.steps.is_empty());
}

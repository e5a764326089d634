//! Nodes that are lost.

use super::*;

#[test]
fn a_lost_node_is_given_up_only_by_name_and_only_when_silent() {
    let mut world = World::of(3);
    world.resource.spec.removed_nodes = vec![id(1).to_string()];
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.notes.first().unwrap().reason, "NodeAnswers");
    let (reason, sentence) = verdict.stalled.unwrap();
    assert_eq!(reason, "NodeAnswers");
    assert!(sentence.contains(&id(1).to_string()), "{sentence}");
    // The operator alone does not reach it.
    world.silence(1);
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.notes.first().unwrap().reason, "NodeReady");
    world.pods.get_mut(&1).unwrap().ready = false;
    let lost = Step::SetState {
        node: id(1),
        state: NodeState::Lost,
    };
    assert_eq!(world.decide().steps, [lost]);
    world.resource.spec.removed_nodes = vec![id(77).to_string()];
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.notes.first().unwrap().reason, "UnknownNode");
}

#[test]
fn a_lost_nodes_volume_goes_by_the_identity_that_was_recorded() {
    let mut world = World::of(3);
    world.silence(1);
    world.node(1).state = NodeState::Lost;
    world.resource.spec.removed_nodes = vec![id(1).to_string()];
    // Nothing says which volume it was on.
    assert_eq!(world.decide().steps, []);
    let recorded = |uid: &str| {
        let list = json!([{
            "id": id(1).to_string(), "pod": "demo-node-1", "ordinal": 1,
            "pvcUID": uid, "state": "Silent",
        }]);
        let status = json!({"nodes": {"replicas": 3, "ready": 2, "list": list}});
        serde_json::from_value(status).unwrap()
    };
    world.resource.status = Some(recorded("another"));
    assert_eq!(world.decide().steps, []);
    world.resource.status = Some(recorded("claim-1"));
    assert_eq!(
        world.decide().steps,
        [],
        "its pod is ready: it has not heard yet"
    );
    world.stop(1, 5);
    let delete = Step::DeleteClaim {
        ordinal: 1,
        uid: "claim-1".into(),
    };
    assert_eq!(world.decide().steps, [delete]);
}

//! Nodes that a person has given up for lost, by identity: never one that
//! answers, and never one that the cluster does not know.

use holdfast_model::{LayoutNode, NodeId, NodeState};

use super::{Situation, Step, Verdict};

/// Gives up what was named, and clears its place for another.
pub(super) fn decide(case: &Situation<'_>, verdict: &mut Verdict) {
    for name in &case.resource.spec.removed_nodes {
        let Ok(id) = name.parse::<NodeId>() else {
            let sentence = format!("spec.removedNodes names {name}, which is no node's identity");
            refuse(verdict, "UnknownNode", sentence);
            continue;
        };
        let Some(node) = case.sight.node(id) else {
            let sentence = format!(
                "spec.removedNodes names {id}, which the cluster does not know: status.nodes.list shows the identities"
            );
            refuse(verdict, "UnknownNode", sentence);
            continue;
        };
        if node.state == NodeState::Lost {
            clear(case, verdict, id);
        } else if case.sight.answers(id) {
            let sentence = format!(
                "spec.removedNodes names {id}, which answers: it is not given up; scale down to remove a node that works"
            );
            refuse(verdict, "NodeAnswers", sentence);
        } else if is_cut_off(case, node) {
            let sentence = format!(
                "spec.removedNodes names {id}, whose pod is ready: it is not given up, although the operator does not reach it"
            );
            refuse(verdict, "NodeReady", sentence);
        } else {
            verdict.steps.push(Step::SetState {
                node: id,
                state: NodeState::Lost,
            });
            let sentence = format!("{id} is given up for lost: what it held is made again");
            verdict.note("lost", "NodeGivenUp", sentence);
        }
    }
}

/// Says so in a condition as well: only a person can change what was named.
fn refuse(verdict: &mut Verdict, reason: &'static str, sentence: String) {
    verdict.stalled = Some((reason, sentence.clone()));
    verdict.warn("lost", reason, sentence);
}

/// Whether the machine says of a node's pod that it is well: then it is the
/// operator that is alone.
fn is_cut_off(case: &Situation<'_>, node: &LayoutNode) -> bool {
    let ordinal = case.ordinal_of(node);
    ordinal.is_some_and(|at| {
        let ready = case.pods.get(&at).is_some_and(|pod| pod.ready);
        ready && !case.sight.nodes.contains_key(&at)
    })
}

/// Deletes the claim that the lost node was on, so that an empty one takes its
/// place. The claim is known by the status that named the two together.
fn clear(case: &Situation<'_>, verdict: &mut Verdict, id: NodeId) {
    let status = case.resource.status.as_ref();
    let known = status.and_then(|status| {
        let id = id.to_string();
        let list = status.nodes.list.iter();
        list.filter(|node| node.id.as_ref() == Some(&id))
            .find_map(|node| Some((node.ordinal, node.pvc_uid.clone()?)))
    });
    let Some((ordinal, uid)) = known else { return };
    let there = case.claims.get(&ordinal);
    let another_answers = case
        .sight
        .nodes
        .get(&ordinal)
        .is_some_and(|status| status.node != id);
    // Its process ends by itself when it hears what it is.
    let serves = case.pods.get(&ordinal).is_some_and(|pod| pod.ready);
    if there.is_some_and(|claim| claim.uid == uid) && !another_answers && !serves {
        verdict.steps.push(Step::DeleteClaim { ordinal, uid });
    }
}

//! More nodes, or fewer. Fewer is: the highest ordinal drained, found empty by
//! the cluster's own count of what its disk holds, the permit, and only then one
//! replica less. Whatever goes wrong in between leaves a node that drains.
//!
//! A node that an administrator drains is left alone, and so is one that has been
//! drained that way: what was drained to be removed is noted on its claim, before
//! it goes, so that it takes data when it is wanted again.

use holdfast_model::{LayoutNode, NodeId, NodeState};
use holdfast_plan::names;

use super::spare::{Hindrance, can_spare};
use super::{Busy, REMOVE, Situation, Step, Verdict};

/// The annotation of the StatefulSet with the node that we drain: what an
/// administrator drains is left alone.
pub const MARK: &str = "holdfast.dev/draining-node";

/// Goes on with growing or shrinking.
pub(super) fn decide(case: &Situation<'_>, verdict: &mut Verdict) {
    let now = case.replicas_now();
    let wanted = case.wanted();
    end_removal(case, verdict, now);
    if wanted >= now {
        grow(case, verdict, wanted, now);
        return;
    }
    verdict.busy = Busy::Scaling;
    let last = now - 1;
    if !case.sight.all_led() {
        // Who does not speak for the cluster may know less than it does.
        let sentence = "waiting for every metadata group to have a leader".to_owned();
        verdict.note("scale", "NoQuorum", sentence);
        return;
    }
    let Some(node) = case.node(last) else {
        return remove_unknown(case, verdict, last);
    };
    match node.state {
        NodeState::Drained => remove(case, verdict, node, last),
        NodeState::Draining => {
            if case.marked() != Some(node.id) {
                verdict.steps.push(Step::Mark {
                    node: Some(node.id),
                });
            }
            let sentence = format!(
                "{} is being emptied: {} chunks are still to be copied",
                names::node_pod(case.name, last),
                case.sight.chunks_to_copy
            );
            verdict.note("scale", "Draining", sentence);
        }
        _ => drain(case, verdict, node, last),
    }
}

/// Removes a node that never joined, or was given up: nothing is on it. One that
/// serves is about to join, and is then drained as any other.
fn remove_unknown(case: &Situation<'_>, verdict: &mut Verdict, ordinal: u32) {
    let ready = case.pods.get(&ordinal).is_some_and(|pod| pod.ready);
    if ready || case.sight.nodes.contains_key(&ordinal) {
        let pod = names::node_pod(case.name, ordinal);
        let sentence = format!("waiting for {pod} to join before it is removed");
        return verdict.note("scale", "NotJoined", sentence);
    }
    verdict.storage_replicas = ordinal;
}

/// Raises the number, and takes back what was begun to shrink it.
fn grow(case: &Situation<'_>, verdict: &mut Verdict, wanted: u32, now: u32) {
    verdict.storage_replicas = wanted;
    if wanted > now {
        verdict.busy = Busy::Scaling;
        let sentence = format!("from {now} to {wanted} storage nodes");
        verdict.note("scale", "ScalingUp", sentence);
    }
    let marked = case.marked();
    let (mut theirs, mut returns) = (Vec::new(), None);
    for ordinal in 0..wanted {
        let Some(node) = case.node(ordinal) else {
            verdict.busy = Busy::Scaling;
            continue;
        };
        let leaves = matches!(node.state, NodeState::Draining | NodeState::Drained);
        let removed = removed_from(case, ordinal);
        if !leaves {
            if removed.is_some() {
                verdict.steps.push(forget_removal(ordinal));
            }
            continue;
        }
        let ours = marked == Some(node.id);
        // One that was removed before and comes back on its old volume.
        let back = node.state == NodeState::Drained
            && removed == Some(node.id)
            && case.sight.answers(node.id);
        if back && marked.is_none() && returns.is_none() {
            returns = Some(node.id);
        }
        if !ours && removed != Some(node.id) {
            theirs.push((names::node_pod(case.name, ordinal), node.id));
        }
        if ours && node.zone.is_some() {
            // A volume with the note counts as empty: it goes before the first
            // byte may come. The mark tells meanwhile that the drain was ours.
            if removed.is_some() {
                verdict.steps.push(forget_removal(ordinal));
            }
            verdict.steps.push(Step::SetState {
                node: node.id,
                state: NodeState::Active,
            });
            let sentence = format!("{} takes data again", names::node_pod(case.name, ordinal));
            verdict.note("scale", "DrainCancelled", sentence);
        }
    }
    if marked.is_some() {
        verdict.steps.push(Step::Mark { node: None });
    }
    if let Some(node) = returns {
        verdict.steps.push(Step::Mark { node: Some(node) });
    }
    tell_theirs(verdict, &theirs);
}

fn forget_removal(ordinal: u32) -> Step {
    let node = None;
    Step::NoteRemoved { ordinal, node }
}

fn removed_from(case: &Situation<'_>, ordinal: u32) -> Option<NodeId> {
    case.claims.get(&ordinal)?.removed
}

/// Says of nodes that an administrator drains, or has drained, how that ends.
fn tell_theirs(verdict: &mut Verdict, theirs: &[(String, NodeId)]) {
    let Some((_, first)) = theirs.first() else {
        return;
    };
    let pods: Vec<&str> = theirs.iter().map(|(pod, _)| pod.as_str()).collect();
    let sentence = format!(
        "{} takes no data, as an administrator has ordered: `holdfast admin activate {first}` takes that back",
        pods.join(", ")
    );
    verdict.note("drained", "DrainedByAdministrator", sentence);
}

fn drain(case: &Situation<'_>, verdict: &mut Verdict, node: &LayoutNode, ordinal: u32) {
    let pod = names::node_pod(case.name, ordinal);
    if let Some(permit) = case.sight.permit() {
        let sentence = format!(
            "{pod} waits to be drained: the maintenance permit is held: {}",
            permit.reason
        );
        verdict.note("scale", "PermitHeld", sentence);
        return;
    }
    match can_spare(case, node) {
        Ok(()) => {}
        Err(Hindrance::Unknown(why)) => {
            let sentence = format!("{pod} waits to be drained: {why}");
            return verdict.note("scale", "DrainWaits", sentence);
        }
        Err(Hindrance::Needed(why)) => {
            let sentence = format!("{pod} is not drained: {why}");
            verdict.stalled = Some(("CannotScaleDown", sentence.clone()));
            return verdict.warn("scale", "CannotScaleDown", sentence);
        }
    }
    // The mark first: a drain without it would be taken for an administrator's.
    verdict.steps.push(Step::Mark {
        node: Some(node.id),
    });
    verdict.steps.push(Step::SetState {
        node: node.id,
        state: NodeState::Draining,
    });
    verdict.note("scale", "Draining", format!("{pod} is being emptied"));
}

fn remove(case: &Situation<'_>, verdict: &mut Verdict, node: &LayoutNode, ordinal: u32) {
    let pod = names::node_pod(case.name, ordinal);
    match case.sight.permit() {
        Some(permit) if permit.node == node.id && permit.reason == REMOVE => {
            let claim = case.claims.get(&ordinal);
            if claim.is_some_and(|claim| claim.removed != Some(node.id)) {
                verdict.steps.push(Step::NoteRemoved {
                    ordinal,
                    node: Some(node.id),
                });
            } else {
                verdict.storage_replicas = ordinal;
            }
            verdict.note("scale", "Removing", format!("{pod} is empty and goes"));
        }
        Some(permit) => {
            let sentence = format!(
                "{pod} is empty and waits: the maintenance permit is held: {}",
                permit.reason
            );
            verdict.note("scale", "PermitHeld", sentence);
        }
        None => verdict.steps.push(Step::PermitRemoval { node: node.id }),
    }
}

/// Gives the permit of a removal back once the pod is gone, and deletes the
/// volume where that was asked for.
fn end_removal(case: &Situation<'_>, verdict: &mut Verdict, now: u32) {
    let Some(permit) = case.sight.permit().filter(|one| one.reason == REMOVE) else {
        delete_retired(case, verdict, now);
        return;
    };
    verdict.busy = Busy::Scaling;
    let node = case.sight.node(permit.node);
    let ordinal = node.and_then(|node| case.ordinal_of(node));
    let gone = ordinal.is_none_or(|at| at >= now && !case.pods.contains_key(&at));
    // Or it is wanted again.
    let wanted = ordinal.is_some_and(|at| at < case.wanted());
    if gone || wanted {
        verdict.steps.push(Step::Release {
            node: permit.node,
            epoch: permit.epoch,
        });
    }
}

/// Claims of nodes that were found empty, where the resource says so. One that
/// the cluster does not call empty stays, whatever the resource says.
fn delete_retired(case: &Situation<'_>, verdict: &mut Verdict, now: u32) {
    let retention = case.resource.spec.nodes.storage.retention.when_scaled_down;
    if retention != holdfast_crd::RetentionPolicy::Delete {
        return;
    }
    for (ordinal, claim) in case.claims.range(now.max(case.wanted())..) {
        // By identity: others may have been called as it is.
        let removed = claim.removed.and_then(|id| case.sight.node(id));
        let empty = removed.is_some_and(|node| node.state == NodeState::Drained);
        if empty && !case.pods.contains_key(ordinal) {
            verdict.steps.push(Step::DeleteClaim {
                ordinal: *ordinal,
                uid: claim.uid.clone(),
            });
        }
    }
}

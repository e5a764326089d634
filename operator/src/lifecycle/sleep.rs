//! Hibernation: all pods go, volumes stay, and all come back together.
//!
//! Before the first pod goes the permit is taken for it, and group 0 keeps it
//! over the sleep: while it is held the cluster's own controllers declare nobody
//! down and make nothing again, in whatever order the nodes come back. It is
//! given back when all are there, or when they had their time to be.
//!
//! A drain or an upgrade that is under way ends first. Where nobody can grant
//! the permit, since the cluster is down, it sleeps without one: nothing on its
//! disks depends on it.

use std::time::Duration;

use holdfast_model::{GroupId, LayoutNode, NodeState, Permit, Timestamp};
use holdfast_plan::names;

use super::{Busy, Situation, Step, Verdict};

/// For how long nobody must have spoken for the cluster before it is put to
/// sleep without the permit: an election takes seconds.
const UNLED_FOR: Duration = Duration::from_secs(60);

/// Goes on with falling asleep. Says whether nothing else is to be decided.
pub(super) fn fall_asleep(case: &Situation<'_>, verdict: &mut Verdict) -> bool {
    if sleeps(case) || permit(case).is_some() {
        verdict.hibernated = true;
        return true;
    }
    verdict.busy = Busy::Scaling;
    if !speaks(case) {
        return without_permit(case, verdict);
    }
    if let Some(why) = keeps_awake(case) {
        let sentence = format!("the cluster does not sleep yet: {why}");
        verdict.warn("hibernate", "HibernateWaits", sentence);
        return false;
    }
    let state = case.sight.state.as_ref();
    let mut nodes = state.into_iter().flat_map(|state| &state.layout.nodes);
    let Some((node, _)) = nodes.find(|(_, node)| node.state != NodeState::Lost) else {
        return false;
    };
    verdict.steps.push(Step::Sleep { node: *node });
    let sentence = "the cluster is told that it is put to sleep".to_owned();
    verdict.note("hibernate", "Hibernating", sentence);
    true
}

/// Nobody is there who could grant the permit.
fn without_permit(case: &Situation<'_>, verdict: &mut Verdict) -> bool {
    if case.leaderless < UNLED_FOR {
        let sentence = format!(
            "the cluster does not sleep yet: nobody speaks for it; after {} s it is put to sleep all the same",
            UNLED_FOR.as_secs()
        );
        verdict.warn("hibernate", "HibernateWaits", sentence);
        return false;
    }
    let sentence = "nobody speaks for the cluster: it is put to sleep without its permit, and when it wakes up nodes that stay away are missed as always";
    verdict.warn("hibernate", "HibernatingWithoutPermit", sentence.into());
    verdict.hibernated = true;
    true
}

/// Gives the permit back once the nodes are there again.
pub(super) fn wake_up(case: &Situation<'_>, verdict: &mut Verdict) {
    let Some(permit) = permit(case) else { return };
    let missing: Vec<String> = (0..case.replicas_now())
        .filter(|ordinal| {
            let node = case.node(*ordinal);
            node.is_some_and(|node| !case.sight.answers(node.id))
        })
        .map(|ordinal| names::node_pod(case.name, ordinal))
        .collect();
    let missing = missing.join(", ");
    if !missing.is_empty() && permit.excuses(now(case), awake_for(case)) {
        let sentence = format!("waiting for {missing} to be back; nothing is missed meanwhile");
        verdict.note("hibernate", "WakingUp", sentence);
        return;
    }
    if !speaks(case) {
        let sentence = "waiting for the cluster to have a leader".to_owned();
        verdict.note("hibernate", "WakingUp", sentence);
        return;
    }
    if !missing.is_empty() {
        let sentence = format!("{missing} did not come back in time: from now on they are missed");
        verdict.warn("hibernate", "NodesMissed", sentence);
    }
    verdict.steps.push(Step::Release {
        node: permit.node,
        epoch: permit.epoch,
    });
}

/// Whether no pods are to run, or it has been begun without the permit.
fn sleeps(case: &Situation<'_>) -> bool {
    match case.set.and_then(|set| set.spec.as_ref()) {
        Some(spec) => spec.replicas == Some(0),
        None => case.pods.is_empty(),
    }
}

fn permit<'a>(case: &Situation<'a>) -> Option<&'a Permit> {
    case.sight.permit().filter(|permit| permit.is_for_sleep())
}

/// Whether somebody could grant the permit, or take it back.
fn speaks(case: &Situation<'_>) -> bool {
    case.sight.state.is_some() && case.sight.leaders.contains_key(&GroupId::CLUSTER)
}

fn now(case: &Situation<'_>) -> Timestamp {
    let seconds = u64::try_from(case.now_seconds).unwrap_or_default();
    Timestamp(seconds.saturating_mul(1_000))
}

/// For how long the node that was back first has been running.
fn awake_for(case: &Situation<'_>) -> Duration {
    let nodes = case.sight.nodes.values();
    let running = nodes.map(|status| status.now.since(status.started));
    Duration::from_millis(running.max().unwrap_or_default())
}

/// What is under way and must end before the cluster sleeps: a node that is
/// being emptied or restarted would wake up in the middle of it.
fn keeps_awake(case: &Situation<'_>) -> Option<String> {
    if let Some(permit) = case.sight.permit() {
        return Some(format!("the maintenance permit is held: {}", permit.reason));
    }
    let leaves =
        |node: &&LayoutNode| node.state == NodeState::Draining || case.marked() == Some(node.id);
    let state = case.sight.state.as_ref()?;
    if let Some(node) = state.layout.nodes.values().find(leaves) {
        return Some(format!("node {} is being emptied or removed", node.id));
    }
    if case.newest_revision().is_none() {
        return Some("its StatefulSet has just changed".into());
    }
    match case.outdated().count() {
        0 => None,
        count => Some(format!("{count} pods wait for a new revision")),
    }
}

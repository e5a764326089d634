//! A new release or configuration goes round: one node at a time, each with the
//! maintenance permit, which the cluster grants only while every object has all
//! its copies and everybody else is there.
//!
//! Pods that serve nothing go first and need no permit: to replace them takes
//! nothing away, and where they are the majority nobody could grant one. An
//! update that does not come up stops at its first pod, since the permit stays
//! held; a fix makes that pod outdated, and it is replaced.

use holdfast_model::Permit;
use holdfast_plan::names;

use super::{Busy, PodSight, RESTART, Situation, Step, Verdict};

/// While nobody answers for the cluster, a pod is replaced only when it has not
/// been ready for so long.
const SURE_AFTER_SECONDS: i64 = 60;

/// A pod whose node's permit is older than this and that is not even there is not
/// about to come: Kubernetes refuses it. Longer than a pod has to end.
const MISSED_AFTER_SECONDS: i64 = 120;

/// Goes on with the round. Says whether there is one.
pub(super) fn decide(case: &Situation<'_>, verdict: &mut Verdict) -> bool {
    let outdated: Vec<(u32, &PodSight)> = case.outdated().collect();
    if let Some(permit) = case.sight.permit() {
        // A cluster that wakes up with a setting that stops some of its pods.
        if permit.is_for_sleep() && replace_idle(case, verdict) {
            verdict.busy = Busy::Rolling;
            return true;
        }
        if permit.reason != RESTART {
            if !outdated.is_empty() {
                let sentence = format!(
                    "{} pods wait for a new revision: the maintenance permit is held for node {}: {}",
                    outdated.len(),
                    permit.node,
                    permit.reason
                );
                verdict.note("rollout", "PermitHeld", sentence);
            }
            return false;
        }
        verdict.busy = Busy::Rolling;
        if !replace_idle(case, verdict) {
            go_on(case, verdict);
        }
        return true;
    }
    if outdated.is_empty() {
        return false;
    }
    verdict.busy = Busy::Rolling;
    let waits = outdated.iter().any(|(_, pod)| pod.deleting);
    if !waits && !replace_idle(case, verdict) {
        begin(case, verdict, &outdated);
    }
    true
}

/// Replaces an outdated pod that serves nothing, the lowest first. Says whether
/// there is one.
pub(super) fn replace_idle(case: &Situation<'_>, verdict: &mut Verdict) -> bool {
    let outdated: Vec<(u32, &PodSight)> = case.outdated().collect();
    let serves = |ordinal: u32| case.sight.nodes.contains_key(&ordinal);
    let mut idle = outdated
        .iter()
        .filter(|(ordinal, pod)| !pod.ready && !pod.deleting && !serves(*ordinal));
    let Some((ordinal, pod)) = idle.next() else {
        return false;
    };
    if outdated.iter().any(|(_, pod)| pod.deleting) {
        return true;
    }
    let permit = case.sight.permit();
    // Whoever holds the permit is away, so that no other may be but for sure.
    let allowed = permit.is_none_or(|permit| {
        let node = case.sight.node(permit.node);
        node.and_then(|node| case.ordinal_of(node)) == Some(*ordinal)
    });
    let sure = case.sight.all_led() && allowed || pod.not_ready_seconds >= SURE_AFTER_SECONDS;
    if sure {
        verdict.steps.push(Step::DeletePod { ordinal: *ordinal });
        let sentence = format!(
            "{} is not ready and is replaced by the new revision",
            names::node_pod(case.name, *ordinal)
        );
        verdict.note("rollout", "Replacing", sentence);
    }
    true
}

/// The permit is ours: either its pod is still to be replaced, or it has been.
fn go_on(case: &Situation<'_>, verdict: &mut Verdict) {
    let Some(permit) = case.sight.permit() else {
        return;
    };
    let node = case.sight.node(permit.node);
    let ordinal = node.and_then(|node| case.ordinal_of(node));
    let Some(ordinal) = ordinal else {
        verdict.steps.push(Step::Release {
            node: permit.node,
            epoch: permit.epoch,
        });
        return;
    };
    let Some(pod) = case.pods.get(&ordinal).filter(|pod| !pod.deleting) else {
        wait_for(case, verdict, ordinal, permit);
        return;
    };
    if case.newest_revision().is_none() {
        return;
    }
    if case.is_outdated(pod) {
        verdict.steps.push(Step::Restart {
            node: permit.node,
            ordinal,
            anyway: false,
        });
        return;
    }
    if pod.ready && case.sight.answers(permit.node) {
        verdict.steps.push(Step::Release {
            node: permit.node,
            epoch: permit.epoch,
        });
        return;
    }
    let name = names::node_pod(case.name, ordinal);
    if let Some(why) = &pod.failure {
        let sentence = format!(
            "{name} does not start with the new revision, and the other pods are left as they are: {why}"
        );
        verdict.warn("rollout", "RolloutStopped", sentence.clone());
        verdict.stalled = Some(("RolloutStopped", sentence));
        return;
    }
    let sentence =
        format!("{name} is not ready yet; the other pods are left as they are until it is");
    verdict.note("rollout", "Restarting", sentence);
}

/// A pod is away: it ends, or is about to be made, or is never made.
fn wait_for(case: &Situation<'_>, verdict: &mut Verdict, ordinal: u32, permit: &Permit) {
    let name = names::node_pod(case.name, ordinal);
    let since = i64::try_from(permit.granted.0 / 1000).unwrap_or(i64::MAX);
    let missed = case.now_seconds.saturating_sub(since) >= MISSED_AFTER_SECONDS;
    if case.pods.contains_key(&ordinal) || !missed {
        verdict.note("rollout", "Restarting", format!("waiting for {name}"));
        return;
    }
    let sentence = format!(
        "{name} is not made again with the new revision, and the other pods are left as they are: `kubectl describe statefulset {}` says why",
        names::node_set(case.name)
    );
    verdict.warn("rollout", "RolloutStopped", sentence.clone());
    verdict.stalled = Some(("RolloutStopped", sentence));
}

/// Picks the next pod, from the highest ordinal down, as a StatefulSet would. One
/// whose node is not known, by those who answer, is left alone while it serves:
/// nobody can grant a permit for it, and they may not have heard of it yet.
fn begin(case: &Situation<'_>, verdict: &mut Verdict, outdated: &[(u32, &PodSight)]) {
    let mut known = outdated.iter().rev().filter_map(|(ordinal, _)| {
        let node = case.node(*ordinal)?;
        Some((*ordinal, node.id))
    });
    if let Some((ordinal, node)) = known.next() {
        verdict.steps.push(Step::Restart {
            node,
            ordinal,
            anyway: proceeds_while_degraded(case) && others_are_there(case, ordinal),
        });
        return;
    }
    let pods = outdated.iter();
    let pods: Vec<String> = pods
        .map(|(ordinal, _)| names::node_pod(case.name, *ordinal))
        .collect();
    let sentence = format!(
        "waiting for {} to join before it is replaced",
        pods.join(", ")
    );
    verdict.note("rollout", "NotJoined", sentence);
}

/// Whether a person has said that this generation goes on in any case.
fn proceeds_while_degraded(case: &Situation<'_>) -> bool {
    let annotations = case.resource.metadata.annotations.as_ref();
    let said = annotations.and_then(|all| all.get(names::PROCEED_WHILE_DEGRADED));
    let generation = case.resource.metadata.generation;
    said.and_then(|text| text.parse().ok()) == generation && generation.is_some()
}

/// Whether every other pod that is to run is ready and its node answers: what a
/// person takes upon themselves is a lack of copies, not a second node away.
fn others_are_there(case: &Situation<'_>, ordinal: u32) -> bool {
    let mut others = (0..case.replicas_now()).filter(|at| *at != ordinal);
    others.all(|at| {
        let pod = case.pods.get(&at);
        let ready = pod.is_some_and(|pod| pod.ready && !pod.deleting);
        ready && case.sight.nodes.contains_key(&at)
    })
}

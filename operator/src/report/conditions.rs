//! The conditions: each always there, from the first status on.

use holdfast_crd::StorageClusterStatus;
use holdfast_model::NodeState;
use holdfast_plan::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::dangers::{at_risk, degraded, zone_spread};
use super::{Outcome, gateways_available};
use crate::certificates::decide::WAITING;
use crate::error::OperatorError;
use crate::lifecycle::release::ABOUT;
use crate::lifecycle::{Busy, Situation};
use crate::rotation::told;

/// What a condition says.
pub(super) enum Said {
    Yes(&'static str, String),
    No(&'static str, String),
    Unknown(&'static str, String),
}

/// All conditions; those that say the same as before keep their time.
pub(super) fn build(
    outcome: &Outcome<'_>,
    case: &Situation<'_>,
    status: &StorageClusterStatus,
    old: &StorageClusterStatus,
    now: Timestamp,
) -> Vec<Condition> {
    let said = [
        ready(outcome, case),
        reconciling(outcome, case),
        stalled(outcome),
        degraded(outcome, case, old),
        at_risk(case),
        zone_spread(case),
    ];
    KINDS
        .into_iter()
        .zip(said)
        .map(|(kind, said)| {
            let (value, reason, message) = match said {
                Said::Yes(reason, message) => ("True", reason, message),
                Said::No(reason, message) => ("False", reason, message),
                Said::Unknown(reason, message) => ("Unknown", reason, message),
            };
            let before = old.conditions.iter().find(|one| one.type_ == kind);
            let since = before
                .filter(|before| before.status == value)
                .map_or(Time(now), |before| before.last_transition_time.clone());
            Condition {
                type_: kind.into(),
                status: value.into(),
                reason: reason.into(),
                message,
                last_transition_time: since,
                observed_generation: status.observed_generation,
            }
        })
        .collect()
}

/// The status that was, with Stalled true: of a first one all else is unknown.
pub(super) fn with_failure(
    old: &StorageClusterStatus,
    generation: Option<i64>,
    error: &OperatorError,
) -> StorageClusterStatus {
    let now = Time(Timestamp::now());
    let mut status = old.clone();
    for kind in KINDS {
        if !status.conditions.iter().any(|one| one.type_ == kind) {
            status.conditions.push(Condition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: "NotLooked".into(),
                message: String::new(),
                last_transition_time: now.clone(),
                observed_generation: generation,
            });
        }
    }
    for condition in &mut status.conditions {
        if condition.type_ != "Stalled" {
            continue;
        }
        if condition.status != "True" {
            condition.last_transition_time = now.clone();
        }
        condition.status = "True".into();
        condition.reason = error.reason().into();
        condition.message = error.to_string();
        condition.observed_generation = generation;
    }
    status
}

/// Every condition, in the order in which they are shown.
const KINDS: [&str; 6] = [
    "Ready",
    "Reconciling",
    "Stalled",
    "Degraded",
    "DataAtRisk",
    "ZoneSpread",
];

/// Whether every node that is asked for has joined, and has its place.
pub(super) fn all_joined(case: &Situation<'_>) -> bool {
    (0..case.wanted()).all(|ordinal| {
        let node = case.node(ordinal);
        node.is_some_and(|node| node.state != NodeState::Unplaced)
    })
}

fn ready(outcome: &Outcome<'_>, case: &Situation<'_>) -> Said {
    let no = |reason, message: String| Said::No(reason, message);
    if outcome.verdict.hibernated {
        return no(
            "Hibernated",
            "the cluster sleeps; set spec.hibernate to false to wake it".into(),
        );
    }
    if let Err(wrong) = outcome.cluster {
        return match wrong.first() {
            Some(first) => no(first.reason.as_str(), first.sentence.clone()),
            None => no("Invalid", "the resource contradicts itself".into()),
        };
    }
    if let Some(refused) = outcome.refused.first() {
        return no(
            refused.reason,
            format!("{}: {}", refused.object, refused.why),
        );
    }
    if let (Some((reason, sentence)), false) = (&outcome.secrecy.missing, outcome.probed) {
        return no(reason, sentence.clone());
    }
    if !outcome.led {
        return no(
            "NoQuorum",
            "not every metadata group has a leader that hears from a majority".into(),
        );
    }
    let missing: Vec<String> = (0..case.wanted())
        .filter(|ordinal| case.node(*ordinal).is_none())
        .map(|ordinal| names::node_pod(case.name, ordinal))
        .collect();
    if !missing.is_empty() {
        return no(
            "NodesMissing",
            format!("{} have not joined yet", missing.join(", ")),
        );
    }
    match outcome.verdict.busy {
        Busy::Rolling => {
            return no("RollingOut", "a new revision goes round".into());
        }
        Busy::Birth => return no("Creating", "the cluster is being founded".into()),
        Busy::Scaling | Busy::No => {}
    }
    if case.pods.values().any(|pod| case.is_outdated(pod)) {
        return no("RollingOut", "pods of an older revision run".into());
    }
    if let Some(sentence) = outcome.parts.rolling() {
        return no("RollingOut", sentence);
    }
    if gateways_available(outcome.observed) == 0 {
        return no("NoGateway", "no gateway is available".into());
    }
    if !outcome.probed {
        if let Some((reason, sentence)) = &outcome.verdict.stalled {
            return no(reason, sentence.clone());
        }
        // Once it was proved, one that is away is told by Degraded.
        if let Some(sentence) = outcome.parts.away() {
            return no("PodsMissing", sentence);
        }
        let why = outcome.probe.clone();
        return no(
            "NotProved",
            why.unwrap_or_else(|| "no object has been written and read back yet".into()),
        );
    }
    Said::Yes(
        "Serving",
        "every metadata group has a leader, and an object was written and read back".into(),
    )
}

fn reconciling(outcome: &Outcome<'_>, case: &Situation<'_>) -> Said {
    let note = || {
        let notes = outcome.verdict.notes.iter();
        let sentences: Vec<&str> = notes.map(|note| note.sentence.as_str()).collect();
        sentences.join("; ")
    };
    match outcome.verdict.busy {
        _ if outcome.observed.resource.spec.suspend => Said::No(
            "Suspended",
            "spec.suspend is set: nothing is changed".into(),
        ),
        Busy::Birth => Said::Yes("Creating", note()),
        Busy::Scaling => Said::Yes("Scaling", note()),
        Busy::Rolling => Said::Yes("RollingOut", note()),
        Busy::No if !outcome.observed.resource.spec.hibernate && !all_joined(case) => {
            Said::Yes("WaitingForNodes", note())
        }
        Busy::No if outcome.cluster.is_ok() && outcome.parts.rolling().is_some() => {
            Said::Yes("RollingOut", outcome.parts.rolling().unwrap_or_default())
        }
        Busy::No => match (&outcome.secrecy.missing, &outcome.secrecy.rotation) {
            (Some((reason, sentence)), _) => Said::Yes(reason, sentence.clone()),
            (None, Some(rotation)) => Said::Yes("Rotating", told(rotation)),
            (None, None) => {
                let mut notes = outcome.verdict.notes.iter();
                match notes.find(|note| note.about == ABOUT) {
                    Some(note) => Said::No(note.reason, note.sentence.clone()),
                    None => Said::No("Settled", String::new()),
                }
            }
        },
    }
}

fn stalled(outcome: &Outcome<'_>) -> Said {
    if let Err(wrong) = outcome.cluster {
        let sentences: Vec<&str> = wrong.iter().map(|one| one.sentence.as_str()).collect();
        let reason = wrong.first().map_or("Invalid", |one| one.reason.as_str());
        return Said::Yes(reason, sentences.join("; "));
    }
    if let Some(refused) = outcome.refused.first() {
        return Said::Yes(
            refused.reason,
            format!("{}: {}", refused.object, refused.why),
        );
    }
    if let Some((reason, sentence)) = &outcome.verdict.stalled {
        return Said::Yes(reason, sentence.clone());
    }
    let left_alone = outcome.observed.resource.spec.suspend;
    if let (false, Some(sentence)) = (left_alone, outcome.parts.stopped()) {
        return Said::Yes("RolloutStopped", sentence);
    }
    match &outcome.secrecy.missing {
        // The issuer may need its time.
        Some((reason, sentence)) if *reason != WAITING => Said::Yes(reason, sentence.clone()),
        _ => Said::No("Moving", String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'s>(status: &'s StorageClusterStatus, kind: &str) -> &'s Condition {
        let mut conditions = status.conditions.iter();
        conditions.find(|one| one.type_ == kind).unwrap()
    }

    #[test]
    fn a_failure_that_lasts_is_told_and_all_else_stays_as_it_was_said() {
        let forbidden = OperatorError::Forbidden {
            attempted: "listing pods".into(),
            message: "no".into(),
        };
        let first = with_failure(&StorageClusterStatus::default(), Some(1), &forbidden);
        assert_eq!(first.conditions.len(), KINDS.len());
        assert_eq!(find(&first, "Ready").status, "Unknown");
        let stalled = find(&first, "Stalled");
        assert_eq!(
            (stalled.status.as_str(), stalled.reason.as_str()),
            ("True", "Forbidden")
        );
        assert!(stalled.message.contains("listing pods"));
        let mut ready = first.clone();
        for condition in &mut ready.conditions {
            condition.status = "True".into();
        }
        let again = with_failure(&ready, Some(2), &forbidden);
        assert_eq!(find(&again, "Ready"), find(&ready, "Ready"));
        assert_eq!(
            find(&again, "Stalled").last_transition_time,
            find(&ready, "Stalled").last_transition_time
        );
    }
}

//! The conditions: each always there, from the first status on.

use std::collections::BTreeSet;

use holdfast_crd::StorageClusterStatus;
use holdfast_model::NodeState;
use holdfast_plan::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::{Outcome, gateways_available};
use crate::certificates::decide::WAITING;
use crate::error::OperatorError;
use crate::lifecycle::release::ABOUT;
use crate::lifecycle::{Busy, Situation};
use crate::rotation::told;

/// What a condition says.
enum Said {
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
        degraded(case),
        at_risk(case, status),
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
        return no("Refused", format!("{}: {}", refused.object, refused.why));
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
    if gateways_available(outcome.observed) == 0 {
        return no("NoGateway", "no gateway is available".into());
    }
    if !outcome.probed {
        if let Some((reason, sentence)) = &outcome.verdict.stalled {
            return no(reason, sentence.clone());
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
        return Said::Yes("Refused", format!("{}: {}", refused.object, refused.why));
    }
    match (&outcome.verdict.stalled, &outcome.secrecy.missing) {
        (Some((reason, sentence)), _) => Said::Yes(reason, sentence.clone()),
        // The issuer may need its time.
        (None, Some((reason, sentence))) if *reason != WAITING => {
            Said::Yes(reason, sentence.clone())
        }
        _ => Said::No("Moving", String::new()),
    }
}

fn degraded(case: &Situation<'_>) -> Said {
    if case.resource.spec.hibernate {
        return Said::Unknown("Hibernated", "no node runs".into());
    }
    let silent: Vec<String> = (0..case.wanted())
        .filter(|ordinal| case.node(*ordinal).is_some() && !case.sight.nodes.contains_key(ordinal))
        .map(|ordinal| names::node_pod(case.name, ordinal))
        .collect();
    if !silent.is_empty() {
        return Said::Yes(
            "NodesSilent",
            format!("{} do not answer", silent.join(", ")),
        );
    }
    if let Some(replaced) = replaced(case) {
        return replaced;
    }
    match case.sight.counts() {
        None => Said::Unknown(
            "NotCounted",
            "the objects have not been counted since the last change of the layout".into(),
        ),
        Some(counts) if counts.clean() => {
            Said::No("Whole", "every object has all its copies".into())
        }
        Some(counts) => Said::Yes(
            "ObjectsDegraded",
            format!(
                "{} objects are below their redundancy, {} unavailable, {} lost; {} fragments are missing",
                counts.degraded, counts.unavailable, counts.lost, counts.missing
            ),
        ),
    }
}

/// A node whose place another has taken: its volume was deleted, and nothing
/// else says by which name it can be given up.
fn replaced(case: &Situation<'_>) -> Option<Said> {
    let layout = &case.sight.state.as_ref()?.layout;
    let mut silent = layout.nodes.values().filter(|node| {
        let counts = !matches!(node.state, NodeState::Lost | NodeState::Drained);
        counts && !case.sight.answers(node.id)
    });
    let (node, ordinal) = silent.find_map(|node| {
        let ordinal = case.ordinal_of(node)?;
        let there = case.sight.nodes.get(&ordinal)?;
        (there.node != node.id).then_some((node, ordinal))
    })?;
    Some(Said::Yes(
        "NodeReplaced",
        format!(
            "node {} does not answer, and {} is another one by now: if its volume will not come back, name it in spec.removedNodes",
            node.id,
            names::node_pod(case.name, ordinal)
        ),
    ))
}

fn at_risk(case: &Situation<'_>, status: &StorageClusterStatus) -> Said {
    if case.resource.spec.redundancy.copies < 2 {
        return Said::Yes(
            "NoRedundancy",
            "there is one copy of everything: the loss of a disk loses data".into(),
        );
    }
    match (&status.objects, case.sight.counts()) {
        (_, Some(counts)) if counts.lost + counts.unavailable > 0 => Said::Yes(
            "ObjectsUnavailable",
            format!(
                "{} objects cannot be read now, {} any more",
                counts.unavailable, counts.lost
            ),
        ),
        (_, Some(_)) => Said::No("Redundant", String::new()),
        _ => Said::Unknown("NotCounted", "the objects have not been counted yet".into()),
    }
}

/// What the loss of a zone would cost.
fn zone_spread(case: &Situation<'_>) -> Said {
    let Some(state) = &case.sight.state else {
        return Said::Unknown("NotBorn", "the cluster is not there yet".into());
    };
    let nodes = state.layout.nodes.values();
    let active = nodes.filter(|node| node.takes_data());
    let zones: BTreeSet<&String> = active.filter_map(|node| node.zone.as_ref()).collect();
    let redundancy = &case.resource.spec.redundancy;
    let needed = redundancy.copies.max(redundancy.metadata_replicas) as usize;
    let count = zones.len();
    let labelled = case.machines.values().all(|machine| machine.labelled);
    if count >= needed && labelled {
        return Said::Yes(
            "Spread",
            format!("nodes are in {count} zones: the loss of one costs no data and no service"),
        );
    }
    if count >= needed {
        return Said::No(
            "NoZoneLabels",
            format!(
                "machines have no label {}: each counts as a zone of its own",
                case.resource.spec.nodes.placement.zone_key
            ),
        );
    }
    Said::No(
        "FewZones",
        format!(
            "nodes are in {count} zones, and {needed} are needed to lose one without loss of service"
        ),
    )
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

//! What may go wrong next: what is away, what the loss of a disk would cost, and
//! what that of a zone.

use std::collections::BTreeSet;

use holdfast_client::census::Counts;
use holdfast_crd::StorageClusterStatus;
use holdfast_model::NodeState;
use holdfast_plan::names;

use super::conditions::Said;
use super::{Outcome, is_new};
use crate::lifecycle::Situation;

/// Whether something is away, or has fewer copies than it should.
pub(super) fn degraded(
    outcome: &Outcome<'_>,
    case: &Situation<'_>,
    old: &StorageClusterStatus,
) -> Said {
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
    if let Some(counts) = case.sight.counts().filter(|counts| !counts.clean()) {
        return Said::Yes(
            "ObjectsDegraded",
            format!(
                "{} objects are below their redundancy, {} unavailable, {} lost; {} fragments are missing",
                counts.degraded, counts.unavailable, counts.lost, counts.missing
            ),
        );
    }
    if let Some(sentence) = outcome.parts.failing() {
        return Said::Yes("PodsFailing", sentence);
    }
    // While it is born everything is still to come, and nothing is away.
    if let (false, Some(sentence)) = (is_new(old), outcome.parts.away()) {
        return Said::Yes("PodsMissing", sentence);
    }
    match case.sight.counts() {
        None => Said::Unknown(
            "NotCounted",
            "the objects have not been counted since the last change of the layout".into(),
        ),
        Some(_) => Said::No("Whole", "every object has all its copies".into()),
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

/// Whether the loss of one more disk could lose data.
pub(super) fn at_risk(case: &Situation<'_>) -> Said {
    let copies = case.resource.spec.redundancy.copies;
    risk(copies.into(), case.sight.counts())
}

fn risk(copies: u64, counts: Option<Counts>) -> Said {
    if copies < 2 {
        return Said::Yes(
            "NoRedundancy",
            "there is one copy of everything: the loss of a disk loses data".into(),
        );
    }
    let Some(counts) = counts else {
        return Said::Unknown("NotCounted", "the objects have not been counted yet".into());
    };
    if counts.lost + counts.unavailable > 0 {
        return Said::Yes(
            "ObjectsUnavailable",
            format!(
                "{} objects cannot be read now, {} any more",
                counts.unavailable, counts.lost
            ),
        );
    }
    if counts.degraded > 0 && copies_gone(&counts) + 1 >= copies {
        return Said::Yes(
            "LastCopies",
            format!(
                "{} objects lack copies, and some may have one left: the loss of a disk may lose data",
                counts.degraded
            ),
        );
    }
    Said::No("Redundant", String::new())
}

/// How many copies of one object may be gone. Each is on a disk of its own: a disk
/// that is silent has at most one, and what is missing on disks that answer is
/// being made again for one that is gone for good. That more than one is missing
/// there at a time is not counted, and told when a disk is silent as well.
fn copies_gone(counts: &Counts) -> u64 {
    let rebuilt = u64::from(counts.missing > 0);
    (counts.silent_disks + rebuilt).max(u64::from(counts.degraded > 0))
}

/// What the loss of a zone would cost.
pub(super) fn zone_spread(case: &Situation<'_>) -> Said {
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

    fn reason(copies: u64, counts: Counts) -> &'static str {
        match risk(copies, Some(counts)) {
            Said::Yes(reason, _) | Said::No(reason, _) | Said::Unknown(reason, _) => reason,
        }
    }

    #[test]
    fn data_is_at_risk_when_the_next_loss_could_take_a_last_copy() {
        let degraded = Counts {
            degraded: 3,
            missing: 9,
            ..Counts::default()
        };
        assert_eq!(reason(2, degraded), "LastCopies");
        // Two are left, until another disk is silent meanwhile.
        assert_eq!(reason(3, degraded), "Redundant");
        let silent = Counts {
            silent_disks: 1,
            ..degraded
        };
        assert_eq!(reason(3, silent), "LastCopies");
        let one_away = Counts {
            degraded: 3,
            silent_disks: 1,
            ..Counts::default()
        };
        assert_eq!(reason(3, one_away), "Redundant");
        assert_eq!(reason(2, one_away), "LastCopies");
        let two_away = Counts {
            silent_disks: 2,
            ..one_away
        };
        assert_eq!(reason(3, two_away), "LastCopies");
    }

    #[test]
    fn nothing_is_at_risk_that_has_all_its_copies() {
        assert_eq!(reason(2, Counts::default()), "Redundant");
        assert_eq!(reason(1, Counts::default()), "NoRedundancy");
        let lost = Counts {
            unavailable: 1,
            ..Counts::default()
        };
        assert_eq!(reason(3, lost), "ObjectsUnavailable");
        assert!(matches!(risk(3, None), Said::Unknown(..)));
    }
}

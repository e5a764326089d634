//! Where nodes are: the cluster is told of each node's zone and machine, and
//! again when its pod has moved.

use super::{Situation, Step, Verdict};

/// Tells the cluster what it does not know.
pub(super) fn decide(case: &Situation<'_>, verdict: &mut Verdict) {
    for (ordinal, pod) in &case.pods {
        let status = case.sight.nodes.get(ordinal);
        let Some(node) = status.and_then(|status| case.sight.node(status.node)) else {
            continue;
        };
        let Some(machine) = &pod.machine else {
            continue;
        };
        let Some(place) = case.machines.get(machine) else {
            continue;
        };
        let known = node.zone.as_ref() == Some(&place.zone) && node.host.as_ref() == Some(machine);
        if !known {
            verdict.steps.push(Step::Place {
                node: node.id,
                zone: place.zone.clone(),
                machine: machine.clone(),
            });
        }
    }
}

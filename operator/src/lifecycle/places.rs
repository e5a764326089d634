//! Where nodes are: the cluster is told of each node's zone and machine, and
//! again when its pod has moved. A node that no machine takes is told of.

use holdfast_crd::Spread;
use holdfast_plan::names;

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

/// A pod that is being made is unschedulable for a moment, while its volume is.
const SURE_AFTER_SECONDS: i64 = 15;

/// Says of nodes that have never joined that no machine takes them. One that has
/// waits for its own machine, which is nobody's mistake.
pub(super) fn tell_missing_machines(case: &Situation<'_>, verdict: &mut Verdict) {
    let waiting = case.pods.iter().find(|(ordinal, pod)| {
        **ordinal < case.wanted()
            && case.node(**ordinal).is_none()
            && pod.not_ready_seconds >= SURE_AFTER_SECONDS
            && pod.unschedulable.is_some()
    });
    let Some((ordinal, pod)) = waiting else {
        return;
    };
    let placed = case.pods.values().filter(|pod| pod.machine.is_some());
    let placement = &case.resource.spec.nodes.placement;
    let each = match (placement.hosts, placement.zones) {
        (Spread::Required, _) => ", each on a machine of its own",
        (_, Spread::Required) => ", spread strictly over zones",
        _ => "",
    };
    let sentence = format!(
        "{} storage nodes are asked for{each}, and {} have a machine; none takes {}: {}",
        case.wanted(),
        placed.count(),
        names::node_pod(case.name, *ordinal),
        pod.unschedulable.as_deref().unwrap_or_default(),
    );
    verdict.warn("machines", "NoMachine", sentence.clone());
    verdict.stalled.get_or_insert(("NoMachine", sentence));
}

/// Says for what the drain of a machine waits. The disruption budget, which
/// refuses the eviction, cannot say it.
pub(super) fn tell_waiting_drain(case: &Situation<'_>, verdict: &mut Verdict) {
    let Some(why) = case.keeps_all_nodes() else {
        return;
    };
    let waiting = case.pods.iter().find_map(|(ordinal, pod)| {
        let machine = pod.machine.as_ref().filter(|_| !pod.deleting)?;
        let cordoned = case.machines.get(machine)?.cordoned;
        cordoned.then_some((ordinal, machine))
    });
    if let Some((ordinal, machine)) = waiting {
        let pod = names::node_pod(case.name, *ordinal);
        let sentence = format!("machine {machine} takes no pods: {pod} leaves it later, {why}");
        verdict.note("drain", "DrainWaits", sentence);
    }
}

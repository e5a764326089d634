//! Whether the cluster can be founded: once all first members answer.

use super::{Busy, Situation, Step, Verdict, rollout};

/// Founds the cluster, or waits. A setting with which nobody starts is put right
/// here as well: nobody is there to ask.
pub(super) fn decide(case: &Situation<'_>, verdict: &mut Verdict) {
    verdict.busy = Busy::Birth;
    let redundancy = &case.resource.spec.redundancy;
    let members = redundancy.metadata_replicas.max(redundancy.copies);
    let ordinals: Vec<u32> = (0..members).collect();
    let silent: Vec<String> = ordinals
        .iter()
        .filter(|ordinal| !case.sight.nodes.contains_key(ordinal))
        .map(|ordinal| holdfast_plan::names::node_pod(case.name, *ordinal))
        .collect();
    if silent.is_empty() {
        verdict.steps.push(Step::Found { ordinals });
        return;
    }
    rollout::replace_idle(case, verdict);
    let sentence = format!("waiting for {} to answer", silent.join(", "));
    verdict.note("birth", "WaitingForNodes", sentence);
}

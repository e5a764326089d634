//! Volumes grow: the claims are asked for more, and when all have it the
//! StatefulSet is made again around its pods, since its claim template is fixed.
//!
//! Only volumes of nodes that are wanted: those of nodes that were removed stay as
//! they are. And never while pods are being replaced, or anybody works on one: a
//! pod is gone meanwhile, and the set that is to make it must be there.

use holdfast_plan::names;
use holdfast_plan::quantity::bytes;

use super::{Busy, Situation, Step, Verdict};

/// Goes on with growing.
pub(super) fn decide(case: &Situation<'_>, verdict: &mut Verdict) {
    let smaller: Vec<u32> = case
        .claims
        .range(..case.wanted())
        .filter(|(_, claim)| claim.smaller)
        .map(|(ordinal, _)| *ordinal)
        .collect();
    if !smaller.is_empty() {
        verdict.busy = Busy::Scaling;
        if case.can_grow == Some(true) {
            match waits(case) {
                None => verdict.steps.push(Step::Grow { ordinals: smaller }),
                Some(why) => tell(verdict, "VolumesWait", format!("volumes grow later: {why}")),
            }
        } else {
            let sentence = format!(
                "volume {} cannot grow: its StorageClass does not allow expansion; set allowVolumeExpansion there if its driver can, or make a new cluster on a class that does and copy the files",
                smaller
                    .first()
                    .map_or_else(String::new, |ordinal| names::node_claim(
                        case.name, *ordinal
                    ))
            );
            verdict.stalled = Some(("VolumesCannotGrow", sentence.clone()));
            verdict.warn("volumes", "VolumesCannotGrow", sentence);
        }
        return;
    }
    let growing: Vec<String> = case
        .claims
        .range(..case.wanted())
        .filter(|(_, claim)| !claim.grown)
        .map(|(ordinal, _)| names::node_claim(case.name, *ordinal))
        .collect();
    // A claim without a volume yet has no room either.
    let bound = case.sight.cluster().is_some();
    if !growing.is_empty() && bound && template_is_smaller(case) {
        verdict.busy = Busy::Scaling;
        let sentence = format!("waiting for {} to have its room", growing.join(", "));
        return tell(verdict, "VolumesGrowing", sentence);
    }
    // The set carries the mark of the node that leaves.
    let steady = case.wanted() == case.replicas_now() && case.marked().is_none();
    if template_is_smaller(case) && steady && waits(case).is_none() {
        verdict.steps.push(Step::RecreateSet);
    }
}

fn tell(verdict: &mut Verdict, reason: &'static str, sentence: String) {
    verdict.note("volumes", reason, sentence);
}

/// Why nothing is done about volumes now.
fn waits(case: &Situation<'_>) -> Option<String> {
    if let Some(permit) = case.sight.permit() {
        return Some(format!("the maintenance permit is held: {}", permit.reason));
    }
    if case.newest_revision().is_none() {
        return Some("the StatefulSet has just changed".into());
    }
    let count = case.outdated().count();
    (count > 0).then(|| format!("{count} pods wait for a new revision"))
}

/// Whether new nodes would get volumes of another size than is asked for.
fn template_is_smaller(case: &Situation<'_>) -> bool {
    let spec = case.set.and_then(|set| set.spec.as_ref());
    let templates = spec.and_then(|spec| spec.volume_claim_templates.as_ref());
    let size = templates
        .and_then(|all| all.first())
        .and_then(|claim| claim.spec.as_ref()?.resources.as_ref())
        .and_then(|resources| resources.requests.as_ref()?.get("storage"));
    size.is_some_and(|size| bytes(size) < bytes(&case.resource.spec.nodes.storage.size))
}

//! Which release a cluster may be taken to, and when its formats are finalised.
//!
//! Group 0 has the last word: it refuses what a node cannot read. Here it is
//! said before a pod is touched, as far as the image's tag tells it, and
//! gateways, workers and the operator itself are counted, which group 0 does
//! not know.

use holdfast_model::release::newest_of_all;
use holdfast_model::{ActiveRelease, Release, Supported};
use holdfast_plan::names;

use holdfast_crd::{Finalize, StorageCluster};

use super::{Busy, Situation, Step, Verdict};
use crate::nodes::Sight;

/// The release that the cluster was last known to write.
pub fn written(resource: &StorageCluster, sight: &Sight) -> Option<Release> {
    let told = sight.state.as_ref().map(|state| state.active.release);
    let status = resource.status.as_ref();
    let noted = status.and_then(|status| status.cluster_version.as_ref()?.parse().ok());
    // A node that has fallen behind knows an older one.
    told.max(noted).map(Release::first_of_minor)
}

/// Why this operator must leave the cluster alone: it is of a newer release.
pub fn refuse_operator(
    written: Option<Release>,
    active: Option<ActiveRelease>,
    own: &Supported,
) -> Option<String> {
    let newer = written.filter(|written| *written > own.release.first_of_minor());
    let strange = active.filter(|active| !own.speaks(*active));
    let release = newer.or(strange.map(|active| active.release))?;
    Some(format!(
        "the cluster writes the formats of release {release}, and this operator is of release {}: it changes nothing; use an operator of release {release}",
        own.release
    ))
}

/// Why the cluster must not be taken to an image with that tag. A tag that names
/// no release says nothing: its pods will.
pub fn refuse_image(tag: &str, written: Option<Release>) -> Option<String> {
    let wanted = tag.parse::<Release>().ok()?.first_of_minor();
    let written = written?;
    if wanted == written || wanted.follows(written) {
        return None;
    }
    let why = if wanted < written {
        "an older image cannot read them"
    } else {
        "releases are taken one after the other, each finalised before the next"
    };
    Some(format!(
        "the cluster writes the formats of release {written}, and spec.image.tag is {tag}: {why}; nothing is changed until the tag is another"
    ))
}

/// Finalises what every part runs, or says what is waited for.
pub(super) fn decide(case: &Situation<'_>, verdict: &mut Verdict) {
    let Some(state) = &case.sight.state else {
        return;
    };
    let Some(next) = newest_of_all(state.layout.nodes.values()) else {
        return;
    };
    if !next.is_next_after(state.active) || !at_rest(case, verdict) {
        return;
    }
    let (to, name) = (next.release, case.name);
    if to > case.own.release.first_of_minor() {
        let own = case.own.release;
        let sentence = format!(
            "release {to} runs and is not finalised: this operator is of release {own}, and could not look after the cluster then; upgrade the operator"
        );
        return verdict.warn(ABOUT, "FinalizeWaits", sentence);
    }
    let now = state.active.release;
    if !is_wanted(case, to) {
        let sentence = format!(
            "release {to} runs, and the formats of {now} are written, so that its image may come back; to give that up: kubectl annotate hfc {name} {}={to} --overwrite",
            names::FINALIZE
        );
        return verdict.note(ABOUT, "FinalizeWaits", sentence);
    }
    if !case.sight.counts().is_some_and(|counts| counts.clean()) {
        let sentence = format!("release {to} is finalised when every object has all its copies");
        return verdict.note(ABOUT, "FinalizeWaits", sentence);
    }
    verdict.steps.push(Step::Finalize { to });
}

/// What the notes are about: the condition Reconciling shows them.
pub const ABOUT: &str = "release";

/// Whether every part runs the same image and nothing is being done.
fn at_rest(case: &Situation<'_>, verdict: &Verdict) -> bool {
    verdict.busy == Busy::No
        && verdict.steps.is_empty()
        && verdict.stalled.is_none()
        && case.sight.permit().is_none()
        && case.sight.all_led()
        && case.common_tag.is_some()
        && case.newest_revision().is_some()
        && !case.pods.values().any(|pod| case.is_outdated(pod))
}

fn is_wanted(case: &Situation<'_>, to: Release) -> bool {
    match case.resource.spec.upgrade.finalize {
        Finalize::Auto => true,
        Finalize::Manual => {
            let annotations = case.resource.metadata.annotations.as_ref();
            let said = annotations.and_then(|all| all.get(names::FINALIZE));
            let release = said.and_then(|text| text.parse::<Release>().ok());
            release.map(Release::first_of_minor) == Some(to)
        }
    }
}

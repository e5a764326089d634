//! The second step: from what is there to the one type that builders read, or to
//! the sentences that say what to change.

use holdfast_crd::StorageCluster;
use holdfast_plan::{Cluster, Contradiction, Decisions};

use crate::lifecycle::Verdict;
use crate::observe::Observed;

/// Makes it.
///
/// # Errors
/// What contradicts itself.
pub fn validate(
    observed: &Observed,
    verdict: &Verdict,
    default_tag: &str,
) -> Result<Cluster, Vec<Contradiction>> {
    let spec = &observed.resource.spec;
    let cluster = observed.sight.cluster().map(|id| id.to_string());
    let status = observed.resource.status.as_ref();
    let known = status.and_then(|status| status.cluster_id.clone());
    let decisions = Decisions {
        tag: recorded_tag(&observed.resource).unwrap_or_else(|| default_tag.to_owned()),
        cluster_id: cluster.or(known),
        storage_replicas: verdict.storage_replicas,
        storage_disruptions: verdict.storage_disruptions,
        gateway_replicas: spec
            .gateway
            .autoscale
            .is_none()
            .then_some(spec.gateway.replicas),
        worker_replicas: workers(&observed.resource, observed.sight.tasks),
        hibernated: verdict.hibernated,
        encrypted: observed.running_encrypted(),
        kinds: observed.kinds,
    };
    holdfast_plan::validate(&observed.resource, decisions)
}

/// The tag that is asked for.
pub fn wanted_tag(resource: &StorageCluster, default_tag: &str) -> String {
    let asked = resource.spec.image.tag.clone();
    asked
        .or_else(|| recorded_tag(resource))
        .unwrap_or_else(|| default_tag.to_owned())
}

/// The release that was recorded when the resource was first seen: a newer
/// operator rolls nothing by itself.
fn recorded_tag(resource: &StorageCluster) -> Option<String> {
    let images = &resource.status.as_ref()?.images;
    let (_, tag) = images.get("storage")?.rsplit_once(':')?;
    Some(tag.to_owned())
}

/// Workers: one for so many tasks, between the bounds.
fn workers(resource: &StorageCluster, tasks: u64) -> u32 {
    let worker = &resource.spec.worker;
    let Some(scale) = &worker.autoscale else {
        return worker.replicas;
    };
    let wanted = tasks.div_ceil(u64::from(scale.tasks_per_worker.max(1)));
    u32::try_from(wanted)
        .unwrap_or(u32::MAX)
        .clamp(scale.min, scale.max)
}

//! The second step: from what is there to the one type that builders read, or to
//! the sentences that say what to change.

use holdfast_crd::StorageCluster;
use holdfast_plan::names::{self, Component};
use holdfast_plan::{ChildKind, Cluster, Contradiction, Decisions};

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
    holdfast_plan::validate(
        &observed.resource,
        decisions(observed, verdict, default_tag),
    )
}

/// What was decided, as builders read it.
pub fn decisions(observed: &Observed, verdict: &Verdict, default_tag: &str) -> Decisions {
    let cluster = observed.sight.cluster().map(|id| id.to_string());
    let status = observed.resource.status.as_ref();
    let known = status.and_then(|status| status.cluster_id.clone());
    Decisions {
        tag: recorded_tag(&observed.resource).unwrap_or_else(|| default_tag.to_owned()),
        cluster_id: cluster.or(known),
        storage_replicas: verdict.storage_replicas,
        storage_disruptions: verdict.storage_disruptions,
        gateway_replicas: gateways(observed),
        worker_replicas: workers(&observed.resource, observed.sight.tasks),
        hibernated: verdict.hibernated,
        encrypted: observed.running_encrypted(),
        kinds: observed.kinds,
    }
}

/// Gateways; `None` where an autoscaler has the number. It takes its time to look
/// at a Deployment that was just made, so that one begins with the least.
fn gateways(observed: &Observed) -> Option<u32> {
    let gateway = &observed.resource.spec.gateway;
    let Some(scale) = gateway.autoscale else {
        return Some(gateway.replicas);
    };
    let name = names::workload(&observed.name, Component::Gateway);
    let there = observed
        .children
        .contains_key(&(ChildKind::Deployment, name));
    (!there).then_some(scale.min)
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

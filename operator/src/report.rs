//! The fifth step: says in the status how the cluster is, and writes nothing
//! when only the time has changed.

mod conditions;
mod dangers;

use std::collections::BTreeMap;

use holdfast_crd::{
    Capacity, ClusterPhase, NodeStatus, NodesStatus, ObjectsStatus, StorageCluster,
    StorageClusterStatus,
};
use holdfast_model::NodeState;
use holdfast_plan::{Cluster, Contradiction, names};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};

use crate::apply::Refused;
use crate::context::Context;
use crate::error::{Attempt, OperatorError};
use crate::lifecycle::{Busy, Situation, Verdict, release};
use crate::observe::{Observed, read_resource};
use crate::parts::Parts;
use crate::rotation::Secrecy;

/// What a reconcile came to.
pub struct Outcome<'a> {
    /// What is there.
    pub observed: &'a Observed,
    /// What was decided.
    pub verdict: &'a Verdict,
    /// What the builders read, or why there is no such thing.
    pub cluster: Result<&'a Cluster, &'a [Contradiction]>,
    /// What the API server refuses for good.
    pub refused: &'a [Refused],
    /// How the gateways, workers, brokers and the cache are.
    pub parts: &'a Parts,
    /// Whether an object was written and read back for this generation.
    pub probed: bool,
    /// Whether every metadata group has a leader, elections aside.
    pub led: bool,
    /// Why an object was not.
    pub probe: Option<String>,
    /// How far certificates and credentials are.
    pub secrecy: &'a Secrecy,
}

/// The status of what was found, with the times of the one before where nothing
/// else has changed.
pub fn build_status(outcome: &Outcome<'_>, now: Timestamp) -> StorageClusterStatus {
    let observed = outcome.observed;
    let old = observed.resource.status.clone().unwrap_or_default();
    let case = Situation::of(observed, now.as_second());
    let nodes = nodes_of(&case, &old);
    let cluster_id = observed
        .sight
        .cluster()
        .map(|id| id.to_string())
        .or(old.cluster_id.clone());
    let mut status = StorageClusterStatus {
        observed_generation: observed.resource.metadata.generation,
        cluster_version: release::written(&observed.resource, &observed.sight)
            .map(|release| release.to_string()),
        cluster_id,
        phase: None,
        conditions: Vec::new(),
        rotation: outcome.secrecy.rotation.clone(),
        rotated: outcome.secrecy.rotated.clone().or(old.rotated.clone()),
        nodes,
        objects: objects_of(observed, &old),
        capacity: capacity_of(observed),
        images: images_of(outcome, &old),
    };
    status.phase = Some(phase_of(outcome, &case, &old));
    status.conditions = conditions::build(outcome, &case, &status, &old, now);
    status
}

fn phase_of(
    outcome: &Outcome<'_>,
    case: &Situation<'_>,
    old: &StorageClusterStatus,
) -> ClusterPhase {
    let spec = &outcome.observed.resource.spec;
    let stopped = !spec.suspend && outcome.parts.stopped().is_some();
    let stuck = outcome.cluster.is_err() || outcome.verdict.stalled.is_some() || stopped;
    if stuck || !outcome.refused.is_empty() {
        return ClusterPhase::Failed;
    }
    if spec.suspend {
        return ClusterPhase::Suspended;
    }
    if outcome.verdict.hibernated {
        return ClusterPhase::Hibernated;
    }
    match outcome.verdict.busy {
        Busy::Birth => ClusterPhase::Creating,
        Busy::Scaling => ClusterPhase::Scaling,
        Busy::Rolling => ClusterPhase::Updating,
        Busy::No if !conditions::all_joined(case) => ClusterPhase::Creating,
        Busy::No if outcome.parts.rolling().is_none() => ClusterPhase::Running,
        Busy::No if is_new(old) => ClusterPhase::Creating,
        Busy::No => ClusterPhase::Updating,
    }
}

/// Whether a cluster has not been up since it was made.
fn is_new(old: &StorageClusterStatus) -> bool {
    matches!(old.phase, None | Some(ClusterPhase::Creating))
}

fn nodes_of(case: &Situation<'_>, old: &StorageClusterStatus) -> NodesStatus {
    let ordinals = case.pods.keys().chain(case.claims.keys());
    let mut all: Vec<u32> = ordinals.copied().collect();
    all.sort_unstable();
    all.dedup();
    // A claim that was kept of a node that is gone is no node.
    all.retain(|ordinal| case.pods.contains_key(ordinal) || *ordinal < case.wanted());
    let list: Vec<NodeStatus> = all
        .into_iter()
        .map(|ordinal| node_of(case, ordinal, old))
        .collect();
    let ready = case.pods.values().filter(|pod| pod.ready).count();
    NodesStatus {
        replicas: list.len() as u32,
        ready: ready as u32,
        list,
    }
}

fn node_of(case: &Situation<'_>, ordinal: u32, old: &StorageClusterStatus) -> NodeStatus {
    let pod = names::node_pod(case.name, ordinal);
    let before = old.nodes.list.iter().find(|node| node.pod == pod);
    let node = case.node(ordinal);
    let status = case.sight.nodes.get(&ordinal);
    let claim = case.claims.get(&ordinal).map(|claim| claim.uid.clone());
    let known = node.map(|node| node.id).or(status.map(|one| one.node));
    // A node that is silent keeps the identity by which it can be given up,
    // while it has the same volume.
    let kept = before
        .filter(|before| before.pvc_uid == claim)
        .and_then(|before| before.id.clone());
    NodeStatus {
        id: known.map(|id| id.to_string()).or(kept),
        ordinal,
        pvc_uid: claim,
        zone: node.and_then(|node| node.zone.clone()),
        state: state_of(case, ordinal, node.map(|node| node.state)),
        used_percent: status.map(|status| used_percent(status.space.capacity, status.space.free)),
        fragments_to_move: node
            .filter(|node| node.state == NodeState::Draining)
            .and(status)
            .map(|status| status.space.fragments),
        pod,
    }
}

fn state_of(case: &Situation<'_>, ordinal: u32, state: Option<NodeState>) -> String {
    let answers = case.sight.nodes.contains_key(&ordinal);
    match state {
        _ if case.resource.spec.hibernate && !answers => "Hibernated",
        None if answers => "Joining",
        None => "Starting",
        Some(NodeState::Active) if !answers => "Silent",
        Some(NodeState::Unplaced) => "Unplaced",
        Some(NodeState::Active) => "Active",
        Some(NodeState::Down) => "Down",
        Some(NodeState::Draining) => "Draining",
        Some(NodeState::Drained) => "Drained",
        Some(NodeState::Lost) => "Lost",
    }
    .into()
}

/// Full steps of one percent: uploads change the bytes all the time.
fn used_percent(capacity: u64, free: u64) -> u32 {
    let used = capacity.saturating_sub(free);
    u32::try_from(used.saturating_mul(100) / capacity.max(1)).unwrap_or(100)
}

fn objects_of(observed: &Observed, old: &StorageClusterStatus) -> Option<ObjectsStatus> {
    let sight = &observed.sight;
    let (Some(counts), Some(state)) = (sight.counts(), sight.state.as_ref()) else {
        return old.objects.clone();
    };
    let oldest = sight.censuses.values().map(|census| census.time).min()?;
    let as_of = Timestamp::from_millisecond(i64::try_from(oldest.0).ok()?).ok()?;
    Some(ObjectsStatus {
        // Not what groups hold at this moment: every upload would be a write.
        total: sight.counted_objects(),
        degraded: counts.degraded,
        unavailable: counts.unavailable,
        lost: counts.lost,
        as_of: Time(as_of),
        epoch: state.layout.epoch.0,
    })
}

fn capacity_of(observed: &Observed) -> Option<Capacity> {
    let spaces = observed.sight.nodes.values().map(|status| status.space);
    let (capacity, free) = spaces.fold((0, 0), |(capacity, free), space| {
        (capacity + space.capacity, free + space.free)
    });
    (capacity > 0).then(|| Capacity {
        bytes: capacity,
        used_percent: used_percent(capacity, free),
    })
}

fn images_of(outcome: &Outcome<'_>, old: &StorageClusterStatus) -> BTreeMap<String, String> {
    let Ok(cluster) = outcome.cluster else {
        return old.images.clone();
    };
    let images = &cluster.images;
    [
        ("storage", &images.storage),
        ("gateway", &images.gateway),
        ("worker", &images.worker),
    ]
    .into_iter()
    .map(|(part, image)| (part.to_owned(), image.clone()))
    .collect()
}

/// How many of the gateways are available.
pub fn gateways_available(observed: &Observed) -> i32 {
    let key = (
        holdfast_plan::ChildKind::Deployment,
        names::gateway_service(&observed.name),
    );
    let deployment = observed.children.get(&key).and_then(|object| {
        let value = serde_json::to_value(object).ok()?;
        serde_json::from_value::<Deployment>(value).ok()
    });
    deployment
        .and_then(|deployment| deployment.status?.available_replicas)
        .unwrap_or(0)
}

/// Writes the status where it differs in more than times.
///
/// # Errors
/// When the API server does not take it.
pub async fn write_status(
    context: &Context,
    resource: &StorageCluster,
    status: StorageClusterStatus,
) -> Result<(), OperatorError> {
    let old = resource.status.clone().unwrap_or_default();
    if timeless(&old) == timeless(&status) {
        return Ok(());
    }
    let namespace = resource.namespace().unwrap_or_default();
    let api: Api<StorageCluster> = Api::namespaced(context.client.clone(), &namespace);
    let value = serde_json::to_value(&status)
        .map_err(|error| OperatorError::Malformed(error.to_string()))?;
    // The whole of it: what is no longer said must go.
    let patch = Patch::Apply(serde_json::json!({
        "apiVersion": names::API_VERSION,
        "kind": names::KIND,
        "metadata": { "name": resource.name_any() },
        "status": value,
    }));
    let params = PatchParams::apply(names::MANAGED_BY).force();
    metrics::counter!("holdfast_operator_status_writes_total").increment(1);
    api.patch_status(&resource.name_any(), &params, &patch)
        .await
        .map(|_| ())
        .attempt(|| format!("writing the status of {}", resource.name_any()))
}

/// Says in the status why nothing was done; all else stays as it was said.
///
/// # Errors
/// When the API server does not take that either.
pub async fn write_failure(
    context: &Context,
    resource: &StorageCluster,
    error: &OperatorError,
) -> Result<(), OperatorError> {
    // What was seen may be older than what is there.
    let current = read_resource(context, resource).await.ok().flatten();
    let resource = current.as_ref().unwrap_or(resource);
    let old = resource.status.clone().unwrap_or_default();
    let failed = conditions::with_failure(&old, resource.metadata.generation, error);
    write_status(context, resource, failed).await
}

/// A status without the time of its count.
fn timeless(status: &StorageClusterStatus) -> StorageClusterStatus {
    let mut status = status.clone();
    if let Some(objects) = &mut status.objects {
        objects.as_of = Time(Timestamp::UNIX_EPOCH);
    }
    status
}

#[cfg(test)]
mod tests;

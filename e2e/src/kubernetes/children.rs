//! The objects that the operator makes of a StorageCluster, by the names that
//! are promised.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wait::until;
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::kubernetes::room::Room;

/// The name of the storage nodes' StatefulSet.
pub fn node_set(cluster: &str) -> String {
    format!("{cluster}-node")
}

/// The name of a storage node's pod.
pub fn node_pod(cluster: &str, ordinal: u32) -> String {
    format!("{}-{ordinal}", node_set(cluster))
}

/// The name of a storage node's volume claim.
pub fn node_claim(cluster: &str, ordinal: u32) -> String {
    format!("data-0-{}", node_pod(cluster, ordinal))
}

/// The pods of the storage nodes.
pub async fn storage_pods(room: &Room, cluster: &str) -> Result<Vec<Pod>> {
    let prefix = format!("{}-", node_set(cluster));
    let mut pods = room.api::<Pod>().list(&ListParams::default()).await?.items;
    pods.retain(|pod| {
        let ordinal = pod.name_any().strip_prefix(&prefix).map(str::to_owned);
        ordinal.is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
    });
    Ok(pods)
}

/// Whether a pod serves, and is not about to leave.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
}

/// Why a container of a pod waits: `ImagePullBackOff`.
pub fn waits_for(pod: &Pod) -> Option<&str> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        waiting.reason.as_deref()
    })
}

/// How many storage nodes the StatefulSet is to have.
pub async fn node_replicas(room: &Room, cluster: &str) -> Result<i32> {
    let set = room.api::<StatefulSet>().get(&node_set(cluster)).await?;
    Ok(set.spec.and_then(|spec| spec.replicas).unwrap_or_default())
}

/// The identity of a node's volume claim.
pub async fn claim_uid(room: &Room, cluster: &str, ordinal: u32) -> Result<String> {
    let claim = room
        .api::<PersistentVolumeClaim>()
        .get(&node_claim(cluster, ordinal))
        .await?;
    Ok(claim.uid().unwrap_or_default())
}

/// Deletes a storage pod and waits until another one serves in its place.
pub async fn replace_pod(room: &Room, cluster: &str, ordinal: u32, limit: Duration) -> Result<()> {
    let (pods, name) = (room.api::<Pod>(), node_pod(cluster, ordinal));
    let old = pods.get(&name).await?.uid();
    pods.delete(&name, &DeleteParams::default()).await?;
    until("the pod is back", limit, async || {
        let pod = pods.get(&name).await?;
        ensure!(pod.uid() != old, "the old one is still there");
        ensure!(is_ready(&pod), "it is not ready");
        Ok(())
    })
    .await
}

/// Waits until no pod of a cluster is left.
pub async fn until_no_pods(room: &Room, cluster: &str, limit: Duration) -> Result<()> {
    let prefix = format!("{cluster}-");
    until("all pods are gone", limit, async || {
        let pods = room.api::<Pod>().list(&ListParams::default()).await?;
        let left: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        if left.iter().any(|name| name.starts_with(&prefix)) {
            bail!("{}", left.join(", "));
        }
        Ok(())
    })
    .await
}

/// How often the containers of a pod were started again.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|status| status.restart_count)
        .sum()
}

/// The identity of each pod here and how often its containers were started
/// again: what is the same later has not been touched.
pub async fn lives(room: &Room) -> Result<BTreeMap<String, (Option<String>, i32)>> {
    let pods = room.api::<Pod>().list(&ListParams::default()).await?;
    let life = |pod: &Pod| (pod.name_any(), (pod.uid(), restarts(pod)));
    Ok(pods.iter().map(life).collect())
}

/// Has the storage nodes ask for that much memory: all of their pods become
/// others, and nothing else does.
pub async fn ask_for_memory(room: &Room, memory: &str) -> Result<()> {
    let change = json!({"nodes": {"resources": {"requests": {"memory": memory}}}});
    room.change("demo", change).await
}

/// Whether a pod asks for that much memory.
pub fn asks_for_memory(pod: &Pod, memory: &str) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut requests = containers.filter_map(|one| one.resources.as_ref()?.requests.as_ref());
    requests.any(|requests| requests.get("memory").is_some_and(|m| m.0 == memory))
}

/// How many storage nodes are ready and ask for that much memory.
pub async fn ready_with_memory(room: &Room, memory: &str) -> Result<usize> {
    let pods = storage_pods(room, "demo").await?;
    let fitting = |pod: &&Pod| is_ready(pod) && asks_for_memory(pod, memory);
    Ok(pods.iter().filter(fitting).count())
}

/// Waits until all storage nodes are ready and ask for that much memory.
pub async fn until_all_ask(room: &Room, nodes: usize, memory: &str, limit: Duration) -> Result<()> {
    until("all nodes have the new setting", limit, async || {
        let new = ready_with_memory(room, memory).await?;
        ensure!(new == nodes, "{new} of {nodes}");
        Ok(())
    })
    .await
}

/// Waits until one of so many storage nodes is not ready.
pub async fn until_one_is_away(room: &Room, nodes: usize, limit: Duration) -> Result<()> {
    until("a storage pod is away", limit, async || {
        let pods = storage_pods(room, "demo").await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        ensure!(ready < nodes, "all are ready");
        Ok(())
    })
    .await
}

/// The identity of a storage node's pod.
pub async fn pod_uid(room: &Room, ordinal: u32) -> Result<String> {
    let pod = room.api::<Pod>().get(&node_pod("demo", ordinal)).await?;
    pod.uid().context("the pod has no identity")
}

/// Holds an object back that is deleted.
const HELD: &str = "e2e.holdfast.dev/held";

/// Ends a storage node and has its pod stay where it is, so that no other takes
/// its place.
pub async fn hold_away(room: &Room, ordinal: u32, limit: Duration) -> Result<()> {
    let name = node_pod("demo", ordinal);
    let held = json!({"metadata": {"finalizers": [HELD]}});
    room.merge::<Pod>(&name, held).await?;
    let pods = room.api::<Pod>();
    pods.delete(&name, &DeleteParams::default()).await?;
    until("its containers have ended", limit, async || {
        let status = pods.get(&name).await?.status.unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let mut states = containers.iter().filter_map(|one| one.state.as_ref());
        ensure!(states.all(|one| one.terminated.is_some()), "{name} runs");
        Ok(())
    })
    .await
}

/// Lets the pod go that was held back, if it was.
pub async fn let_go(room: &Room, ordinal: u32) -> Result<()> {
    let name = node_pod("demo", ordinal);
    let pod = room.api::<Pod>().get_opt(&name).await?;
    if pod.is_none_or(|pod| !pod.finalizers().iter().any(|one| one == HELD)) {
        return Ok(());
    }
    let free = json!({"metadata": {"finalizers": []}});
    room.merge::<Pod>(&name, free).await
}

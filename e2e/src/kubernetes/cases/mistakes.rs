//! Settings that no node starts with, and the fix for them.

use anyhow::{Result, bail, ensure};
use futures_util::future::try_join_all;
use holdfast_e2e::wait::until;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{SETTLED, born_with_patient_traffic, born_with_traffic};
use crate::children::{is_ready, node_pod, restarts, storage_pods};
use crate::roll::Onlooker;
use crate::room::Room;
use crate::spec::two_gateways;
use crate::state;

/// A setting that a node understands, with this value.
fn setting(value: &str) -> Value {
    json!({"nodes": {"podTemplate": {"spec": {"containers": [{
        "name": "node",
        "env": [{"name": "HOLDFAST_CENSUS_WALK_INTERVAL", "value": value}],
    }]}}}})
}

const BAD: &str = "now and then";
const GOOD: &str = "2h";

pub async fn two_of_three_crash_loop_until_the_setting_is_put_right(room: &Room) -> Result<()> {
    // The majority is away from the second loss to the fix, and some more.
    let (before, traffic) = born_with_patient_traffic(room, &two_gateways(room)).await?;
    room.change("demo", setting(BAD)).await?;
    // The round stops at its first pod; a person takes the second one away.
    until_crashing(room, 2).await?;
    room.api::<Pod>()
        .delete(&node_pod("demo", 1), &DeleteParams::default())
        .await?;
    until_crashing(room, 1).await?;

    room.change("demo", setting(GOOD)).await?;
    until_all_have(room, GOOD).await?;
    let after = room.until_settled("demo", SETTLED).await?;
    let ids = |cluster| {
        (0..3)
            .map(|n| state::node(cluster, n).and_then(|n| n.id.clone()))
            .collect::<Vec<_>>()
    };
    ensure!(ids(&before) == ids(&after), "nodes are others than before");
    traffic.finish_unharmed().await.map(drop)
}

pub async fn one_of_three_is_down_when_its_fix_arrives(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &two_gateways(room)).await?;
    let onlooker = Onlooker::begin(room, "demo", 3);
    room.change("demo", setting(BAD)).await?;
    until_crashing(room, 2).await?;
    let others = try_join_all((0..2).map(|ordinal| identity(room, ordinal))).await?;

    room.change("demo", setting(GOOD)).await?;
    let mut too_early = false;
    until("the pod that was down has the fix", SETTLED, async || {
        let now = try_join_all((0..2).map(|ordinal| identity(room, ordinal))).await?;
        let last = room.api::<Pod>().get(&node_pod("demo", 2)).await?;
        if is_ready(&last) && value_of(&last) == Some(GOOD) {
            return Ok(());
        }
        too_early |= now != others;
        bail!("it is not ready yet")
    })
    .await?;
    ensure!(!too_early, "another one was replaced before it");
    until_all_have(room, GOOD).await?;
    room.until_settled("demo", SETTLED).await?;
    onlooker.expect_one_at_a_time().await?;
    traffic.finish_unharmed().await.map(drop)
}

async fn identity(room: &Room, ordinal: u32) -> Result<Option<String>> {
    let pod = room.api::<Pod>().get(&node_pod("demo", ordinal)).await?;
    Ok(pod.uid())
}

/// What a storage pod has of the setting.
fn value_of(pod: &Pod) -> Option<&str> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut variables = containers.flat_map(|container| container.env.iter().flatten());
    let ours = variables.find(|variable| variable.name == "HOLDFAST_CENSUS_WALK_INTERVAL")?;
    ours.value.as_deref()
}

async fn until_crashing(room: &Room, ordinal: u32) -> Result<()> {
    let name = node_pod("demo", ordinal);
    until("the pod crash-loops", SETTLED, async || {
        let pod = room.api::<Pod>().get(&name).await?;
        ensure!(value_of(&pod) == Some(BAD), "{name} is of before");
        ensure!(restarts(&pod) >= 2, "{name} was not started again yet");
        Ok(())
    })
    .await
}

async fn until_all_have(room: &Room, value: &str) -> Result<()> {
    until("all nodes have the setting", SETTLED, async || {
        let pods = storage_pods(room, "demo").await?;
        ensure!(pods.len() == 3, "there are {} storage pods", pods.len());
        for pod in pods {
            let has = value_of(&pod);
            ensure!(
                has == Some(value) && is_ready(&pod),
                "{} has {has:?}, or is not ready",
                pod.name_any()
            );
        }
        Ok(())
    })
    .await
}

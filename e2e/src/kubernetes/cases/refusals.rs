//! Smaller clusters that are refused, because of zones, of health, or of room.

use anyhow::{Context, Result, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::wait::until;
use reqwest::Method;
use serde_json::json;

use super::volumes::{SIZED_CLASS, fill, on};
use super::{SETTLED, TOLD, born_with_patient_traffic, born_with_traffic};
use crate::children::{hold_away, let_go, lives, node_pod, node_replicas, pod_uid};
use crate::machines::{Zones, machine_of};
use crate::room::Room;
use crate::spec::{small, with};
use crate::state;

/// The node that is to go.
const FOURTH: u32 = 3;
/// A node that is to stay, and is away.
const SILENT: u32 = 0;

pub async fn fewer_nodes_are_refused_where_zones_or_health_forbid_it(room: &Room) -> Result<()> {
    let Some(zones) = Zones::begin(room).await? else {
        return Ok(());
    };
    let shown = refused_by_zones_and_health(room, &zones).await;
    // Whatever came of it: a pod that is held keeps its namespace.
    let freed = let_go(room, SILENT).await;
    let ended = zones.end().await;
    shown.and(freed).and(ended)
}

async fn refused_by_zones_and_health(room: &Room, zones: &Zones<'_>) -> Result<()> {
    let [first, second, third] = &zones.machines;
    zones.set(first, Some("a")).await?;
    zones.set(second, Some("b")).await?;
    let strict = json!({"nodes": {"placement": {"zones": "Required", "zoneKey": zones.key}}});
    let (_, traffic) = born_with_traffic(room, &with(small(room), strict)).await?;
    // Two zones have three nodes: the fourth goes to the third zone, alone.
    zones.set(third, Some("c")).await?;
    room.scale("demo", 4).await?;
    let four = room.until_settled("demo", SETTLED).await?;
    let machine = machine_of(room, FOURTH).await?;
    ensure!(machine == *third, "the fourth node is on {machine}");
    ensure!(
        state::is(&four, "ZoneSpread", "True"),
        "{}",
        state::say(&four)
    );

    refused(room, &four, |message| message.contains("zone")).await?;
    taken_back(room).await?;

    // It is one of two there now, and another node is away. With three in its zone
    // and one in the other, strict spread would let none of the three come back.
    let mut on_first = 0;
    for ordinal in 0..FOURTH {
        on_first += u32::from(machine_of(room, ordinal).await? == *first);
    }
    let smaller = if on_first == 1 { "a" } else { "b" };
    zones.set(third, Some(smaller)).await?;
    let two = room
        .until_cluster("demo", "two zones", SETTLED, |cluster| {
            state::is_settled(cluster) && state::is(cluster, "ZoneSpread", "False")
        })
        .await?;
    hold_away(room, SILENT, SETTLED).await?;
    room.until_cluster("demo", "the silence is told", TOLD, |cluster| {
        state::is(cluster, "Degraded", "True")
    })
    .await?;
    refused(room, &two, |message| !message.contains("zone")).await?;
    // When it is back, what was asked for is done.
    let_go(room, SILENT).await?;
    until("the fourth node is gone", SETTLED, async || {
        let replicas = node_replicas(room, "demo").await?;
        ensure!(replicas == 3, "{replicas} replicas");
        Ok(())
    })
    .await?;
    let three = room.until_settled("demo", SETTLED).await?;
    ensure!(
        state::is(&three, "Stalled", "False"),
        "{}",
        state::say(&three)
    );
    traffic.finish_unharmed().await.map(drop)
}

/// Asks for one node less, and waits until a condition says of the one that
/// would go why it stays, with a number. Nothing is moved meanwhile.
async fn refused(room: &Room, four: &StorageCluster, why: impl Fn(&str) -> bool) -> Result<()> {
    let pod = node_pod("demo", FOURTH);
    let node = state::node(four, FOURTH).and_then(|node| node.id.clone());
    let node = node.context("the fourth node has no identity")?;
    let uid = pod_uid(room, FOURTH).await?;
    room.scale("demo", 3).await?;
    let told = room
        .until_cluster("demo", "the refusal is told", TOLD, |cluster| {
            state::is_current(cluster)
                && state::tells(cluster, |message| {
                    let of_it = message.contains(&pod) || message.contains(&node);
                    of_it && state::has_number(message, &[&pod, &node]) && why(message)
                })
        })
        .await?;
    let state = state::node(&told, FOURTH).map(|node| node.state.as_str());
    ensure!(state == Some("Active"), "{}", state::say(&told));
    ensure!(
        node_replicas(room, "demo").await? == 4 && pod_uid(room, FOURTH).await? == uid,
        "it was taken away all the same"
    );
    Ok(())
}

/// Asks for as many as there are, and waits until nothing is wrong with that.
async fn taken_back(room: &Room) -> Result<()> {
    room.scale("demo", 4).await?;
    let settled = room.until_settled("demo", SETTLED).await?;
    ensure!(
        state::is(&settled, "Stalled", "False"),
        "{}",
        state::say(&settled)
    );
    Ok(())
}

pub async fn fewer_nodes_are_refused_where_there_is_no_room(room: &Room) -> Result<()> {
    let Ok(class) = std::env::var(SIZED_CLASS) else {
        println!("      skipped: {SIZED_CLASS} names no class");
        return Ok(());
    };
    let four = json!({"nodes": {"replicas": 4}});
    let spec = with(with(small(room), on(&class, "1Gi")), four);
    // What it uploads is refused while the volumes are full, and tried again.
    let (born, traffic) = born_with_patient_traffic(room, &spec).await?;
    let gateway = room.gateway("demo").await?;
    let files = fill(&gateway).await?;
    let of_room = |message: &str| message.contains("room") || message.contains("MiB");
    refused(room, &born, of_room).await?;
    room.scale("demo", 4).await?;
    // Room for the client's files again.
    for (id, _) in &files {
        let path = format!("/api/files/{id}");
        until("a file is deleted", SETTLED, async || {
            let request = gateway.request(Method::DELETE, &path);
            let status = request.send().await?.status();
            ensure!(status.is_success() || status == 404, "{status}");
            Ok(())
        })
        .await?;
    }
    taken_back(room).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// One that could be a node's identity, and one that could not.
const UNKNOWN: [&str; 2] = ["0123456789abcdef0123456789abcdef", "abc"];

pub async fn a_node_that_nobody_knows_is_not_given_up(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    let before = lives(room).await?;
    for unknown in UNKNOWN {
        room.change("demo", json!({"removedNodes": [unknown]}))
            .await?;
        room.until_cluster("demo", "it is told", TOLD, |cluster| {
            state::condition(cluster, "Stalled").is_some_and(|stalled| {
                stalled.status == "True"
                    && stalled.reason == "UnknownNode"
                    && stalled.message.contains(unknown)
            })
        })
        .await?;
    }
    room.change("demo", json!({"removedNodes": []})).await?;
    let settled = room.until_settled("demo", SETTLED).await?;
    ensure!(
        state::is(&settled, "Stalled", "False"),
        "{}",
        state::say(&settled)
    );
    let after = lives(room).await?;
    ensure!(after == before, "pods {after:?} in place of {before:?}");
    traffic.finish_unharmed().await.map(drop)
}

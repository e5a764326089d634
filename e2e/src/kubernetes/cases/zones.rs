//! Zones: too few of them, and machines that are in another one.

use anyhow::{Context, Result, ensure};
use holdfast_crd::StorageCluster;
use serde_json::json;

use super::{SETTLED, TOLD};
use crate::machines::Zones;
use crate::room::Room;
use crate::spec::{small, with};
use crate::state;
use crate::traffic::{Patience, Traffic};

pub async fn zones_are_as_the_machines_labels_say_and_too_few_are_told(room: &Room) -> Result<()> {
    let Some(zones) = Zones::begin(room).await? else {
        return Ok(());
    };
    let shown = told_of_zones(room, &zones).await;
    let ended = zones.end().await;
    shown.and(ended)
}

async fn told_of_zones(room: &Room, zones: &Zones<'_>) -> Result<()> {
    let [first, second, third] = &zones.machines;
    let strict = json!({"zones": "Required", "hosts": "Required", "zoneKey": zones.key});
    let strict = json!({"nodes": {"placement": strict}});
    room.apply("demo", &with(small(room), strict)).await?;
    // No machine is in a zone: no node may run anywhere.
    room.until_cluster("demo", "the missing zones are told", TOLD, |cluster| {
        state::condition(cluster, "Stalled").is_some_and(|stalled| {
            let says = |word: &str| stalled.message.contains(word);
            stalled.status == "True" && stalled.reason == "NoMachine" && says("3") && says("0")
        })
    })
    .await?;
    for (machine, zone) in [(first, "a"), (second, "b"), (third, "b")] {
        zones.set(machine, Some(zone)).await?;
    }
    let few = room.until_settled("demo", SETTLED).await?;
    expect_spread(&few, "False", &["2", "3"])?;
    ensure!(state::is(&few, "Stalled", "False"), "{}", state::say(&few));
    let gateway = room.gateway("demo").await?;
    let traffic = Traffic::start(gateway, Patience::OneRetry).await?;

    zones.set(third, Some("c")).await?;
    let enough = until_spread(room, "True", epoch_of(&few)?).await?;
    expect_spread(&enough, "True", &["3"])?;
    ensure!(in_zone(&enough, "c") == 1, "{}", state::say(&enough));
    zones.set(third, Some("b")).await?;
    let few = until_spread(room, "False", epoch_of(&enough)?).await?;
    expect_spread(&few, "False", &["2", "3"])?;
    ensure!(in_zone(&few, "b") == 2, "{}", state::say(&few));
    traffic.finish_unharmed().await.map(drop)
}

/// Waits until all is whole in a layout newer than `epoch`.
async fn until_spread(room: &Room, status: &str, epoch: u64) -> Result<StorageCluster> {
    let what = format!("ZoneSpread is {status} in a layout after {epoch}");
    room.until_cluster("demo", &what, SETTLED, |cluster| {
        state::is_settled(cluster)
            && state::is(cluster, "ZoneSpread", status)
            && epoch_of(cluster).is_ok_and(|now| now > epoch)
    })
    .await
}

fn expect_spread(cluster: &StorageCluster, status: &str, words: &[&str]) -> Result<()> {
    let spread = state::condition(cluster, "ZoneSpread").context("no ZoneSpread")?;
    let says = words.iter().all(|word| spread.message.contains(word));
    ensure!(spread.status == status && says, "{}", state::say(cluster));
    Ok(())
}

/// The layout in which the objects were counted last.
fn epoch_of(cluster: &StorageCluster) -> Result<u64> {
    let objects = cluster.status.as_ref().and_then(|s| s.objects.as_ref());
    Ok(objects.context("nothing is counted")?.epoch)
}

/// How many nodes are in a zone.
fn in_zone(cluster: &StorageCluster, zone: &str) -> usize {
    let status = cluster.status.as_ref();
    let nodes = status.into_iter().flat_map(|status| &status.nodes.list);
    nodes
        .filter(|node| node.zone.as_deref() == Some(zone))
        .count()
}

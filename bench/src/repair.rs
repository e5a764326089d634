//! Four nodes, one killed with much on it: how fast everything has its copies again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::{Cluster, Shape};
use holdfast_e2e::redundancy::Redundancy;
use holdfast_e2e::wait::until;
use k8s_openapi::jiff::Timestamp;

use crate::load::Load;
use crate::sample::{Figure, figure};
use crate::store::{LARGE_BYTES, LARGE_CLIENTS};

/// Nodes; each object has copies on three of them.
const NODES: u64 = 4;
/// Copies of each object.
const COPIES: u64 = 3;
/// How long the repair may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Kills a node that holds about `mib`, and measures until nothing is degraded.
pub async fn measure(dir: &Path, mib: u64, sequential_mb: f64) -> Result<Vec<Figure>> {
    let shape = Shape {
        nodes: NODES as usize,
        gateways: 1,
        node_settings: vec![
            ("HOLDFAST_DOWN_GRACE", "5s".into()),
            ("HOLDFAST_CENSUS_INTERVAL", "2s".into()),
        ],
        gateway_settings: vec![
            ("HOLDFAST_KEY_RATE", "0".into()),
            ("HOLDFAST_ADDRESS_RATE", "0".into()),
        ],
        data: (1..=NODES)
            .map(|n| dir.join(format!("repair-{n}")))
            .collect(),
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    let gateway = cluster.gateway(0)?;
    let load = Load::new(gateway.url())?;
    let body = Bytes::from(vec![b'r'; LARGE_BYTES]);
    let objects = (mib << 20) * NODES / COPIES / LARGE_BYTES as u64;
    stream::iter(0..objects)
        .map(|_| load.upload("bin", body.clone(), 0))
        .buffer_unordered(LARGE_CLIENTS)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    until_repair_ends(&gateway).await?;

    let last = cluster.nodes.last_mut().context("no node")?;
    let killed = Instant::now();
    last.kill();
    let (most, began) = until_repair_begins(&gateway).await?;
    let ended = until_repair_ends(&gateway).await?;
    let (took, all) = ((ended - began).as_secs_f64(), ended - killed);
    let copied = most.max(objects * COPIES / NODES) * LARGE_BYTES as u64;
    let rate = copied as f64 / 1e6 / took;
    Ok(vec![
        figure("repair: bytes copied", copied as f64 / 1e6, "MB"),
        figure(
            "repair: from the kill until nothing is degraded",
            all.as_secs_f64(),
            "s",
        ),
        figure("repair: rate from its start", rate, "MB/s"),
        figure("repair: rate / sequential", rate / sequential_mb, ""),
    ])
}

/// Waits until the groups know chunks that lack a copy, and the census counts
/// objects that do; tells how many chunks at first.
async fn until_repair_begins(gateway: &Gateway) -> Result<(u64, Instant)> {
    let mut begun = None;
    until("objects are degraded", LIMIT, async || {
        let told = Redundancy::fetch(gateway).await?;
        if told.queued_chunks > 0 {
            begun.get_or_insert((told.queued_chunks, Instant::now()));
        }
        ensure!(told.degraded > 0, "{told:?}");
        Ok(())
    })
    .await?;
    begun.context("objects were degraded, and no chunk was queued")
}

/// Waits until the groups know of no chunk that lacks a copy and a census that
/// was taken after that agrees; tells since when. The queue alone proves nothing,
/// the census alone comes too late for a figure.
async fn until_repair_ends(gateway: &Gateway) -> Result<Instant> {
    let mut ended: Option<(Instant, Timestamp)> = None;
    until("nothing is degraded", LIMIT, async || {
        let told = Redundancy::fetch(gateway).await?;
        if told.queued_chunks > 0 {
            ended = None;
        }
        ensure!(told.queued_chunks == 0, "{told:?}");
        let (at, since) = *ended.get_or_insert_with(|| (Instant::now(), Timestamp::now()));
        told.counted_since(since)?;
        let whole = told.whole_since(since);
        if whole.is_err() {
            ended = None;
        }
        whole.map(|()| at)
    })
    .await
}

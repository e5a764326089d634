//! Four nodes, one killed with much on it: how fast everything has its copies again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::{Cluster, Shape};

use crate::load::Load;
use crate::sample::{Figure, figure};
use crate::store::{LARGE_BYTES, LARGE_CLIENTS};

/// Nodes; each object has copies on three of them.
const NODES: u64 = 4;
/// Copies of each object.
const COPIES: u64 = 3;
/// How long the repair may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Between two looks at how far it is: a figure, not a wait that hides anything.
const LOOK: Duration = Duration::from_millis(100);

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
    until_degraded_is(&gateway, |degraded| degraded == 0).await?;

    let last = cluster.nodes.last_mut().context("no node")?;
    let killed = Instant::now();
    last.kill();
    let most = until_degraded_is(&gateway, |degraded| degraded > 0).await?;
    let began = Instant::now();
    until_degraded_is(&gateway, |degraded| degraded == 0).await?;
    let (took, all) = (began.elapsed().as_secs_f64(), killed.elapsed());
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

/// Waits until the count of degraded chunks is as wanted; tells it.
async fn until_degraded_is(gateway: &Gateway, wanted: impl Fn(u64) -> bool) -> Result<u64> {
    let begin = Instant::now();
    loop {
        if let Ok(stats) = gateway.json("/api/stats").await {
            let degraded = stats.pointer("/redundancy/degraded");
            let degraded = degraded.and_then(serde_json::Value::as_u64);
            let degraded = degraded.with_context(|| format!("no count of degraded: {stats}"))?;
            if wanted(degraded) {
                return Ok(degraded);
            }
        }
        ensure!(begin.elapsed() < LIMIT, "not within {LIMIT:?}");
        tokio::time::sleep(LOOK).await;
    }
}

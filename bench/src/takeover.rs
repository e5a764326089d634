//! A node dies, and how long it takes until every group takes writes again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use holdfast_e2e::processes::Cluster;

use crate::load::Load;
use crate::sample::{Figure, figure};

/// Files that are uploaded at once. Their ids are drawn by chance, each falling
/// into one of 16 groups: that one group gets none happens once in a million runs.
const FILES: usize = 256;
/// Longer than any election that goes well.
const LIMIT: Duration = Duration::from_secs(60);
/// A client that was refused comes again after this; much less than what is
/// measured.
const AGAIN: Duration = Duration::from_millis(20);

/// Kills one node, another one in each round, and starts it again.
pub async fn measure(cluster: &mut Cluster, round: usize) -> Result<Vec<Figure>> {
    eprintln!("  a node dies");
    let load = Load::new(cluster.gateway(0)?.url())?;
    let at = round % cluster.nodes.len();
    cluster.kill_nodes(&[at]);
    let killed = Instant::now();
    let took = try_join_all((0..FILES).map(|_| stored(&load, killed))).await?;
    let longest = took.into_iter().max().unwrap_or_default();
    cluster.start_node(at).await?;
    for node in &mut cluster.nodes {
        node.ready().await?;
    }
    let what = "a node killed: until every group takes writes";
    Ok(vec![figure(what, longest.as_secs_f64(), "s")])
}

/// When, after the kill, a file could be stored.
async fn stored(load: &Load, killed: Instant) -> Result<Duration> {
    loop {
        match load.upload("bin", Bytes::from_static(b"after"), 0).await {
            Ok(_) => return Ok(killed.elapsed()),
            Err(error) => ensure!(killed.elapsed() < LIMIT, error),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

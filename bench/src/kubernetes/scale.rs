//! A node is emptied and goes.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::kubernetes::children::node_replicas;
use holdfast_e2e::kubernetes::room::Room;
use holdfast_e2e::wait::until;
use serde_json::{Value, json};

use super::{Amounts, LIMIT, fill, roomy};
use crate::sample::{Figure, figure};

/// Measures once: to fill a cluster takes longer than to empty a node.
pub async fn measure(room: &Room, amounts: &Amounts, sequential_mb: f64) -> Result<Vec<Figure>> {
    let four = roomy(room, json!({"nodes": {"replicas": 4}}));
    room.apply("demo", &four).await?;
    let cluster = room.until_settled("demo", LIMIT).await?;
    let last = holdfast_e2e::kubernetes::state::node(&cluster, 3);
    let id = last.and_then(|node| node.id.clone());
    let id = id.context("the fourth node has no identity")?;
    let gateway = room.gateway("demo").await?;
    // Three copies on four nodes.
    fill(&gateway, amounts.drained_mib * 4 / 3).await?;
    room.until_settled("demo", LIMIT).await?;
    let nodes = gateway.json("/api/nodes").await?;
    let listed = nodes.get("nodes").and_then(Value::as_array);
    let node = listed
        .into_iter()
        .flatten()
        .find(|node| node.get("id").and_then(Value::as_str) == Some(id.as_str()));
    let bytes = node.and_then(|node| node.get("used_bytes"));
    let held = bytes
        .and_then(Value::as_u64)
        .with_context(|| format!("what the fourth node holds is not told: {nodes}"))?;

    let begun = Instant::now();
    room.scale("demo", 3).await?;
    until("the node is removed", LIMIT, async || {
        let replicas = node_replicas(room, "demo").await?;
        ensure!(replicas == 3, "{replicas} replicas");
        Ok(())
    })
    .await?;
    let took = begun.elapsed().as_secs_f64();
    let rate = held as f64 / 1e6 / took;
    Ok(vec![
        figure("limit: sequential durable write", sequential_mb, "MB/s"),
        figure("scale-down: held by the node", held as f64 / 1e6, "MB"),
        figure("scale-down: from the command to the node's end", took, "s"),
        figure("scale-down: rate", rate, "MB/s"),
        figure("scale-down: rate / sequential", rate / sequential_mb, ""),
    ])
}

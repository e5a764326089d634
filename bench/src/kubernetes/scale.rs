//! A node is emptied and goes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::kubernetes::children::node_replicas;
use holdfast_e2e::kubernetes::room::Room;
use holdfast_e2e::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Amounts, LIMIT, fill, roomy};
use crate::sample::{Figure, figure};

/// Measures. Between two times the node comes back on its volume, and the files
/// of the time before are gone.
pub async fn measure(room: &Room, amounts: &Amounts, sequential_mb: f64) -> Result<Vec<Figure>> {
    let three = roomy(room, json!({}));
    room.apply("demo", &three).await?;
    room.until_settled("demo", LIMIT).await?;
    let mut figures = vec![figure(
        "limit: sequential durable write",
        sequential_mb,
        "MB/s",
    )];
    for _ in 0..amounts.removals {
        figures.extend(remove(room, amounts.drained_mib, sequential_mb).await?);
    }
    Ok(figures)
}

/// Adds a node, fills it, and removes it.
async fn remove(room: &Room, mib: u64, sequential_mb: f64) -> Result<Vec<Figure>> {
    room.scale("demo", 4).await?;
    let cluster = room.until_settled("demo", LIMIT).await?;
    let last = holdfast_e2e::kubernetes::state::node(&cluster, 3);
    let id = last.and_then(|node| node.id.clone());
    let id = id.context("the fourth node has no identity")?;
    let gateway = room.gateway("demo").await?;
    // Three copies on four nodes.
    let files = fill(&gateway, mib * 4 / 3).await?;
    room.until_settled("demo", LIMIT).await?;
    let (held, elsewhere) = at_rest(&gateway, &id).await?;

    let begun = Instant::now();
    room.scale("demo", 3).await?;
    until("what it held is elsewhere as well", LIMIT, async || {
        let (_, now) = used_bytes(&gateway, &id).await?;
        let copied = now.saturating_sub(elsewhere);
        ensure!(copied >= held / 100 * 98, "{copied} of {held} bytes");
        Ok(())
    })
    .await?;
    let copied = begun.elapsed().as_secs_f64();
    until("the node is removed", LIMIT, async || {
        let replicas = node_replicas(room, "demo").await?;
        ensure!(replicas == 3, "{replicas} replicas");
        Ok(())
    })
    .await?;
    let took = begun.elapsed().as_secs_f64();
    for file in files {
        let deleted = gateway.request(Method::DELETE, &format!("/api/files/{file}"));
        deleted.send().await?.error_for_status()?;
    }
    let rate = held as f64 / 1e6 / copied;
    Ok(vec![
        figure("scale-down: held by the node", held as f64 / 1e6, "MB"),
        figure(
            "scale-down: from the command until 98 % is copied",
            copied,
            "s",
        ),
        // With the 90 s that clean-up waits for uploads without an intent.
        figure("scale-down: from the command to the node's end", took, "s"),
        figure("scale-down: rate", rate, "MB/s"),
        figure("scale-down: rate / sequential", rate / sequential_mb, ""),
    ])
}

/// The same once it does not change any more: nodes tell of it now and then.
async fn at_rest(gateway: &Gateway, id: &str) -> Result<(u64, u64)> {
    /// Longer than from one telling to the next.
    const REST: Duration = Duration::from_secs(10);
    let mut before = used_bytes(gateway, id).await?;
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        tokio::time::sleep(REST).await;
        let now = used_bytes(gateway, id).await?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    bail!("what nodes hold does not come to rest")
}

/// What a node holds, and what all others do together.
async fn used_bytes(gateway: &Gateway, id: &str) -> Result<(u64, u64)> {
    let nodes = gateway.json("/api/nodes").await?;
    let listed = nodes.get("nodes").and_then(Value::as_array);
    let (mut own, mut others) = (None, 0);
    for node in listed.into_iter().flatten() {
        let used = node.get("used_bytes").and_then(Value::as_u64);
        let used = used.with_context(|| format!("what a node holds is not told: {node}"))?;
        if node.get("id").and_then(Value::as_str) == Some(id) {
            own = Some(used);
        } else {
            others += used;
        }
    }
    Ok((own.context("the node is not listed")?, others))
}

//! Nodes that die, one, two, all.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};

use crate::Level;
use crate::content::noise;
use crate::gateway::Gateway;
use crate::stack::{SETTLE, Stack};
use crate::wait::until;

/// Inline, one chunk, several chunks.
const SIZES: [usize; 6] = [0, 900, 40_000, 1 << 20, 9 << 20, 20 << 20];

struct Kept {
    id: String,
    bytes: Vec<u8>,
}

async fn upload_all(gateway: &Gateway, seed: u64) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for (at, size) in SIZES.into_iter().enumerate() {
        let bytes = noise(seed + at as u64, size);
        let id = gateway.upload("kept.bin", bytes.clone(), 0).await?;
        kept.push(Kept { id, bytes });
    }
    Ok(kept)
}

async fn expect_all(gateway: &Gateway, kept: &[Kept]) -> Result<()> {
    for Kept { id, bytes } in kept {
        gateway.expect(id, bytes).await?;
    }
    Ok(())
}

pub async fn everything_downloads_with_one_node_killed(stack: &Stack, _: Level) -> Result<()> {
    let gateway = stack.gateway(1)?;
    let before = upload_all(&gateway, 100).await?;

    // Uploads run on while the node dies; each that is acknowledged must stay.
    let running = join_all((0..40).map(|seed| {
        let gateway = &gateway;
        async move {
            let bytes = noise(200 + seed, 200_000);
            let id = until("an upload", SETTLE, async || {
                gateway.upload("during.bin", bytes.clone(), 0).await
            })
            .await?;
            anyhow::Ok(Kept { id, bytes })
        }
    }));
    let killing = stack.beside(|compose| compose.kill(&["storage-node2"]));
    let (during, killed) = tokio::join!(running, killing);
    killed?;
    let during = during.into_iter().collect::<Result<Vec<_>>>()?;

    // Leaders that were on the dead node are elected anew.
    until("reading resumes", SETTLE, async || {
        expect_all(&gateway, &before[..2]).await
    })
    .await?;
    expect_all(&gateway, &before).await?;
    expect_all(&gateway, &during).await?;
    let without = until("uploads go on", SETTLE, async || {
        upload_all(&gateway, 300).await
    })
    .await?;
    expect_all(&gateway, &without).await?;

    stack.start_again(&["storage-node2"])?;
    expect_all(&gateway, &before).await?;
    expect_all(&gateway, &without).await
}

pub async fn without_a_majority_nothing_stale_is_served(stack: &Stack, _: Level) -> Result<()> {
    /// Promised are 2 s; the rest is this machine's.
    const REFUSED_WITHIN: Duration = Duration::from_secs(4);
    let gateway = stack.gateway(1)?;
    let kept = upload_all(&gateway, 400).await?;
    stack.kill(&["storage-node2", "storage-node3"])?;

    // Until the last leader notices that it is alone, it refuses by not answering.
    for Kept { id, .. } in &kept {
        let start = Instant::now();
        let response = gateway.download(id).await?;
        refused(response, start, REFUSED_WITHIN)
            .await
            .context("a read")?;
    }
    // What the last leader took before it noticed may still come true: that is
    // said, and is no longer so once it has noticed.
    let start = Instant::now();
    loop {
        let put = gateway.request(Method::PUT, "/api/upload/x").body("x");
        let (asked, response) = (Instant::now(), put.send().await?);
        match refused(response, asked, REFUSED_WITHIN).await {
            Ok(()) => break,
            Err(error) if error.to_string().contains("outcome_unknown") => {
                ensure!(start.elapsed() < REFUSED_WITHIN, "still taken: {error}");
            }
            Err(error) => return Err(error.context("a write")),
        }
    }

    stack.start_again(&["storage-node2"])?;
    until("reading resumes with two nodes", SETTLE, async || {
        expect_all(&gateway, &kept).await
    })
    .await?;
    until("writing resumes with two nodes", SETTLE, async || {
        gateway.upload("after.txt", b"after".to_vec(), 0).await
    })
    .await?;
    Ok(())
}

async fn refused(response: reqwest::Response, since: Instant, limit: Duration) -> Result<()> {
    let took = since.elapsed();
    let status = response.status();
    let again = response.headers().get("retry-after").cloned();
    let text = response.text().await?;
    ensure!(
        status == StatusCode::SERVICE_UNAVAILABLE && text.contains("no_quorum"),
        "{status}: {text}"
    );
    ensure!(again.is_some(), "no Retry-After");
    ensure!(took < limit, "refused only after {took:?}");
    Ok(())
}

pub async fn what_was_acknowledged_survives_killing_everything(
    stack: &Stack,
    _: Level,
) -> Result<()> {
    const SERVICES: [&str; 7] = [
        "gateway",
        "storage-node1",
        "storage-node2",
        "storage-node3",
        "worker",
        "rabbitmq",
        "redis",
    ];
    let gateway = stack.gateway(1)?;
    let kept = upload_all(&gateway, 500).await?;

    stack.kill(&SERVICES)?;
    stack.up()?;
    let gateway = stack.gateway(1)?;
    until("reading resumes", SETTLE, async || {
        expect_all(&gateway, &kept).await
    })
    .await?;
    let after = until("uploads resume", SETTLE, async || {
        upload_all(&gateway, 600).await
    })
    .await?;
    expect_all(&gateway, &after).await
}

pub async fn an_ordinary_restart_of_everything_keeps_everything(
    stack: &Stack,
    _: Level,
) -> Result<()> {
    let gateway = stack.gateway(1)?;
    let kept = upload_all(&gateway, 700).await?;
    let key = stack.key()?;
    stack.compose(&["down", "--timeout", "30"])?;
    stack.up()?;
    ensure!(stack.key()? == key, "there is another key after a restart");
    let gateway = stack.gateway(1)?;
    until("reading resumes", SETTLE, async || {
        expect_all(&gateway, &kept).await
    })
    .await
}

//! What the processes hold in memory, idle and under large uploads.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::stream;
use holdfast_e2e::processes::{Cluster, Member};
use reqwest::{Body, Client};

use crate::sample::{Figure, figure};
use crate::usage::processor_seconds;

/// A piece of a body that is made on the way.
const PIECE_BYTES: usize = 64 << 10;

/// A figure of `/proc`, in MiB.
fn mib(member: &Member, file: &str, field: &str) -> Result<f64> {
    let program = member.program.as_ref().context("it does not run")?;
    let text = fs::read_to_string(format!("/proc/{}/{file}", program.pid()))?;
    let line = text
        .lines()
        .find(|line| line.starts_with(field))
        .context("no such figure")?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .context("no number")?
        .parse()?;
    Ok(kib / 1024.0)
}

/// Three nodes, a gateway and two workers after their start: what compose runs of ours.
pub async fn idle(cluster: &mut Cluster, time: Duration) -> Result<Vec<Figure>> {
    let mut members = 0.0;
    for member in cluster.members() {
        members += mib(member, "smaps_rollup", "Pss:")?;
    }
    let before = processor_seconds(cluster)?;
    tokio::time::sleep(time).await;
    let seconds = processor_seconds(cluster)? - before;
    Ok(vec![
        figure(
            "idle: three nodes, a gateway, two workers, PSS",
            members,
            "MiB",
        ),
        figure(
            "idle: the same, of one core",
            seconds / time.as_secs_f64() * 100.0,
            "%",
        ),
    ])
}

/// The gateway's memory while `clients` upload `bytes` each at once.
pub async fn under_uploads(
    cluster: &mut Cluster,
    clients: usize,
    bytes: u64,
) -> Result<Vec<Figure>> {
    let url = cluster.gateways[0].url();
    let before = mib(&cluster.gateways[0], "status", "VmRSS:")?;
    let client = holdfast_e2e::http::client()?.build()?;
    let ended = AtomicBool::new(false);
    let uploads = async {
        let done = try_join_all((0..clients).map(|n| upload(&client, &url, n, bytes))).await;
        ended.store(true, Ordering::Relaxed);
        done
    };
    let watch = async {
        let mut peak: f64 = before;
        while !ended.load(Ordering::Relaxed) {
            peak = peak.max(mib(&cluster.gateways[0], "status", "VmRSS:")?);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(peak)
    };
    let (done, peak) = tokio::join!(uploads, watch);
    done?;
    let what = format!(
        "gateway RSS above idle, {clients} uploads of {} MiB at once",
        bytes >> 20
    );
    Ok(vec![figure(&what, peak? - before, "MiB")])
}

async fn upload(client: &Client, url: &str, number: usize, bytes: u64) -> Result<()> {
    let piece = Bytes::from(vec![number as u8; PIECE_BYTES]);
    let pieces = (bytes as usize).div_ceil(PIECE_BYTES);
    let body = stream::iter((0..pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    let response = client
        .put(format!("{url}/api/upload/large-{number}.bin"))
        .bearer_auth(holdfast_e2e::processes::TOKEN)
        .header("content-length", pieces * PIECE_BYTES)
        .body(Body::wrap_stream(body))
        .send()
        .await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(
        status.is_success(),
        "upload {number} was answered {status}: {text}"
    );
    Ok(())
}

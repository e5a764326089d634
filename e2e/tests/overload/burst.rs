//! Ten times as many clients as there is room for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::{Cluster, Shape};
use reqwest::{Method, StatusCode};

use crate::claim;

/// Requests that the gateway serves at once.
const ROOM: usize = 32;
/// Clients of the burst.
const CLIENTS: usize = 10 * ROOM;
/// How long each load is measured.
const MEASURED: Duration = Duration::from_secs(6);
/// Of the goodput without a burst, what must be left in it. The clients take
/// their share of the same two cores.
const GOODPUT_PERCENT: u64 = 60;
/// What a burst may cost each process, in bytes.
const GROWTH: u64 = 96 << 20;
const SIZE: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_served_as_far_as_there_is_room() -> Result<()> {
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        gateway_settings: vec![("HOLDFAST_MAX_REQUESTS", ROOM.to_string())],
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::goodput_stays_and_the_rest_comes_again(&mut cluster));
    Ok(())
}

#[derive(Default)]
struct Counts {
    served: AtomicU64,
    refused: AtomicU64,
}

async fn goodput_stays_and_the_rest_comes_again(cluster: &mut Cluster) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    load(&gateway, ROOM / 2).await?;
    let before = residents(cluster)?;
    let alone = load(&gateway, ROOM / 2).await?;
    let burst = load(&gateway, CLIENTS).await?;
    let after = residents(cluster)?;
    let served = |counts: &Counts| counts.served.load(Ordering::Relaxed);
    let refused = burst.refused.load(Ordering::Relaxed);
    println!(
        "alone {} served; in the burst {} served and {refused} told to come again, in {MEASURED:?} each",
        served(&alone),
        served(&burst)
    );
    ensure!(refused > 0, "nobody was refused: it was no burst");
    ensure!(
        served(&burst) * 100 >= served(&alone) * GOODPUT_PERCENT,
        "{} of {} are left",
        served(&burst),
        served(&alone)
    );
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let growth = after.saturating_sub(*before);
        println!("{name}: {} KiB more", growth >> 10);
        ensure!(growth <= GROWTH, "{name} grew by {growth} bytes");
    }
    let member = &cluster.gateways[0];
    let metric = async |name: &str| member.metric(name).await;
    ensure!(metric("holdfast_limit{of=\"requests\"}").await? == ROOM as f64);
    ensure!(metric("holdfast_limit{of=\"transfer_bytes\"}").await? > 0.0);
    ensure!(metric("holdfast_refused_total{limit=\"requests\"}").await? >= refused as f64);
    Ok(())
}

fn residents(cluster: &mut Cluster) -> Result<Vec<(String, u64)>> {
    cluster
        .members()
        .map(|member| Ok((member.name.clone(), member.running()?.resident()?)))
        .collect()
}

/// So many clients that upload and read back for [`MEASURED`].
async fn load(gateway: &Gateway, clients: usize) -> Result<Counts> {
    let counts = Counts::default();
    let end = Instant::now() + MEASURED;
    let all = (0..clients).map(|client| client_until(gateway, client as u64, end, &counts));
    try_join_all(all).await?;
    Ok(counts)
}

async fn client_until(gateway: &Gateway, client: u64, end: Instant, counts: &Counts) -> Result<()> {
    let bytes = noise(client, SIZE);
    while Instant::now() < end {
        let upload = gateway
            .request(Method::PUT, "/api/upload/burst.bin?download_limit=0")
            .body(bytes.clone());
        let Some(answer) = ask(upload, counts).await? else {
            continue;
        };
        let file: serde_json::Value = serde_json::from_slice(&answer)?;
        let id = file["file_id"].as_str().context("no file_id")?.to_owned();
        while Instant::now() < end {
            let download = gateway.open(Method::GET, &format!("/api/download/{id}"));
            if let Some(came) = ask(download, counts).await? {
                ensure!(came == bytes, "other bytes came");
                break;
            }
        }
    }
    Ok(())
}

/// The answer's body; none when there was no room, after the time that was asked for.
async fn ask(request: reqwest::RequestBuilder, counts: &Counts) -> Result<Option<Vec<u8>>> {
    let answer = request.send().await.context("a request was not answered")?;
    let status = answer.status();
    if status.is_success() {
        counts.served.fetch_add(1, Ordering::Relaxed);
        return Ok(Some(answer.bytes().await?.to_vec()));
    }
    let busy = [
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    let after = answer.headers().get("retry-after").cloned();
    let told = answer.text().await?;
    ensure!(busy.contains(&status), "{status}: {told}");
    let after = after.with_context(|| format!("no Retry-After: {told}"))?;
    counts.refused.fetch_add(1, Ordering::Relaxed);
    let seconds: u64 = after.to_str()?.parse()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok(None)
}

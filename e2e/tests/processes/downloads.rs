//! Counted downloads, whoever races, hangs up or dies.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use holdfast_e2e::content::noise;
use holdfast_e2e::processes::{Cluster, Cut, Shape};
use holdfast_e2e::wait::until;
use reqwest::{Method, StatusCode};

use crate::{SETTLE, claim, downloads_left, ensure_eq};

/// Within a command, one chunk, and more than the socket's buffers hold.
const SIZES: [usize; 3] = [1_000, 500_000, 12 << 20];
const LIMIT: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_a_limit() -> Result<()> {
    let shape = Shape {
        nodes: 3,
        gateways: 2,
        workers: 1,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::fifty_readers_over_two_gateways_get_three_downloads(
        &mut cluster
    ));
    claim!(self::hanging_up_at_the_last_byte_gains_nothing(
        &mut cluster
    ));
    claim!(self::a_ticket_serves_each_byte_at_most_twice(&mut cluster));
    claim!(self::a_download_whose_gateway_was_killed_counts(
        &mut cluster
    ));
    Ok(())
}

async fn fifty_readers_over_two_gateways_get_three_downloads(cluster: &mut Cluster) -> Result<()> {
    const READERS: usize = 50;
    let gateways = [cluster.gateway(0)?, cluster.gateway(1)?];
    for size in SIZES {
        let bytes = noise(size as u64, size);
        let id = gateways[0]
            .upload("three.bin", bytes.clone(), LIMIT)
            .await?;
        let readers = (0..READERS).map(|reader| {
            let gateway = &gateways[reader % 2];
            let (id, bytes) = (&id, &bytes);
            async move {
                let response = gateway.download(id).await?;
                let status = response.status();
                let same = status == StatusCode::OK && response.bytes().await? == bytes;
                anyhow::Ok((status, same))
            }
        });
        let answers = join_all(readers)
            .await
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let whole = answers.iter().filter(|(_, same)| *same).count();
        let gone = answers
            .iter()
            .filter(|(status, _)| *status == StatusCode::GONE)
            .count();
        ensure!(
            whole == LIMIT as usize && gone == READERS - whole,
            "{size} bytes with limit {LIMIT}: {answers:?}"
        );
    }
    Ok(())
}

async fn hanging_up_at_the_last_byte_gains_nothing(cluster: &mut Cluster) -> Result<()> {
    const TRIES: usize = 12;
    let gateways = [cluster.gateway(0)?, cluster.gateway(1)?];
    for size in SIZES {
        let bytes = noise(size as u64, size);
        let id = gateways[0].upload("last.bin", bytes.clone(), LIMIT).await?;
        let mut served = 0;
        for attempt in 0..TRIES {
            let url = format!("{}/api/download/{id}", gateways[attempt % 2].url());
            let cut = Cut::get(&url, &[], size - 1).await?;
            if cut.status == 200 {
                ensure!(cut.body == bytes[..size - 1], "other bytes came");
                served += 1;
            } else {
                ensure_eq("status", cut.status, 410)?;
            }
            drop(cut);
        }
        ensure_eq("downloads that served all but a byte", served, LIMIT)?;
        // What is settled late does not come back as a download either.
        until("nothing is left", SETTLE, async || {
            ensure_eq("left", downloads_left_or_gone(cluster, &id).await?, 0)
        })
        .await?;
        for gateway in &gateways {
            ensure_eq(
                "status",
                gateway.download(&id).await?.status(),
                StatusCode::GONE,
            )?;
        }
    }
    Ok(())
}

/// Zero too when a worker has already deleted the file.
async fn downloads_left_or_gone(cluster: &Cluster, id: &str) -> Result<u64> {
    let gateway = cluster.gateway(0)?;
    let path = format!("/api/files/{id}");
    let status = gateway.request(Method::GET, &path).send().await?.status();
    if status == StatusCode::NOT_FOUND || status == StatusCode::GONE {
        return Ok(0);
    }
    downloads_left(&gateway, id).await
}

async fn a_ticket_serves_each_byte_at_most_twice(cluster: &mut Cluster) -> Result<()> {
    let gateways = [cluster.gateway(0)?, cluster.gateway(1)?];
    let size = 500_000;
    let bytes = noise(77, size);
    let id = gateways[0].upload("once.bin", bytes.clone(), 1).await?;
    let urls = gateways
        .each_ref()
        .map(|gateway| format!("{}/api/download/{id}", gateway.url()));
    let first = Cut::get(&urls[0], &[], size - 1).await?;
    ensure_eq("the first", first.status, 200)?;
    let ticket = first
        .header("holdfast-ticket")
        .context("no ticket")?
        .to_owned();
    drop(first);

    let shown = [("Holdfast-Ticket", ticket.as_str())];
    let again = Cut::get(&urls[1], &shown, size).await?;
    ensure_eq("a retry at the other gateway", again.status, 200)?;
    ensure!(again.body == bytes, "other bytes came");
    drop(again);
    for url in &urls {
        ensure_eq(
            "a third time",
            Cut::get(url, &shown, size - 1).await?.status,
            410,
        )?;
        ensure_eq(
            "without it",
            Cut::get(url, &[], size - 1).await?.status,
            410,
        )?;
    }
    Ok(())
}

async fn a_download_whose_gateway_was_killed_counts(cluster: &mut Cluster) -> Result<()> {
    const READ: usize = 1 << 20;
    let size = 24 << 20;
    let gateway = cluster.gateway(0)?;
    let bytes = noise(88, size);
    let id = gateway.upload("one.bin", bytes.clone(), 2).await?;
    let url = format!("{}/api/download/{id}", cluster.gateway(1)?.url());
    let cut = Cut::get(&url, &[], READ).await?;
    ensure_eq("the download", cut.status, 200)?;
    let ticket = cut
        .header("holdfast-ticket")
        .context("no ticket")?
        .to_owned();
    cluster.gateways[1].kill();
    drop(cut);

    ensure_eq("left", downloads_left(&gateway, &id).await?, 1)?;
    // The same download goes on elsewhere with its ticket, and counts once.
    let rest = gateway
        .open(Method::GET, &format!("/api/download/{id}"))
        .header("Holdfast-Ticket", &ticket)
        .header("Range", format!("bytes={READ}-"))
        .send()
        .await?;
    ensure_eq("the rest", rest.status(), StatusCode::PARTIAL_CONTENT)?;
    ensure!(rest.bytes().await? == bytes[READ..], "other bytes came");
    ensure_eq("left", downloads_left(&gateway, &id).await?, 1)?;
    gateway.expect(&id, &bytes).await?;
    ensure_eq(
        "one more",
        gateway.download(&id).await?.status(),
        StatusCode::GONE,
    )?;

    cluster.gateways[1].start()?;
    cluster.gateways[1].answers("/readyz").await?;
    let again = cluster.gateway(1)?;
    ensure_eq(
        "one more",
        again.download(&id).await?.status(),
        StatusCode::GONE,
    )?;
    // Nothing is given back later.
    let later = tokio::time::timeout(Duration::from_secs(3), async {
        loop {
            let left = downloads_left_or_gone(cluster, &id).await;
            if !matches!(left, Ok(0)) {
                return left;
            }
        }
    });
    ensure!(later.await.is_err(), "a download came back");
    Ok(())
}

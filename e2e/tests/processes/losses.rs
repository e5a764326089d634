//! Nodes that die, one, two, all, and everything else with them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::{Cluster, Shape};
use holdfast_e2e::wait::until;
use reqwest::{Method, RequestBuilder, StatusCode};

use crate::{Kept, SETTLE, claim, downloads_left, ensure_eq, expect_all};

/// Empty, inline, one chunk, several chunks.
const SIZES: [usize; 5] = [0, 900, 40_000, 1 << 20, 9 << 20];
/// Promised to who asks without a majority are 2 s; several clusters share two
/// cores here, so that a process may wait for its turn.
const REFUSED_WITHIN: Duration = Duration::from_millis(3_000);
/// Also said of a write in the first moment, when a leader that is alone may
/// have taken it, or nodes do not answer and the group is not known to be dumb.
const FIRST_CODES: [&str; 3] = ["no_quorum", "outcome_unknown", "not_enough_nodes"];
/// Promised once there is a majority again are 5 s, and slack for the same reason.
const RESUMES_WITHIN: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_die_and_nothing_acknowledged_is_lost() -> Result<()> {
    let shape = Shape {
        nodes: 3,
        gateways: 2,
        workers: 1,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::uploads_go_on_with_one_node_killed(&mut cluster));
    claim!(self::without_a_majority_all_is_refused_in_time(
        &mut cluster
    ));
    claim!(self::what_was_acknowledged_survives_killing_everything(
        &mut cluster
    ));
    Ok(())
}

/// Of four nodes one carries no member of group 0, and all but one are started
/// without a setting that names the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_one_of_four_nodes_finds_the_others_again() -> Result<()> {
    let shape = Shape {
        nodes: 4,
        gateways: 1,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::all_are_ready_after_all_were_killed(&mut cluster));
    Ok(())
}

async fn all_are_ready_after_all_were_killed(cluster: &mut Cluster) -> Result<()> {
    for node in &mut cluster.nodes {
        node.ready().await?;
    }
    cluster.kill_nodes(&[0, 1, 2, 3]);
    for node in &mut cluster.nodes {
        node.start()?;
    }
    for node in &mut cluster.nodes {
        node.ready().await?;
    }
    Ok(())
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

async fn uploads_go_on_with_one_node_killed(cluster: &mut Cluster) -> Result<()> {
    const UPLOADS: u64 = 120;
    const KILLED_AFTER: usize = 30;
    let gateways = [cluster.gateway(0)?, cluster.gateway(1)?];
    let before = upload_all(&gateways[0], 100).await?;

    let mut running = stream::iter(0..UPLOADS)
        .map(|seed| {
            let gateway = &gateways[seed as usize % 2];
            async move {
                let size = SIZES[1 + seed as usize % 3];
                let bytes = noise(200 + seed, size);
                // A refusal with 503 is allowed; what is not is that it lasts.
                let id = until("an upload", SETTLE, async || {
                    gateway.upload("during.bin", bytes.clone(), 0).await
                })
                .await?;
                anyhow::Ok(Kept { id, bytes })
            }
        })
        .buffer_unordered(8);
    let mut during = Vec::new();
    while let Some(kept) = running.next().await {
        during.push(kept?);
        if during.len() == KILLED_AFTER {
            cluster.nodes[1].kill();
        }
    }
    ensure_eq("uploads", during.len() as u64, UPLOADS)?;
    for gateway in &gateways {
        until("reading resumes", SETTLE, async || {
            expect_all(gateway, &before[..2]).await
        })
        .await?;
        expect_all(gateway, &before).await?;
        expect_all(gateway, &during).await?;
    }
    let without = upload_all(&gateways[1], 400).await?;
    expect_all(&gateways[0], &without).await?;
    cluster.start_node(1).await?;
    expect_all(&gateways[1], &before).await?;
    expect_all(&gateways[1], &without).await
}

async fn without_a_majority_all_is_refused_in_time(cluster: &mut Cluster) -> Result<()> {
    let gateways = [cluster.gateway(0)?, cluster.gateway(1)?];
    let kept = until("uploads", SETTLE, async || {
        upload_all(&gateways[0], 500).await
    })
    .await?;
    let limited = gateways[0].upload("two.bin", noise(1, 20_000), 2).await?;
    gateways[0].expect(&limited, &noise(1, 20_000)).await?;
    cluster.kill_nodes(&[1, 2]);

    // Twice: at once, when a leader does not know yet that it is alone, and
    // once everybody knows.
    everything_is_refused(&gateways, &kept, &limited, &FIRST_CODES).await?;
    until("everybody knows", SETTLE, async || {
        everything_is_refused(&gateways, &kept, &limited, &["no_quorum"]).await
    })
    .await?;
    // A leader of another group may still have taken this write: unknown is honest.
    let codes = ["no_quorum", "outcome_unknown"];
    everything_is_refused(&gateways, &kept, &limited, &codes).await?;

    let up = cluster.start_node(2).await?;
    for gateway in &gateways {
        until("reads resume", SETTLE, async || {
            expect_all(gateway, &kept).await
        })
        .await?;
        until("writes resume", SETTLE, async || {
            gateway.upload("after.bin", noise(4, 300_000), 0).await
        })
        .await?;
    }
    let took = up.elapsed();
    println!(
        "all resumed {:.1} s after a node was back",
        took.as_secs_f64()
    );
    ensure!(took < RESUMES_WITHIN, "all resumed only after {took:?}");
    // The refused downloads took nothing from the limit.
    ensure_eq(
        "downloads left",
        downloads_left(&gateways[1], &limited).await?,
        1,
    )?;
    cluster.start_node(1).await?;
    Ok(())
}

async fn everything_is_refused(
    gateways: &[Gateway; 2],
    kept: &[Kept],
    limited: &str,
    codes_of_writes: &[&str],
) -> Result<()> {
    let reads = kept.iter().map(|file| file.id.as_str()).chain([limited]);
    let reads = reads.map(|id| {
        let get = gateways[0].open(Method::GET, &format!("/api/download/{id}"));
        refused("a read", get, &["no_quorum"])
    });
    let list = gateways[1].request(Method::GET, "/api/files");
    let list = refused("a list", list, &["no_quorum"]);
    let writes = [noise(2, 10), noise(3, 400_000)].map(|bytes| {
        let put = gateways[1]
            .request(Method::PUT, "/api/upload/x")
            .body(bytes);
        refused("a write", put, codes_of_writes)
    });
    let delete = gateways[0].request(Method::DELETE, &format!("/api/files/{}", kept[1].id));
    let delete = refused("a deletion", delete, codes_of_writes);
    let (reads, list, writes, delete) =
        tokio::join!(join_all(reads), list, join_all(writes), delete);
    let all = reads
        .into_iter()
        .chain([list])
        .chain(writes)
        .chain([delete]);
    all.collect()
}

async fn refused(what: &str, request: RequestBuilder, codes: &[&str]) -> Result<()> {
    let start = Instant::now();
    let response = request.send().await?;
    let took = start.elapsed();
    let status = response.status();
    let again = response.headers().get("retry-after").cloned();
    let text = response.text().await?;
    ensure!(
        status == StatusCode::SERVICE_UNAVAILABLE
            && codes
                .iter()
                .any(|code| text.contains(&format!("\"code\":\"{code}\""))),
        "{what} after {took:?}: {status}: {text}"
    );
    ensure!(again.is_some(), "{what}: no Retry-After");
    ensure!(
        took <= REFUSED_WITHIN,
        "{what} was refused only after {took:?}"
    );
    Ok(())
}

async fn what_was_acknowledged_survives_killing_everything(cluster: &mut Cluster) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    let mut kept = upload_all(&gateway, 600).await?;
    let limited = gateway.upload("one.bin", noise(5, 30_000), 1).await?;
    gateway.expect(&limited, &noise(5, 30_000)).await?;

    // Uploads run while everything dies: of those, what was acknowledged counts.
    let running = (0..24u64).map(|seed| {
        let gateway = gateway.clone();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            for round in 0.. {
                let bytes = noise(700 + seed * 1_000 + round, SIZES[1 + round as usize % 3]);
                match gateway.upload("last.bin", bytes.clone(), 0).await {
                    Ok(id) => kept.push(Kept { id, bytes }),
                    Err(_) => break,
                }
            }
            kept
        })
    });
    let running: Vec<_> = running.collect();
    until("uploads are under way", SETTLE, async || {
        let files = gateway.json("/api/files?limit=200").await?;
        let names = files["files"].as_array().context("no list")?;
        let last = names.iter().filter(|file| file["filename"] == "last.bin");
        ensure!(last.count() >= 30, "few");
        Ok(())
    })
    .await?;
    cluster.members().for_each(|member| member.kill());
    cluster.redis.wipe();
    for task in join_all(running).await {
        kept.extend(task?);
    }
    println!("{} files were acknowledged", kept.len());

    cluster.redis.start_again().await?;
    cluster.up().await?;
    for at in 0..2 {
        let gateway = cluster.gateway(at)?;
        until("reading resumes", SETTLE, async || {
            expect_all(&gateway, &kept[..2]).await
        })
        .await?;
        expect_all(&gateway, &kept).await?;
        let spent = gateway.download(&limited).await?.status();
        ensure_eq("a used-up file", spent, StatusCode::GONE)?;
    }
    Ok(())
}

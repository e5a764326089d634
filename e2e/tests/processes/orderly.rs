//! Orderly ends under load: no request fails that one retry does not cure.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use holdfast_e2e::content::{noise, picture};
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::{Cluster, Cut, Shape};
use holdfast_e2e::wait::until;
use image::ImageFormat;

use crate::{SETTLE, claim, ensure_eq};

/// A process ends before Kubernetes would kill it.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
const CLIENTS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_end_fails_no_request_twice() -> Result<()> {
    let shape = Shape {
        nodes: 3,
        gateways: 2,
        workers: 1,
        queue: true,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::of_a_gateway(&mut cluster));
    claim!(self::of_each_gateway_and_back(&mut cluster));
    claim!(self::of_a_node(&mut cluster));
    claim!(self::of_a_worker(&mut cluster));
    Ok(())
}

/// Clients that upload and read until they are told to stop.
struct Load {
    stop: AtomicBool,
    done: AtomicU64,
    retried: AtomicU64,
}

impl Load {
    fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
            retried: AtomicU64::new(0),
        }
    }

    /// Runs it around `fault`, which begins and ends under load.
    async fn around(
        &self,
        gateways: &[Gateway],
        fault: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let clients = join_all((0..CLIENTS).map(|client| self.client(gateways, client)));
        let fault = async {
            let result = async {
                self.more(40).await?;
                fault.await?;
                self.more(40).await
            }
            .await;
            self.stop.store(true, Ordering::Relaxed);
            result
        };
        let (clients, fault) = tokio::join!(clients, fault);
        fault?;
        clients.into_iter().collect::<Result<Vec<()>>>()?;
        println!(
            "{} requests, {} retried",
            self.done.load(Ordering::Relaxed),
            self.retried.load(Ordering::Relaxed)
        );
        Ok(())
    }

    /// Waits until so many more requests are done.
    async fn more(&self, count: u64) -> Result<()> {
        let before = self.done.load(Ordering::Relaxed);
        until("requests go on", SETTLE, async || {
            let done = self.done.load(Ordering::Relaxed) - before;
            ensure!(
                done >= count || self.stop.load(Ordering::Relaxed),
                "{done} of {count}"
            );
            Ok(())
        })
        .await
    }

    async fn client(&self, gateways: &[Gateway], client: u64) -> Result<()> {
        for round in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let first = (client + round) as usize;
            let result = self.round(gateways, first, client * 100_000 + round).await;
            if result.is_err() {
                self.stop.store(true, Ordering::Relaxed);
            }
            result?;
        }
        Ok(())
    }

    async fn round(&self, gateways: &[Gateway], first: usize, seed: u64) -> Result<()> {
        // Within a command, one chunk, and now and then more than one.
        let bytes = noise(
            seed,
            match seed % 12 {
                11 => 9 << 20,
                odd if odd % 2 == 1 => 150_000,
                _ => 3_000,
            },
        );
        let upload = async |gateway: &Gateway| gateway.upload("load.bin", bytes.clone(), 0).await;
        let id = self
            .twice(gateways, first, upload)
            .await
            .context("an upload")?;
        let read = async |gateway: &Gateway| gateway.expect(&id, &bytes).await;
        self.twice(gateways, first + 1, read)
            .await
            .context("a download")
    }

    /// Once, and once more at the next gateway, as behind a balancer.
    async fn twice<T>(
        &self,
        gateways: &[Gateway],
        first: usize,
        request: impl AsyncFn(&Gateway) -> Result<T>,
    ) -> Result<T> {
        let result = match request(&gateways[first % gateways.len()]).await {
            Ok(value) => Ok(value),
            Err(once) => {
                self.retried.fetch_add(1, Ordering::Relaxed);
                let again = request(&gateways[(first + 1) % gateways.len()]).await;
                again.with_context(|| format!("after {once:#}"))
            }
        };
        self.done.fetch_add(1, Ordering::Relaxed);
        result
    }
}

async fn of_a_gateway(cluster: &mut Cluster) -> Result<()> {
    let gateways = [cluster.gateway(0)?, cluster.gateway(1)?];
    // A download that is under way at the end is finished.
    let size = 24 << 20;
    let bytes = noise(5, size);
    let id = gateways[0].upload("long.bin", bytes.clone(), 0).await?;
    let url = format!("{}/api/download/{id}", gateways[1].url());
    let leaving = &mut cluster.gateways[1];
    let load = Load::new();
    load.around(&gateways, async {
        let mut long = Cut::get(&url, &[], 1 << 20).await?;
        ensure_eq("the long download", long.status, 200)?;
        let program = leaving.program.as_ref().context("it does not run")?;
        program.terminate();
        load.more(20).await?;
        long.read(size - (1 << 20))
            .await
            .context("the rest of the long download")?;
        ensure!(long.body == bytes, "other bytes came");
        drop(long);
        leaving.stop(ENDS_WITHIN).await
    })
    .await?;
    cluster.gateways[1].start()?;
    cluster.gateways[1].answers("/readyz").await
}

async fn of_each_gateway_and_back(cluster: &mut Cluster) -> Result<()> {
    let gateways = [cluster.gateway(0)?, cluster.gateway(1)?];
    for at in 0..gateways.len() {
        let load = Load::new();
        let leaving = &mut cluster.gateways[at];
        load.around(&gateways, async {
            leaving.stop(ENDS_WITHIN).await?;
            load.more(20).await?;
            leaving.start()?;
            leaving.answers("/readyz").await
        })
        .await
        .with_context(|| format!("gateway {}", at + 1))?;
    }
    Ok(())
}

async fn of_a_node(cluster: &mut Cluster) -> Result<()> {
    let gateways = [cluster.gateway(0)?, cluster.gateway(1)?];
    for at in 0..cluster.nodes.len() {
        let load = Load::new();
        let leaving = &mut cluster.nodes[at];
        load.around(&gateways, async {
            leaving.stop(ENDS_WITHIN).await?;
            load.more(40).await?;
            leaving.start()?;
            leaving.answers("/health").await
        })
        .await
        .with_context(|| format!("node {}", at + 1))?;
        // The next leaves when this one has caught up: one at a time.
        let caught_up = &mut cluster.nodes[at];
        caught_up.ready().await?;
    }
    Ok(())
}

/// What it has begun it finishes or gives back; nothing of its work is lost.
async fn of_a_worker(cluster: &mut Cluster) -> Result<()> {
    const PICTURES: u64 = 12;
    let gateways = [cluster.gateway(0)?, cluster.gateway(1)?];
    let mut pictures = Vec::new();
    for seed in 0..PICTURES {
        let bytes = picture(seed, 900, 600, ImageFormat::Png)?;
        pictures.push(gateways[0].upload("picture.png", bytes, 0).await?);
    }
    let load = Load::new();
    let leaving = &mut cluster.workers[0];
    load.around(&gateways, async {
        // It is at work by then.
        until("the first thumbnail", SETTLE, async || {
            gateways[0].thumbnail(&pictures[0]).await.map(drop)
        })
        .await?;
        leaving.stop(ENDS_WITHIN).await?;
        leaving.start()?;
        leaving.ready().await
    })
    .await?;
    for id in &pictures {
        until("every thumbnail", SETTLE, async || {
            gateways[1].thumbnail(id).await.map(drop)
        })
        .await?;
    }
    Ok(())
}

//! One node that is fifty times slower than the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::{Cluster, Program, Shape};

use crate::claim;

/// Of each second the node gets a fiftieth: it answers, and takes its time.
const RUNS: Duration = Duration::from_millis(20);
const STANDS: Duration = Duration::from_millis(980);
/// How long it may take until a slow node leads nothing and is asked last.
const NOTICED: Duration = Duration::from_secs(14);
/// How long each load is measured.
const MEASURED: Duration = Duration::from_secs(8);
const CLIENTS: u64 = 4;
/// Of what goes without a slow node, what must be left. With a node that
/// everybody waits for, 3 % of the uploads are.
const LEFT_PERCENT: f64 = 10.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_fifty_times_slower_is_not_waited_for() -> Result<()> {
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::uploads_and_downloads_go_on(&mut cluster));
    Ok(())
}

/// What went through, a second.
#[derive(Clone, Copy, Debug)]
struct Rates {
    uploads: f64,
    downloads: f64,
}

async fn uploads_and_downloads_go_on(cluster: &mut Cluster) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    let whole = measure(&gateway, MEASURED).await?;
    for slow in 0..cluster.nodes.len() {
        let program = cluster.nodes[slow].running()?;
        let stop = AtomicBool::new(false);
        let measured = async {
            // Under load as well: what is not asked is not noticed.
            let before = measure(&gateway, NOTICED).await;
            let rates = match before {
                Ok(_) => measure(&gateway, MEASURED).await,
                failed => failed,
            };
            stop.store(true, Ordering::Relaxed);
            rates
        };
        let (rates, ()) = tokio::join!(measured, crawl(program, &stop));
        let rates = rates?;
        println!("whole {whole:.1?}; with node {} slow {rates:.1?}", slow + 1);
        for (what, slow, whole) in [
            ("uploads", rates.uploads, whole.uploads),
            ("downloads", rates.downloads, whole.downloads),
        ] {
            let left = slow / whole * 100.0;
            ensure!(left >= LEFT_PERCENT, "{left:.1} % of the {what} are left");
        }
        cluster.nodes[slow].ready().await?;
    }
    Ok(())
}

async fn crawl(program: &Program, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        program.pause();
        tokio::time::sleep(STANDS).await;
        program.resume();
        tokio::time::sleep(RUNS).await;
    }
}

async fn measure(gateway: &Gateway, time: Duration) -> Result<Rates> {
    let clients = (0..CLIENTS).map(|client| run(gateway, client, time));
    let all = try_join_all(clients).await?;
    let seconds = |which: fn(&(f64, f64, f64)) -> f64| all.iter().map(which).sum::<f64>();
    let done = seconds(|counts| counts.0);
    Ok(Rates {
        uploads: done * CLIENTS as f64 / seconds(|counts| counts.1),
        downloads: done * CLIENTS as f64 / seconds(|counts| counts.2),
    })
}

/// Rounds, the seconds that their uploads took, and those of their downloads.
async fn run(gateway: &Gateway, client: u64, time: Duration) -> Result<(f64, f64, f64)> {
    let end = Instant::now() + time;
    let (mut rounds, mut uploading, mut downloading) = (0.0, 0.0, 0.0);
    while Instant::now() < end {
        let bytes = noise(client, 1 << 20);
        let start = Instant::now();
        let id = gateway.upload("crawl.bin", bytes.clone(), 0).await?;
        uploading += start.elapsed().as_secs_f64();
        let start = Instant::now();
        gateway.expect(&id, &bytes).await?;
        downloading += start.elapsed().as_secs_f64();
        rounds += 1.0;
    }
    Ok((rounds, uploading, downloading))
}

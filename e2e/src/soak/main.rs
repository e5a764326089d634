//! Hours of mixed load over real processes that are killed, stopped and paused
//! at random, with a journal of what was acknowledged as the oracle:
//! `cargo xtask soak`.
//!
//! While it runs, every byte that comes back is compared, a file that was
//! acknowledged must be there, one whose deletion was acknowledged or whose
//! time is over must not, and a limit of N gives N downloads at most. Requests
//! are tried again, as clients do; one that gets no answer for
//! [`client::OP_LIMIT`] fails the run. So does a process that ends without
//! having been told to. At the end all of it runs again, heals, and everything
//! in the journal is looked at once more.
//!
//! The seed draws the load and the faults; the processes themselves do not
//! replay, so that it is a hint and no proof. The journal and the logs are left
//! where the last line says when the run failed.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a test from outside; the simulation has no part in it"
)]

mod client;
mod faults;
mod journal;
mod numbers;
mod report;
mod verify;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use clap::Parser;
use holdfast_e2e::processes::{Cluster, Shape};

use crate::client::Client;
use crate::faults::Faults;
use crate::journal::Journal;
use crate::numbers::Numbers;
use crate::report::Watch;

/// Clients at once: enough to meet each other at the same files, few enough to
/// leave the processes some of two cores.
const CLIENTS: u64 = 6;
/// How long a silent node's fragments are waited for: short, so that a longer
/// outage in the run has them made again elsewhere.
const DOWN_GRACE: &str = "20s";
/// How often records and disks are compared.
const CENSUS_INTERVAL: &str = "15s";

#[derive(Parser)]
#[command(about = "Mixed load with random kills of real processes")]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Storage nodes.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(3..=9))]
    nodes: u64,
    /// Draws load and faults; another one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    // What was started is ended by being dropped, also when the run is broken off.
    let result = tokio::select! {
        biased;
        result = run(Arguments::parse()) => result,
        () = told_to_end() => Err(anyhow::anyhow!("broken off by a signal")),
    };
    match result {
        Ok(()) => {
            println!("soak: nothing was lost");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("soak: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let (minutes, nodes) = (arguments.minutes, arguments.nodes);
    println!("soak: seed {seed}, {minutes} minutes, {nodes} nodes");
    let files = tempfile::Builder::new().prefix("holdfast-soak").tempdir()?;
    let data: Vec<_> = (1..=nodes)
        .map(|number| files.path().join(format!("data{number}")))
        .collect();
    let mut cluster = Cluster::start(Shape {
        nodes: nodes as usize,
        gateways: 2,
        workers: 2,
        queue: true,
        node_settings: vec![
            ("HOLDFAST_DOWN_GRACE", DOWN_GRACE.into()),
            ("HOLDFAST_CENSUS_INTERVAL", CENSUS_INTERVAL.into()),
        ],
        data,
        ..Shape::default()
    })
    .await?;
    let journal = Arc::new(Journal::new(&files.path().join("journal"))?);
    let result = soak(&mut cluster, &journal, minutes, seed, files.path()).await;
    match result {
        Ok(()) => Ok(()),
        Err(error) => {
            let logs = cluster.keep_files();
            let kept = files.keep();
            let places = format!("journal in {}, logs in {}", kept.display(), logs.display());
            Err(anyhow::anyhow!("{error:#}\n{places}; seed {seed}"))
        }
    }
}

async fn soak(
    cluster: &mut Cluster,
    journal: &Arc<Journal>,
    minutes: u64,
    seed: u64,
    data: &std::path::Path,
) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let numbers = |part: u64| Numbers::new(seed.wrapping_mul(1_000) + part);
    let gateways: Vec<_> = cluster.gateways.iter().map(|member| member.url()).collect();
    let watch = Arc::new(Watch::new(data.to_owned()));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client::new(gateways.clone(), journal.clone(), numbers(number + 1))?;
        clients.spawn(client.run(end, watch.clone()));
    }
    let mut faults = Faults::new(numbers(0), watch.clone());
    let broken = async {
        // The first client that fails ends the run.
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    let reports = watch.report(journal);
    let breaking = async {
        let result = faults.run(cluster, end).await;
        // Whole again: from here on no request has an excuse.
        result.and(faults.heal(cluster).await)
    };
    tokio::select! {
        biased;
        result = async { tokio::try_join!(broken, breaking) } => { result?; }
        never = reports => never?,
    }
    watch.show(journal);
    verify::all(cluster, journal).await?;
    ensure!(!journal.is_empty(), "nothing was acknowledged at all");
    println!("soak: {}", faults.summary());
    Ok(())
}

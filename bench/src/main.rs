//! `holdfast-bench`: what this machine can do, and what the store does of it.
//!
//! Every figure of the store is a ratio to a limit that was measured in the
//! same run, since machines differ and are shared. The store is real
//! processes: three nodes, a gateway, fsync on, everything verified.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a measurement from outside; the simulation has no part in it"
)]

mod kubernetes;
mod limits;
mod load;
mod loopback;
mod memory;
mod millions;
mod repair;
mod sample;
mod store;
mod takeover;
mod usage;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use holdfast_e2e::processes::{Cluster, Shape};
use tokio::signal::unix::{SignalKind, signal};

use crate::sample::{Figure, report};

/// Measures this machine's limits and the store against them.
#[derive(Parser)]
#[command(name = "holdfast-bench", version)]
struct Arguments {
    /// Rounds of each measurement; median and range are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Seconds for which idle processes are watched; what they do once a minute
    /// should be a part of it
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    idle_seconds: u64,
    /// Clients at once, where many are asked for.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Also upload 64 files of this many MiB at once and watch the gateway's memory.
    #[arg(long)]
    memory_mib: Option<u64>,
    /// Instead, kill one of four nodes with this many MiB on it, and measure the repair.
    #[arg(long)]
    repair_mib: Option<u64>,
    /// Instead, store this many small files, and measure what their number costs:
    /// the first page of a list, and a node's start.
    #[arg(long, conflicts_with_all = ["repair_mib", "k8s"], value_parser = clap::value_parser!(u64).range(10..))]
    files: Option<u64>,
    /// Instead, measure StorageClusters in the Kubernetes cluster of KUBECONFIG,
    /// which has the operator installed.
    #[arg(long)]
    k8s: bool,
    #[command(flatten)]
    kubernetes: kubernetes::Amounts,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What else this program is.
#[derive(Subcommand)]
enum Role {
    /// The server whose speed is the limit of HTTP on this machine.
    #[command(hide = true)]
    Serve,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Role::Serve) = arguments.role {
        return loopback::serve().await;
    }
    // Dropped when a signal comes, so that the processes end with this one.
    tokio::select! {
        biased;
        signal = ended_by_signal() => signal,
        done = measure(arguments) => done,
    }
}

/// Ends with an error when SIGINT or SIGTERM comes.
async fn ended_by_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased;
        _ = terminate.recv() => bail!("ended by SIGTERM"),
        done = tokio::signal::ctrl_c() => {
            done?;
            bail!("ended by SIGINT")
        }
    }
}

async fn measure(arguments: Arguments) -> Result<()> {
    let disk = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(target_dir()?)?;
    if arguments.k8s {
        let figures = kubernetes::measure(disk.path(), &arguments.kubernetes).await?;
        report(&figures, arguments.json);
        return Ok(());
    }
    if let Some(mib) = arguments.repair_mib {
        let at = disk.path().to_owned();
        let sequential = tokio::task::spawn_blocking(move || limits::sequential(&at)).await??;
        let figures = repair::measure(disk.path(), mib, sequential).await?;
        report(&figures, arguments.json);
        return Ok(());
    }
    if let Some(files) = arguments.files {
        let figures = millions::measure(disk.path(), files).await?;
        report(&figures, arguments.json);
        return Ok(());
    }
    let time = Duration::from_secs(arguments.seconds);
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        workers: 2,
        queue: true,
        // The rate limits are for people; this is to find the store's own.
        gateway_settings: vec![
            ("HOLDFAST_KEY_RATE", "0".into()),
            ("HOLDFAST_ADDRESS_RATE", "0".into()),
        ],
        data: (1..=3)
            .map(|n| disk.path().join(format!("node-{n}")))
            .collect(),
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await.context("starting the store")?;
    let mut figures: Vec<Figure> = Vec::new();
    figures.extend(memory::idle(&mut cluster, Duration::from_secs(arguments.idle_seconds)).await?);
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        let at = disk.path().to_owned();
        let clients = arguments.clients;
        let limits = tokio::task::spawn_blocking(move || limits::measure(&at, clients, time));
        let limits = limits.await??;
        let http = loopback::measure(clients, time).await?;
        let store = store::measure(&cluster, clients, time).await?;
        figures.extend(limits.figures());
        figures.extend(http.figures());
        figures.extend(store.figures(&limits, &http));
        figures.extend(takeover::measure(&mut cluster, round).await?);
    }
    let memory = match arguments.memory_mib {
        None => Ok(Vec::new()),
        Some(mib) => memory::under_uploads(&mut cluster, 64, mib << 20).await,
    };
    // What was measured is shown, whatever became of the last step.
    if let Ok(more) = &memory {
        figures.extend(more.iter().cloned());
    }
    report(&figures, arguments.json);
    memory.map(|_| ())
}

/// Beside the binary: on the disk that builds are on, not in memory as `/tmp` may be.
fn target_dir() -> Result<std::path::PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("the binary lies nowhere")?.to_owned())
}

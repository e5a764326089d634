//! The worker's process: settings, connections, and the end on a signal.

use std::sync::Arc;

use anyhow::Context;
use holdfast_cache::RedisCache;
use holdfast_client::{Cluster, ClusterSettings};
use holdfast_model::Supported;
use holdfast_queue::RabbitQueue;
use holdfast_runtime::host::descriptors::raise_descriptor_limit;
use holdfast_runtime::host::signals::end_on_signal;
use holdfast_runtime::host::system::{SystemClock, SystemEntropy, TokioTasks};
use holdfast_runtime::settings::parse_arguments;
use holdfast_runtime::{Env, Shutdown, telemetry};

use crate::WorkerParts;
use crate::settings::{Args, FoundSecrets};

/// Runs a worker until a signal ends it, and then ends the process.
#[tokio::main]
pub async fn run(supports: Supported) {
    let code = match start(supports).await {
        Ok(()) => 0,
        Err(error) => {
            // One sentence that says what to change; a backtrace says nothing.
            eprintln!("holdfast-worker: {error:#}");
            1
        }
    };
    // All is settled. Not by returning: the queue's client has threads of its
    // own, which panic when the runtime ends before them.
    std::process::exit(code);
}

async fn start(supports: Supported) -> anyhow::Result<()> {
    let args: Args = parse_arguments(supports);
    telemetry::start_logging(args.log_format, "info,lapin=off");
    tracing::info!(release = supports.version(), "the worker starts");
    let metrics = telemetry::install_metrics()
        .map_err(anyhow::Error::msg)
        .context("installing metrics")?;
    raise_descriptor_limit().context("raising the limit on open files")?;
    let secrets = FoundSecrets::read(&args).await?;
    let (settings, connections) = args.resolve(secrets)?;
    let shutdown = Shutdown::default();
    end_on_signal(shutdown.clone()).context("listening for signals")?;
    let security = connections.security;
    security.follow();
    let transport = security.transport().context("calling storage nodes")?;
    let env = Env {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(SystemEntropy),
        tasks: Arc::new(TokioTasks),
        transport: Arc::new(transport),
    };
    // The view of the cluster and the queue are used until all is settled:
    // they end with the process, not when the drain begins.
    let cluster = Cluster::start(
        env.clone(),
        ClusterSettings::new(connections.nodes),
        Shutdown::default(),
    );
    let parts = WorkerParts {
        cluster,
        queue: RabbitQueue::start(
            env.clone(),
            connections.rabbitmq,
            security.carriers(),
            shutdown.clone(),
        ),
        cache: RedisCache::start(
            env,
            connections.redis,
            security.carriers(),
            shutdown.clone(),
        ),
        metrics: Some(metrics),
        supports,
    };
    crate::run(settings, parts, shutdown).await?;
    Ok(())
}

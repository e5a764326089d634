//! The gateway's process: settings, parts, signals.

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
use holdfast_runtime::telemetry::{install_metrics, start_logging};
use holdfast_runtime::{Env, Shutdown};

use crate::app::GatewayParts;
use crate::settings::{Args, FoundSecrets};

/// Runs a gateway until a signal ends it, and then ends the process.
#[tokio::main]
pub async fn run(supports: Supported) {
    let code = match start(supports).await {
        Ok(()) => 0,
        Err(error) => {
            // One sentence that says what to change; a backtrace says nothing.
            eprintln!("holdfast-gateway: {error:#}");
            1
        }
    };
    // All is settled. Not by returning: the queue's client has threads of its
    // own, which panic when the runtime ends before them.
    std::process::exit(code);
}

async fn start(supports: Supported) -> anyhow::Result<()> {
    let args: Args = parse_arguments(supports);
    start_logging(args.log_format, "info,lapin=off");
    tracing::info!(release = supports.version(), "the gateway starts");
    raise_descriptor_limit().context("raising the limit on open files")?;
    let metrics = install_metrics().map_err(anyhow::Error::msg)?;
    let secrets = FoundSecrets::read(&args).await?;
    let (settings, connections) = args.resolve(secrets)?;
    let shutdown = Shutdown::default();
    end_on_signal(shutdown.clone()).context("cannot listen for signals")?;
    let security = settings.security.clone();
    security.follow();
    let transport = security.transport().context("calling storage nodes")?;
    let env = Env {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(SystemEntropy),
        tasks: Arc::new(TokioTasks),
        transport: Arc::new(transport),
    };
    // The parts outlive the gateway's own drain, which still needs them.
    let parts_shutdown = Shutdown::default();
    let mut cluster_settings = ClusterSettings::new(connections.nodes);
    cluster_settings.stale_limit = settings.stale_limit;
    let cluster = Cluster::start(env.clone(), cluster_settings, parts_shutdown.clone());
    let queue = RabbitQueue::start(
        env.clone(),
        connections.rabbitmq,
        security.carriers(),
        parts_shutdown.clone(),
    );
    let cache = RedisCache::start(
        env,
        connections.redis,
        security.carriers(),
        parts_shutdown.clone(),
    );
    let parts = GatewayParts {
        cluster,
        queue,
        cache,
        metrics: Some(metrics),
        supports,
    };
    crate::run(settings, parts, shutdown).await?;
    parts_shutdown.begin();
    Ok(())
}

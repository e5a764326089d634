//! The worker: makes thumbnails, compresses, deletes what has ended.
//!
//! It hears of tasks from the queue, claims each in its group, does it, and
//! finishes it under the number of its attempt. Everything it does may happen
//! twice, or stop in the middle, without harm: only the group's answer counts,
//! and a worker that wakes up late is refused by its fencing token.
//!
//! While the queue is away the worker looks for tasks itself ([`sweep`]), so
//! that work is late and never lost.

pub mod frames;
pub mod picture;
pub mod process;
pub mod settings;
mod standing;
mod sweep;
mod work;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use holdfast_cache::Cache;
use holdfast_client::Cluster;
use holdfast_model::Supported;
use holdfast_queue::{Consumer, Queue, QueueError, TaskHint};
use holdfast_runtime::Shutdown;
use holdfast_runtime::clock::within;
use holdfast_runtime::host::operations::{OperationsParts, PrometheusHandle, serve_operations};
use holdfast_runtime::host::tls::Security;
use holdfast_runtime::shutdown::DRAIN_DEADLINE;
use tokio::sync::mpsc;

pub use settings::WorkerSettings;
use standing::Standing;
use work::Worker;

/// Of the drain's time, what is kept for giving back what is not finished.
const GIVE_BACK: Duration = Duration::from_secs(3);

/// What a worker works with.
pub struct WorkerParts {
    /// The cluster. Its view must outlive the drain.
    pub cluster: Cluster,
    /// Where hints come from.
    pub queue: Arc<dyn Queue>,
    /// Where locks come from.
    pub cache: Arc<dyn Cache>,
    /// What `/metrics` shows.
    pub metrics: Option<PrometheusHandle>,
    /// What the program can speak.
    pub supports: Supported,
}

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its port of operations cannot be listened on.
    #[error("cannot listen on {address} for metrics and health (HOLDFAST_METRICS_ADDR): {reason}")]
    Operations {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The queue can never be used.
    #[error("cannot consume from the queue: {0}")]
    Queue(#[from] QueueError),
    /// The cluster writes what this worker cannot speak.
    #[error("{0}")]
    Outgrown(String),
}

/// Works until `shutdown` begins, then finishes what it has begun, for at most
/// [`DRAIN_DEADLINE`], and gives back the rest.
///
/// # Errors
/// When it cannot begin, and when the cluster has gone on to formats that it
/// cannot speak: what it had begun is then left to the tasks' deadlines.
pub async fn run(
    settings: WorkerSettings,
    parts: WorkerParts,
    shutdown: Shutdown,
) -> Result<(), WorkerError> {
    let WorkerParts {
        cluster,
        queue,
        cache,
        metrics,
        supports,
    } = parts;
    let clock = cluster.env().clock.clone();
    let standing = Arc::new(Standing::default());
    if let Some(address) = settings.operations {
        let view = (cluster.clone(), queue.clone(), cache.clone());
        let parts = operations(metrics, view, standing.clone(), settings.security.clone());
        serve_operations(address, parts, shutdown.clone())
            .await
            .map_err(|reason| WorkerError::Operations { address, reason })?;
    }
    let (direct, mut found) = mpsc::channel(usize::from(settings.parallelism));
    let sweep = sweep::Sweep::new(cluster.clone(), queue.clone(), direct);
    cluster
        .env()
        .tasks
        .spawn("task sweep", Box::pin(sweep.run(shutdown.clone())));
    let parallelism = usize::from(settings.parallelism);
    let mut consumer = queue.consume(settings.parallelism).await?;
    let outgrown = cluster.clone();
    let worker = Arc::new(Worker::new(settings, cluster, cache, standing));
    tracing::info!(worker = worker.name(), parallelism, "working");
    let mut running = FuturesUnordered::new();
    let serving = serve(
        &worker,
        &mut *consumer,
        &mut found,
        &mut running,
        parallelism,
        &shutdown,
    );
    tokio::select! {
        biased;
        why = outgrown.outgrows(&supports) => return Err(WorkerError::Outgrown(why)),
        served = serving => served?,
    }
    drop(consumer);
    tracing::info!(running = running.len(), "finishing what was begun");
    let finish = async { while running.next().await.is_some() {} };
    if within(&*clock, DRAIN_DEADLINE - GIVE_BACK, finish)
        .await
        .is_none()
    {
        worker.give_back();
        let rest = async { while running.next().await.is_some() {} };
        if within(&*clock, GIVE_BACK, rest).await.is_none() {
            tracing::warn!("tasks are left to their deadline");
        }
    }
    Ok(())
}

type Running = FuturesUnordered<BoxFuture<'static, ()>>;

/// Takes hints and starts work on them, until `shutdown` begins.
async fn serve(
    worker: &Arc<Worker>,
    consumer: &mut dyn Consumer,
    found: &mut mpsc::Receiver<TaskHint>,
    running: &mut Running,
    parallelism: usize,
    shutdown: &Shutdown,
) -> Result<(), WorkerError> {
    loop {
        let room = running.len() < parallelism;
        tokio::select! {
            biased;
            () = shutdown.begun() => return Ok(()),
            Some(()) = running.next(), if !running.is_empty() => {}
            delivery = consumer.next(), if room => match delivery {
                Ok(delivery) => running.push(Box::pin(worker.clone().serve(delivery))),
                Err(QueueError::Ended) => return Ok(()),
                Err(error) => return Err(error.into()),
            },
            Some(hint) = found.recv(), if room => {
                running.push(Box::pin(worker.clone().serve_directly(hint)));
            }
        }
    }
}

type Outside = (Cluster, Arc<dyn Queue>, Arc<dyn Cache>);

fn operations(
    metrics: Option<PrometheusHandle>,
    outside: Outside,
    standing: Arc<Standing>,
    loaded: Option<Security>,
) -> OperationsParts {
    let cluster = outside.0.clone();
    OperationsParts {
        metrics,
        alive: None,
        loaded,
        // Queue and cache may be away: work goes on, late.
        ready: Arc::new(move || {
            let state = cluster.require_state();
            state.map(|_| ()).map_err(|error| error.to_string())
        }),
        debug: Arc::new(move || {
            let (cluster, queue, cache) = &outside;
            let env = cluster.env();
            serde_json::json!({
                "tasks": standing.view(env.clock.monotonic()),
                "queue_healthy": queue.healthy(),
                "cache_healthy": cache.healthy(),
                "cluster_revision": cluster.state().map(|state| state.revision),
                "cluster_confirmed_seconds_ago": cluster.freshness().as_secs(),
            })
        }),
    }
}

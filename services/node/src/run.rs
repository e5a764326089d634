//! A node as a process: settings, secrets, the disk, HTTP, and its end.
#![allow(
    clippy::disallowed_methods,
    reason = "the edge of a process: the simulation starts nodes by itself"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_blobs::EngineSettings;
use holdfast_client::birth::{Beginning, FirstKey};
use holdfast_controller::ControllerSettings;
use holdfast_metadata::log::LogSettings;
use holdfast_model::Supported;
use holdfast_runtime::host::disk::Directory;
use holdfast_runtime::host::operations::{OperationsParts, serve_operations};
use holdfast_runtime::host::serve::serve_encrypted;
use holdfast_runtime::host::system::{SystemClock, SystemEntropy, TokioTasks};
use holdfast_runtime::host::tls::{Security, TlsError};
use holdfast_runtime::{Disk, Env, Fatal, Shutdown};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::birth::found_cluster;
use crate::limits::LimitSettings;
use crate::liveness;
use crate::node::{Node, NodeParts, StartError};
use crate::server;
use crate::settings::NodeSettings;

/// How long leadership may take to be handed over at the end.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);

/// Why a node did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory.
    #[error("the data directory {path} cannot be used: {reason}")]
    Data {
        /// Which.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// An address to listen on.
    #[error("cannot listen on {address}: {reason}; choose another with {setting}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        reason: std::io::Error,
        /// What to set.
        setting: &'static str,
    },
    /// Certificates, or the client that uses them.
    #[error(transparent)]
    Encryption(TlsError),
    /// The node itself.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// What a node needs beside its settings.
pub struct RunParts {
    /// The cluster's credential, and the certificates where there are some.
    pub security: Security,
    /// The first key's token, where this node founds a cluster.
    pub admin_token: String,
    /// The process's metrics, if this process is the node's own.
    pub metrics: Option<PrometheusHandle>,
    /// Whether to serve the port of operations.
    pub operations: bool,
    /// What the program can read and write.
    pub supports: Supported,
}

/// A node that runs.
pub struct Running {
    /// The node.
    pub node: Arc<Node>,
    serving: JoinHandle<()>,
    end: CancellationToken,
    shutdown: Shutdown,
}

impl Running {
    /// Hands leadership over, lets calls end, and stops.
    pub async fn stop(self) {
        self.node.hand_over(HAND_OVER_LIMIT).await;
        self.end_with_all().await;
    }

    /// Ends without handing leadership over: for a process that ends all nodes
    /// of the cluster, where the last ones would wait for a follower in vain.
    pub async fn end_with_all(self) {
        self.end.cancel();
        // It ends when the last call has, or its deadline has passed.
        let _ = self.serving.await;
        self.node.save_index().await;
        self.shutdown.begin();
    }
}

/// The world of a process.
///
/// # Errors
/// When the HTTP client cannot be made.
pub fn host_env(security: &Security) -> Result<Env, RunError> {
    let transport = security.transport().map_err(RunError::Encryption)?;
    Ok(Env {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(SystemEntropy),
        tasks: Arc::new(TokioTasks),
        transport: Arc::new(transport),
    })
}

/// Starts a node.
///
/// # Errors
/// [`RunError`], with what to change.
pub async fn start(settings: &NodeSettings, parts: RunParts) -> Result<Running, RunError> {
    let path = settings.data.display().to_string();
    let data_error = |error: std::io::Error| RunError::Data {
        path: path.clone(),
        reason: match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                "another process is using it: stop that one first, or choose another directory"
                    .into()
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("{error}; make it writable for this user, or choose another")
            }
            _ => error.to_string(),
        },
    };
    let directory = Directory::open(&settings.data).map_err(data_error)?;
    start_on(settings, parts, Arc::new(directory)).await
}

/// Starts a node on a disk that is open.
///
/// # Errors
/// [`RunError`], with what to change.
pub async fn start_on(
    settings: &NodeSettings,
    parts: RunParts,
    directory: Arc<dyn Disk>,
) -> Result<Running, RunError> {
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|reason| RunError::Listen {
            address: settings.listen,
            reason,
            setting: "HOLDFAST_LISTEN",
        })?;
    let env = host_env(&parts.security)?;
    // The node's own end, apart from the process's: it comes last.
    let shutdown = Shutdown::default();
    let on_fatal = Arc::new(move |fatal: Fatal| {
        tracing::error!(%fatal, "this node cannot go on");
        // Not an orderly end: what is in memory must not be acted on any more.
        std::process::exit(70);
    });
    let mut seeds = settings.bootstrap.clone();
    seeds.extend(settings.join.iter().cloned());
    let defaults = ControllerSettings::default();
    let node = Node::start(NodeParts {
        env: env.clone(),
        disk: directory,
        address: settings.address(),
        seeds,
        zone: settings.zone.clone(),
        host: settings.host.clone(),
        supports: parts.supports,
        engine: EngineSettings {
            segment_bytes: settings.segment_bytes,
            reserve_bytes: settings.disk_reserve,
        },
        log: LogSettings::default(),
        controller: ControllerSettings {
            down_grace: settings.down_grace,
            census_interval: settings.census_interval,
            census_walk_interval: settings.census_walk_interval,
            compaction_bytes_per_second: settings.compaction_rate,
            repair_bytes_per_second: settings.repair_rate,
            ..defaults
        },
        limits: LimitSettings {
            transfers: settings.max_transfers,
            memory_bytes: settings.memory_budget,
            ..LimitSettings::default()
        }
        .within(server::LIMITS.connections_at_most()),
        on_fatal,
        shutdown: shutdown.clone(),
    })
    .await?;
    // Who syncs on it may be the first to hear that it has failed.
    let directory = node.disk();
    let end = CancellationToken::new();
    let front = server::front(node.clone(), parts.security.credential.clone());
    let acceptor = parts.security.internal().map_err(RunError::Encryption)?;
    let ending = end.clone().cancelled_owned();
    let serving = serve_encrypted(listener, acceptor, front, server::LIMITS, ending);
    let serving = tokio::spawn(serving);
    if parts.operations {
        let asking = liveness::keep_asking(env.clone(), directory.clone(), shutdown.clone());
        tokio::spawn(asking);
        let (asked, seen) = (node.clone(), node.clone());
        let shown = OperationsParts {
            metrics: parts.metrics,
            alive: Some(liveness::alive(node.clone())),
            ready: Arc::new(move || asked.ready()),
            debug: Arc::new(move || debug_view(&seen)),
            loaded: Some(parts.security),
        };
        serve_own_operations(settings, shown, &shutdown).await?;
    }
    if !settings.bootstrap.is_empty() {
        let members = settings.bootstrap.clone();
        let key = FirstKey::of(&parts.admin_token);
        let beginning = Beginning::usual(key, settings.times());
        tokio::spawn(async move {
            match found_cluster(&env, directory.as_ref(), &members, &beginning).await {
                Ok(cluster) => tracing::info!(%cluster, "the cluster is founded"),
                Err(error) => {
                    tracing::error!(%error, "the cluster was not founded");
                    std::process::exit(78);
                }
            }
        });
    }
    Ok(Running {
        node,
        serving,
        end,
        shutdown,
    })
}

async fn serve_own_operations(
    settings: &NodeSettings,
    parts: OperationsParts,
    shutdown: &Shutdown,
) -> Result<(), RunError> {
    serve_operations(settings.metrics_addr, parts, shutdown.clone())
        .await
        .map_err(|reason| RunError::Listen {
            address: settings.metrics_addr,
            reason,
            setting: "HOLDFAST_METRICS_ADDR",
        })?;
    Ok(())
}

fn debug_view(node: &Node) -> serde_json::Value {
    let identity = node.identity();
    let workers: Vec<String> = node
        .controller()
        .map(|controller| {
            controller
                .debug()
                .iter()
                .map(|worker| format!("{worker:?}"))
                .collect()
        })
        .unwrap_or_default();
    json!({
        "node": identity.node,
        "disk": identity.disk,
        "cluster": identity.cluster,
        "incarnation": identity.incarnation,
        "release": node.supports().version(),
        "formats": identity.active.map(|active| active.to_string()),
        "groups_without_leader": node.without_leader(),
        "workers": workers,
    })
}

/// Runs a node until `shutdown` begins.
///
/// # Errors
/// [`RunError`], with what to change.
pub async fn run(
    settings: NodeSettings,
    parts: RunParts,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let running = start(&settings, parts).await?;
    tracing::info!(listen = %settings.listen, address = %settings.address(), "serving");
    shutdown.begun().await;
    tracing::info!("ending: handing leadership over");
    running.stop().await;
    Ok(())
}

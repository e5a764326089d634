//! The gateway: the HTTP API of files, on port 5000.
//!
//! It keeps nothing: what it holds is the cluster's view, limits, and what is
//! on its way. Bytes stream in both directions, bounded by a memory budget.
//! Truth is decided in metadata groups; RabbitMQ and Redis may be absent.
//!
//! - [`routes`]: all routes. [`front`]: what happens to every request.
//! - [`upload`], [`download`], [`files`], [`cluster_views`], [`admin`]: what they do.
//! - [`error`]: every error in one table.
//! - [`server`]: connections and their deadlines.

pub mod admin;
pub mod app;
pub mod auth;
pub mod body;
pub mod client_address;
pub mod cluster_views;
pub mod dispatch;
pub mod download;
pub mod error;
pub mod files;
pub mod front;
pub mod mime;
pub mod openapi;
pub mod operations;
pub mod password;
pub mod process;
pub mod routes;
pub mod secret;
pub mod server;
pub mod settings;
pub mod upload;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use holdfast_model::Supported;
use holdfast_runtime::Shutdown;
use holdfast_runtime::clock::within;
use holdfast_runtime::host::serve::serve_encrypted;
use holdfast_runtime::host::tls::TlsError;
use holdfast_runtime::shutdown::DRAIN_DEADLINE;

pub use crate::app::{App, GatewayParts};
pub use crate::settings::GatewaySettings;

/// Why a gateway could not run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}; choose another with {setting}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        reason: std::io::Error,
        /// What to set.
        setting: &'static str,
    },
    /// Its certificate.
    #[error(transparent)]
    Encryption(#[from] TlsError),
    /// The cluster writes what this gateway cannot speak.
    #[error("{0}")]
    Outgrown(String),
}

/// The HTTP API as a service, for [`run`] and for tests that call it directly.
/// Background work is not started.
pub fn router(settings: GatewaySettings, parts: GatewayParts, shutdown: Shutdown) -> axum::Router {
    routes::router(App::new(settings, &parts, shutdown))
}

/// Serves until `shutdown` begins, then finishes what runs.
///
/// # Errors
/// When an address cannot be listened on, and when the cluster has gone on to
/// formats that this gateway cannot speak.
pub async fn run(
    settings: GatewaySettings,
    parts: GatewayParts,
    shutdown: Shutdown,
) -> Result<(), GatewayError> {
    let address = settings.listen;
    let cannot_listen = |address, setting| {
        move |reason| GatewayError::Listen {
            address,
            reason,
            setting,
        }
    };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(cannot_listen(address, "HOLDFAST_LISTEN"))?;
    let acceptor = settings.security.public()?;
    let app = App::new(settings, &parts, shutdown.clone());
    if let Some(address) = app.settings.operations {
        operations::serve(&app, address, parts.metrics.clone())
            .await
            .map_err(cannot_listen(address, "HOLDFAST_METRICS_ADDR"))?;
    }
    operations::start_gauges(&app);
    let dispatcher = app.dispatcher.clone();
    let tasks = app.env.tasks.clone();
    tasks.spawn("dispatch-tasks", Box::pin(dispatcher.run(shutdown.clone())));
    let outgrown = end_when_outgrown(&app, parts.supports);
    match listener.local_addr() {
        Ok(at) => {
            tracing::info!(%at, "the gateway listens");
        }
        Err(error) => tracing::info!(%error, "the gateway listens"),
    }
    let router = routes::router(app.clone());
    let end = async move { shutdown.begun().await };
    serve_encrypted(listener, acceptor, router, server::LIMITS, end).await;
    settle(&app).await;
    match outgrown.get() {
        Some(why) => Err(GatewayError::Outgrown(why.clone())),
        None => Ok(()),
    }
}

/// Begins the end when the cluster writes what this gateway cannot speak, and
/// keeps the sentence that says what to do.
fn end_when_outgrown(app: &Arc<App>, supports: Supported) -> Arc<OnceLock<String>> {
    let outgrown = Arc::new(OnceLock::new());
    let (app, found) = (app.clone(), outgrown.clone());
    let tasks = app.env.tasks.clone();
    let work = async move {
        tokio::select! {
            biased;
            () = app.shutdown.begun() => {}
            why = app.cluster.outgrows(&supports) => {
                // Set once: there is one such task.
                let _ = found.set(why);
                app.shutdown.begin();
            }
        }
    };
    tasks.spawn("release", Box::pin(work));
    outgrown
}

/// Waits for the reports of downloads; those that stay unsent count.
async fn settle(app: &Arc<App>) {
    let none = app.settlements.none();
    if within(app.env.clock.as_ref(), DRAIN_DEADLINE / 5, none)
        .await
        .is_none()
    {
        let left = app.settlements.under_way();
        tracing::warn!(
            left,
            "downloads stay counted, since their groups did not answer"
        );
    }
}

//! The port of the one on call, the same on every service: `/metrics`,
//! `/healthz` (the process is alive), `/readyz` (it can do its work), `/debug`
//! (what its background work is doing), `/debug/loaded` (which certificates and
//! credentials are in use). It is not for the public.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

pub use metrics_exporter_prometheus::PrometheusHandle;

use super::serve::{ServeLimits, serve};
use super::tls::Security;
use crate::Shutdown;

/// How often histograms are folded; without it they grow with every request.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Few look, and none of them sends much.
const LIMITS: ServeLimits = ServeLimits {
    name: "operations",
    connections: 256,
    head_deadline: Duration::from_secs(15),
    buffer_bytes: 16 << 10,
    headers: 100,
    drain: Duration::ZERO,
};

/// Whether the process can do its work, or is alive, and if not, why.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the process is doing.
pub type DebugView = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What is shown.
#[derive(Clone)]
pub struct OperationsParts {
    /// The metrics; none where another part of the process shows them.
    pub metrics: Option<PrometheusHandle>,
    /// Answers `/healthz`; none where an answer is proof enough. It must not
    /// wait for anything, nor look at other processes: whoever asks restarts
    /// this one.
    pub alive: Option<Check>,
    /// Answers `/readyz`. It must not wait for anything.
    pub ready: Check,
    /// Answers `/debug`. It must not wait for anything.
    pub debug: DebugView,
    /// Answers `/debug/loaded`: which certificates and credentials are in use.
    pub loaded: Option<Security>,
}

/// Serves the port of operations in the background and returns where it
/// listens. It ends when the process does, and not when `shutdown` begins:
/// while a service drains it must be seen, as alive and not ready.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve_operations(
    addr: SocketAddr,
    parts: OperationsParts,
    shutdown: Shutdown,
) -> io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(addr).await?;
    let listening = listener.local_addr()?;
    if let Some(metrics) = parts.metrics.clone() {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                metrics.run_upkeep();
            }
        });
    }
    let app = operations_router(parts, shutdown);
    tokio::spawn(serve(listener, app, LIMITS, std::future::pending()));
    Ok(listening)
}

/// The routes, for a service that serves them beside its own.
pub fn operations_router(parts: OperationsParts, shutdown: Shutdown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/debug", get(debug))
        .route("/debug/loaded", get(loaded))
        .with_state((parts, shutdown))
}

type Shared = State<(OperationsParts, Shutdown)>;

async fn metrics(State((parts, _)): Shared) -> Response {
    // The version of the text format, as Prometheus asks for it.
    const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    match parts.metrics {
        Some(metrics) => {
            ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], metrics.render()).into_response()
        }
        None => (StatusCode::NOT_FOUND, "metrics are not collected here\n").into_response(),
    }
}

async fn alive(State((parts, _)): Shared) -> Response {
    answer("alive\n", parts.alive.map_or(Ok(()), |alive| alive()))
}

async fn ready(State((parts, shutdown)): Shared) -> Response {
    let verdict = if shutdown.has_begun() {
        Err("shutting down".to_owned())
    } else {
        (parts.ready)()
    };
    answer("ready\n", verdict)
}

fn answer(well: &'static str, verdict: Result<(), String>) -> Response {
    match verdict {
        Ok(()) => well.into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn debug(State((parts, _)): Shared) -> Response {
    Json((parts.debug)()).into_response()
}

async fn loaded(State((parts, _)): Shared) -> Response {
    match parts.loaded {
        Some(security) => Json(security.loaded()).into_response(),
        None => (StatusCode::NOT_FOUND, "nothing is shown or accepted here\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::host::tls::{Trust, http_client};

    async fn fetch(at: SocketAddr, path: &str) -> (u16, String) {
        let client = http_client(&Trust::System(None)).unwrap().build().unwrap();
        let answer = client
            .get(format!("http://{at}{path}"))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn a_service_is_ready_while_it_says_so_and_is_not_shutting_down() {
        let able = Arc::new(AtomicBool::new(false));
        let seen = able.clone();
        let moves = Arc::new(AtomicBool::new(true));
        let moving = moves.clone();
        let shutdown = Shutdown::default();
        let parts = OperationsParts {
            metrics: None,
            alive: Some(Arc::new(move || match moving.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err("the loop has not moved for 31 s".into()),
            })),
            ready: Arc::new(move || match seen.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err("no leader".into()),
            }),
            debug: Arc::new(|| serde_json::json!({"busy": 3})),
            loaded: Some(Security::plain("a secret")),
        };
        let at = serve_operations(([127, 0, 0, 1], 0).into(), parts, shutdown.clone())
            .await
            .unwrap();

        assert_eq!(fetch(at, "/readyz").await, (503, "no leader\n".into()));
        able.store(true, Ordering::SeqCst);
        assert_eq!(fetch(at, "/readyz").await, (200, "ready\n".into()));
        shutdown.begin();
        assert_eq!(fetch(at, "/readyz").await, (503, "shutting down\n".into()));
        assert_eq!(fetch(at, "/healthz").await, (200, "alive\n".into()));
        moves.store(false, Ordering::SeqCst);
        let still = "the loop has not moved for 31 s\n";
        assert_eq!(fetch(at, "/healthz").await, (503, still.into()));
        assert_eq!(fetch(at, "/debug").await, (200, r#"{"busy":3}"#.into()));
        let loaded: serde_json::Value =
            serde_json::from_str(&fetch(at, "/debug/loaded").await.1).unwrap();
        let nothing = serde_json::json!({"internal": null, "public": null, "authorities": []});
        assert_eq!(loaded["tls"], nothing);
        // The beginning of its SHA-256.
        let credential = serde_json::json!(["984ca5162200734c"]);
        assert_eq!(loaded["credentials"]["cluster"], credential);
        assert_eq!(fetch(at, "/metrics").await.0, 404);
    }
}

//! The port of the one on call, and the gauges it shows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_metadata::query::Totals;
use holdfast_runtime::host::operations::{OperationsParts, serve_operations};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::app::App;

/// How often the gauges follow the groups' counts.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);

/// One of a group's counts.
type Count = fn(&Totals) -> u64;

/// Serves metrics, health and the debug view.
pub async fn serve(
    app: &Arc<App>,
    address: SocketAddr,
    metrics: Option<PrometheusHandle>,
) -> io::Result<()> {
    let (for_ready, for_debug) = (app.clone(), app.clone());
    let parts = OperationsParts {
        metrics,
        alive: None,
        ready: Arc::new(move || for_ready.ready()),
        debug: Arc::new(move || debug(&for_debug)),
        loaded: Some(app.settings.security.clone()),
    };
    serve_operations(address, parts, app.shutdown.clone()).await?;
    Ok(())
}

fn debug(app: &App) -> serde_json::Value {
    serde_json::json!({
        "dispatcher": app.dispatcher.standing(),
        "queue_healthy": app.dispatcher.queue_healthy(),
        "cache_healthy": app.cache.healthy(),
        "state_age_millis": app.cluster.freshness().as_millis() as u64,
        "settlements_under_way": app.settlements.under_way(),
        "transfer_bytes_free": app.transfer_bytes_free(),
        "budget_bytes_free": app.budget.free(),
    })
}

/// Keeps the gauges of the cluster, as the groups' leaders last told.
pub fn start_gauges(app: &Arc<App>) {
    let watched = app.clone();
    let work = async move {
        let clock = watched.env.clock.clone();
        while !watched.shutdown.has_begun() {
            show(&watched);
            clock.sleep(GAUGE_INTERVAL).await;
        }
    };
    app.env.tasks.spawn("gateway-gauges", Box::pin(work));
}

fn show(app: &App) {
    for limit in app.limits() {
        metrics::gauge!("holdfast_limit", "of" => limit.of).set(limit.most as f64);
        metrics::gauge!("holdfast_limit_used", "of" => limit.of).set(limit.used as f64);
    }
    let views = app.cluster.leaders();
    let led = || views.values().filter(|view| view.leader.is_some());
    let sum = |field: Count| led().map(|view| field(&view.totals)).sum::<u64>() as f64;
    metrics::gauge!("holdfast_objects").set(sum(|t| t.objects));
    metrics::gauge!("holdfast_chunks_degraded").set(sum(|t| t.degraded));
    metrics::gauge!("holdfast_chunks_lost").set(sum(|t| t.lost));
    metrics::gauge!("holdfast_groups_without_leader").set((views.len() - led().count()) as f64);
    let tasks: [(&str, Count); 4] = [
        ("pending", |t| t.tasks_pending),
        ("running", |t| t.tasks_running),
        ("failed", |t| t.tasks_failed),
        ("done", |t| t.tasks_done),
    ];
    for (state, field) in tasks {
        metrics::gauge!("holdfast_tasks", "state" => state).set(sum(field));
    }
    // Seconds; the longest time there is, before the first confirmation, is shown as it is.
    metrics::gauge!("holdfast_state_age_seconds").set(app.cluster.freshness().as_secs_f64());
}

//! Logs, metrics and the end by panic.

use std::fmt;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            other => Err(format!("{other:?} is no log format: use human or json")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

/// Starts logging to standard error, at `HOLDFAST_LOG`'s levels (or `RUST_LOG`'s; info by default).
/// A panic anywhere ends the process: a store that goes on with a part missing
/// loses data later.
pub fn start_logging(format: LogFormat, default_filter: &str) {
    let filter = EnvFilter::try_from_env("HOLDFAST_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new(default_filter));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Fails only when a test has installed a subscriber already.
    let _ = match format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Installs the process's metrics and returns what renders them for Prometheus.
///
/// # Errors
/// When they are installed already.
pub fn install_metrics() -> Result<PrometheusHandle, String> {
    // Seconds, from a request served from memory to one that waited for repair.
    const SECONDS: &[f64] = &[
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ];
    PrometheusBuilder::new()
        .set_buckets(SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| error.to_string())
}

//! What the operator can be told.

use std::net::SocketAddr;

use clap::Parser;
use holdfast_runtime::telemetry::LogFormat;

/// Runs the Holdfast operator: turns StorageCluster resources into running clusters.
#[derive(Parser, Clone, Debug)]
#[command(name = "holdfast-operator")]
pub struct OperatorSettings {
    /// Namespaces to look after, separated by commas; all of them unless given.
    #[arg(long, env = "HOLDFAST_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// The namespace of the operator itself, where its Lease is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// What this replica is called in the Lease.
    #[arg(long, env = "POD_NAME", default_value = "holdfast-operator")]
    pub name: String,
    /// The release that a resource without a tag gets when it is first seen.
    #[arg(long, env = "HOLDFAST_DEFAULT_TAG", default_value = env!("CARGO_PKG_VERSION"))]
    pub default_tag: String,
    /// Where to serve /metrics, /healthz, /readyz and /debug.
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9090")]
    pub metrics_addr: SocketAddr,
    /// How to write logs: human or json.
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", default_value_t)]
    pub log_format: LogFormat,
}

impl OperatorSettings {
    /// The namespaces to look after; `None` is all of them.
    pub fn namespaces(&self) -> Vec<Option<String>> {
        let named: Vec<_> = self
            .watch_namespaces
            .iter()
            .map(|name| name.trim())
            .filter(|name| !name.is_empty())
            .map(|name| Some(name.to_owned()))
            .collect();
        if named.is_empty() { vec![None] } else { named }
    }
}

//! What a node can be told: flags, and environment variables of the same meaning.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use holdfast_runtime::Address;
use holdfast_runtime::settings::{parse_node_address, parse_size};
use holdfast_runtime::telemetry::LogFormat;

/// Runs a Holdfast storage node: keeps fragments of objects on a disk, and
/// takes part in the cluster's metadata groups.
#[derive(Parser, Clone, Debug)]
#[command(name = "holdfast-node", version)]
pub struct NodeSettings {
    /// Where to listen for gateways, workers and other nodes.
    #[arg(long, env = "HOLDFAST_LISTEN", default_value = "0.0.0.0:8000")]
    pub listen: SocketAddr,
    /// The data directory. One node alone may use it.
    #[arg(long, env = "HOLDFAST_DATA", default_value = "/data")]
    pub data: PathBuf,
    /// Where others call this node, as host:port. [default: the host's name, and the port it listens on]
    #[arg(long, env = "HOLDFAST_ADVERTISE", value_parser = parse_node_address)]
    pub advertise: Option<Address>,
    /// Found a cluster of these first members (host:port, this node among
    /// them), unless they belong to one. Set it on exactly one node.
    #[arg(long, env = "HOLDFAST_BOOTSTRAP", value_delimiter = ',', value_parser = parse_node_address)]
    pub bootstrap: Vec<Address>,
    /// Nodes of the cluster to join (host:port).
    #[arg(long, env = "HOLDFAST_JOIN", value_delimiter = ',', value_parser = parse_node_address)]
    pub join: Vec<Address>,
    /// The failure domain this node is in. Without one, and without being a
    /// first member, it takes no data until it is placed.
    #[arg(long, env = "HOLDFAST_ZONE")]
    pub zone: Option<String>,
    /// The machine this node runs on. [default: its zone]
    #[arg(long, env = "HOLDFAST_HOST")]
    pub host: Option<String>,
    /// A directory that the services of a cluster share their secrets in; the
    /// first process to start makes them.
    #[arg(long, env = "HOLDFAST_SECRETS_DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Where to serve /metrics, /healthz, /readyz and /debug.
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9090")]
    pub metrics_addr: SocketAddr,
    /// How to write logs: human or json.
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", default_value_t)]
    pub log_format: LogFormat,
    /// Room of the disk that only metadata, deletes and compaction may use:
    /// bytes, or with K, M, G or T. [default: the larger of 1 GiB and 2 %, at
    /// most an eighth]
    #[arg(long, env = "HOLDFAST_DISK_RESERVE", value_parser = parse_size)]
    pub disk_reserve: Option<u64>,
    /// A segment of the disk engine, a multiple of 4096: bytes, or with K, M
    /// or G.
    #[arg(long, env = "HOLDFAST_SEGMENT_BYTES", default_value = "256M", value_parser = parse_size)]
    pub segment_bytes: u64,
    /// How long a silent node's fragments are waited for before they are made
    /// again elsewhere.
    #[arg(long, env = "HOLDFAST_DOWN_GRACE", default_value = "10m", value_parser = parse_grace)]
    pub down_grace: std::time::Duration,
    /// How often each group counts its fragments on the disks.
    #[arg(long, env = "HOLDFAST_CENSUS_INTERVAL", default_value = "60s", value_parser = parse_grace)]
    pub census_interval: std::time::Duration,
}

/// The longest time that can be set here.
const MAX_TIME: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

fn parse_grace(text: &str) -> Result<std::time::Duration, String> {
    holdfast_model::duration::parse_duration(text, MAX_TIME).map_err(|error| error.to_string())
}

impl NodeSettings {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn check(&self) -> Result<(), String> {
        if !self.bootstrap.is_empty() && !self.join.is_empty() {
            return Err("HOLDFAST_BOOTSTRAP and HOLDFAST_JOIN are both set: a node founds a cluster or joins one, unset one of them".into());
        }
        if let Some(own) = &self.advertise
            && !self.bootstrap.is_empty()
            && !self.bootstrap.contains(own)
        {
            return Err(format!(
                "HOLDFAST_BOOTSTRAP does not name this node, {own}: list every first member, this one too"
            ));
        }
        Ok(())
    }

    /// Where others call this node.
    pub fn address(&self) -> Address {
        self.advertise.clone().unwrap_or_else(|| {
            let name = rustix::system::uname();
            let host = name.nodename().to_string_lossy().into_owned();
            Address(format!("{host}:{}", self.listen.port()))
        })
    }
}

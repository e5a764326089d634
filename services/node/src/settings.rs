//! What a node can be told: flags, and environment variables of the same meaning.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use holdfast_controller::MIN_BYTES_PER_SECOND;
use holdfast_model::ObjectTimes;
use holdfast_runtime::Address;
use holdfast_runtime::settings::{parse_node_address, parse_size};
use holdfast_runtime::telemetry::LogFormat;

use crate::limits::{DEFAULT_TRANSFERS, MIN_MEMORY_BYTES};

/// Runs a Holdfast storage node: keeps fragments of objects on a disk, and
/// takes part in the cluster's metadata groups.
#[derive(Parser, Clone, Debug)]
#[command(name = "holdfast-node")]
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
    /// A directory with tls.crt, tls.key and ca.crt: this node is then called
    /// over HTTPS alone, and calls the others so.
    #[arg(long, env = "HOLDFAST_TLS_DIR")]
    pub tls_dir: Option<PathBuf>,
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
    /// Bytes a second that compaction may move: bytes, or with K, M or G.
    #[arg(long, env = "HOLDFAST_COMPACTION_RATE", default_value = "16M", value_parser = parse_rate)]
    pub compaction_rate: u64,
    /// Bytes a second that repair and drain may copy from this node's
    /// controller at most: bytes, or with K, M or G. While clients wait it is
    /// less; what is down to its last copy goes at 64M at least.
    #[arg(long, env = "HOLDFAST_REPAIR_RATE", default_value = "1G", value_parser = parse_rate)]
    pub repair_rate: u64,
    /// Uploads and downloads of fragments at a time; further ones are told to
    /// come again. A quarter of the process's connections at most.
    #[arg(long, env = "HOLDFAST_MAX_TRANSFERS", default_value_t = DEFAULT_TRANSFERS, value_parser = parse_transfers)]
    pub max_transfers: usize,
    /// Memory for fragments that come and go: bytes, or with K, M or G.
    #[arg(long, env = "HOLDFAST_MEMORY_BUDGET", default_value = "256M", value_parser = parse_memory)]
    pub memory_budget: u64,
    /// How long a silent node's fragments are waited for before they are made
    /// again elsewhere.
    #[arg(long, env = "HOLDFAST_DOWN_GRACE", default_value = "10m", value_parser = parse_grace)]
    pub down_grace: std::time::Duration,
    /// How often each group counts its fragments on the disks.
    #[arg(long, env = "HOLDFAST_CENSUS_INTERVAL", default_value = "60s", value_parser = parse_grace)]
    pub census_interval: std::time::Duration,
    /// Within how long it goes through all of them one by one, although their
    /// digests agree.
    #[arg(long, env = "HOLDFAST_CENSUS_WALK_INTERVAL", default_value = "1h", value_parser = parse_grace)]
    pub census_walk_interval: std::time::Duration,
    /// For the cluster that this node founds: how long the data of an expired
    /// file is kept, so that a jump of the clock can be undone. At most 30d.
    #[arg(long, env = "HOLDFAST_EXPIRY_GRACE", default_value = "1h", value_parser = parse_grace)]
    pub expiry_grace: std::time::Duration,
    /// Likewise: how long a download may pause before its ticket ends. At most
    /// the next one.
    #[arg(long, env = "HOLDFAST_TICKET_IDLE", default_value = "1h", value_parser = parse_grace)]
    pub ticket_idle: std::time::Duration,
    /// Likewise: how long a download may take before its ticket ends. At most
    /// 7d.
    #[arg(long, env = "HOLDFAST_TICKET_MAX", default_value = "24h", value_parser = parse_grace)]
    pub ticket_max: std::time::Duration,
}

/// The longest time that can be set here.
const MAX_TIME: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

/// A rate so low that a fragment took for ever would stop everything behind it.
fn parse_rate(text: &str) -> Result<u64, String> {
    let rate = parse_size(text)?;
    if rate < MIN_BYTES_PER_SECOND {
        return Err(format!("at least {MIN_BYTES_PER_SECOND} bytes a second"));
    }
    Ok(rate)
}

fn parse_transfers(text: &str) -> Result<usize, String> {
    let transfers = text.parse().map_err(|_| "not a number".to_owned())?;
    if transfers == 0 {
        return Err("at least 1".into());
    }
    Ok(transfers)
}

/// Less would let nothing through.
fn parse_memory(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes < MIN_MEMORY_BYTES {
        return Err(format!("at least {MIN_MEMORY_BYTES} bytes"));
    }
    Ok(bytes)
}

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
        self.times().check().map_err(|error| {
            format!("HOLDFAST_EXPIRY_GRACE, HOLDFAST_TICKET_IDLE or HOLDFAST_TICKET_MAX: {error}")
        })
    }

    /// The times of the cluster that this node founds.
    pub fn times(&self) -> ObjectTimes {
        let millis =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        ObjectTimes {
            expiry_grace: millis(self.expiry_grace),
            ticket_idle: millis(self.ticket_idle),
            ticket_max: millis(self.ticket_max),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> NodeSettings {
        NodeSettings::parse_from(std::iter::once(&"holdfast-node").chain(arguments))
    }

    #[test]
    fn limits_that_would_let_nothing_through_are_refused() {
        let usual = settings(&[]);
        let defaults = crate::LimitSettings::default();
        assert_eq!(usual.memory_budget, defaults.memory_bytes);
        assert_eq!(usual.max_transfers, defaults.transfers);
        assert_eq!(usual.repair_rate, 1 << 30);
        for bad in [
            ["--memory-budget", "1M"],
            ["--max-transfers", "0"],
            ["--repair-rate", "1K"],
        ] {
            let arguments = ["holdfast-node", bad[0], bad[1]];
            let error = NodeSettings::try_parse_from(arguments).unwrap_err();
            assert!(error.to_string().contains("at least"), "{error}");
        }
    }

    #[test]
    fn times_that_contradict_each_other_are_refused_with_a_sentence() {
        assert_eq!(settings(&[]).times(), ObjectTimes::default());
        assert_eq!(settings(&[]).check(), Ok(()));
        let crossed = settings(&["--ticket-idle", "2h", "--ticket-max", "1h"]).check();
        assert!(crossed.unwrap_err().contains("longer than"));
        let long = settings(&["--ticket-max", "8d"]).check();
        assert!(long.unwrap_err().contains("between 1s and 7d"));
    }
}

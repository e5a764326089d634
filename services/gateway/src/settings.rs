//! Settings of a gateway: parsed, resolved and validated once, at the edge.
//! Flags and environment alike; what contradicts itself stops the program with
//! a sentence that says what to change.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use holdfast_runtime::host::tls::{Places, Security};
use holdfast_runtime::settings::{ConnectArgs, duration_setting, size_setting};
pub use holdfast_runtime::settings::{FoundSecrets, SettingsError};
use holdfast_runtime::telemetry::LogFormat;
use holdfast_runtime::{Address, ServerUrl};

use crate::client_address::AddressRange;

/// The largest file unless set: 5 GiB.
pub const DEFAULT_MAX_FILE_BYTES: u64 = 5 << 30;
/// The largest that can be set: 5 TiB, as S3 has it.
const MAX_MAX_FILE_BYTES: u64 = 5 << 40;
/// Memory for transfers unless set.
pub const DEFAULT_MEMORY_BUDGET: u64 = 192 << 20;
/// With less a single upload does not fit.
const MIN_MEMORY_BUDGET: u64 = 8 << 20;
/// Downloads of a file unless its uploader says otherwise.
pub const DEFAULT_DOWNLOAD_LIMIT: u32 = 3;
/// The longest expiry unless set.
const DEFAULT_MAX_EXPIRY: Duration = Duration::from_secs(365 * 86_400);
/// The longest that can be set: a hundred years.
const MAX_MAX_EXPIRY: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How long the cluster's state is believed without being confirmed.
const DEFAULT_STALE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Requests a second of one key, unless set.
const DEFAULT_KEY_RATE: u32 = 2_000;
/// Requests a second of one address, unless set: an office behind one address is no attack.
const DEFAULT_ADDRESS_RATE: u32 = 2_000;
/// Requests served at once, unless set: more only wait for each other, since
/// even at a few thousand requests a second these wait less than a second.
pub const DEFAULT_MAX_REQUESTS: u32 = 1_024;
/// With fewer a browser's connections already get in each other's way.
const MIN_MAX_REQUESTS: u32 = 8;
/// What a running gateway knows of its settings.
#[derive(Clone)]
pub struct GatewaySettings {
    /// Where the HTTP API listens.
    pub listen: SocketAddr,
    /// Where `/metrics` and `/debug` listen; none where another part of the
    /// process shows them.
    pub operations: Option<SocketAddr>,
    /// The cluster's credential, from which comes what the gateways alone can
    /// derive, and the certificates where there are some.
    pub security: Security,
    /// The largest file, in bytes.
    pub max_file_bytes: u64,
    /// The longest expiry.
    pub max_expiry: Duration,
    /// The expiry of files that name none.
    pub default_expiry: Option<Duration>,
    /// Memory for transfers, in bytes.
    pub memory_budget: u64,
    /// Requests served at once.
    pub max_requests: u32,
    /// Requests a second of one access key; 0 is without limit.
    pub key_rate: u32,
    /// Requests a second of one address; 0 is without limit.
    pub address_rate: u32,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// How clients reach this API, without a slash at the end; without it the
    /// request's Host is used.
    pub public_url: Option<String>,
    /// How long the cluster's state is believed without being confirmed.
    pub stale_limit: Duration,
}

impl GatewaySettings {
    /// The defaults, with the cluster's credential.
    pub fn new(listen: SocketAddr, security: Security) -> Self {
        Self {
            listen,
            operations: None,
            security,
            max_file_bytes: DEFAULT_MAX_FILE_BYTES,
            max_expiry: DEFAULT_MAX_EXPIRY,
            default_expiry: None,
            memory_budget: DEFAULT_MEMORY_BUDGET,
            max_requests: DEFAULT_MAX_REQUESTS,
            key_rate: DEFAULT_KEY_RATE,
            address_rate: DEFAULT_ADDRESS_RATE,
            trusted_proxies: Vec::new(),
            public_url: None,
            stale_limit: DEFAULT_STALE_LIMIT,
        }
    }
}

/// The gateway of Holdfast: the HTTP API of files.
#[derive(Parser, Clone, Debug)]
#[command(name = "holdfast-gateway")]
pub struct Args {
    /// Where the HTTP API listens.
    #[arg(long, env = "HOLDFAST_LISTEN", default_value = "0.0.0.0:5000")]
    pub listen: SocketAddr,
    /// Where metrics and health are shown; not for the public.
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9090")]
    pub metrics_addr: SocketAddr,
    /// The storage nodes and the secrets.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// A directory with tls.crt and tls.key, which clients are shown: the HTTP
    /// API is then served over HTTPS alone.
    #[arg(long, env = "HOLDFAST_PUBLIC_TLS_DIR")]
    pub public_tls_dir: Option<PathBuf>,
    /// The largest file: bytes, or with K, M, G or T (powers of 1,024).
    #[arg(long, env = "HOLDFAST_MAX_FILE_SIZE", default_value = "5G")]
    pub max_file_size: String,
    /// The longest expiry of a file.
    #[arg(long, env = "HOLDFAST_MAX_EXPIRY", default_value = "365d")]
    pub max_expiry: String,
    /// The expiry of files that name none; without it they stay.
    #[arg(long, env = "HOLDFAST_DEFAULT_EXPIRY")]
    pub default_expiry: Option<String>,
    /// Memory for transfers: bytes, or with K, M or G.
    #[arg(long, env = "HOLDFAST_MEMORY_BUDGET", default_value = "192M")]
    pub memory_budget: String,
    /// Requests served at once; further ones are told to come again.
    #[arg(long, env = "HOLDFAST_MAX_REQUESTS", default_value_t = DEFAULT_MAX_REQUESTS)]
    pub max_requests: u32,
    /// Requests a second of one access key; 0 is without limit.
    #[arg(long, env = "HOLDFAST_KEY_RATE", default_value_t = DEFAULT_KEY_RATE)]
    pub key_rate: u32,
    /// Requests a second of one address; 0 is without limit.
    #[arg(long, env = "HOLDFAST_ADDRESS_RATE", default_value_t = DEFAULT_ADDRESS_RATE)]
    pub address_rate: u32,
    /// Proxies whose X-Forwarded-For is believed: 10.0.0.0/8,fd00::/8.
    #[arg(long, env = "HOLDFAST_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<AddressRange>,
    /// How clients reach this API: https://files.example.org.
    #[arg(long, env = "HOLDFAST_PUBLIC_URL")]
    pub public_url: Option<String>,
    /// How long the cluster's state is believed without being confirmed.
    #[arg(long, env = "HOLDFAST_STALE_LIMIT", default_value = "15m")]
    pub stale_limit: String,
    /// How logs are written: human or json.
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
}

/// What the binary connects to.
#[derive(Clone)]
pub struct Connections {
    /// Storage nodes to ask first.
    pub nodes: Vec<Address>,
    /// RabbitMQ.
    pub rabbitmq: ServerUrl,
    /// Redis.
    pub redis: ServerUrl,
}

impl AsRef<ConnectArgs> for Args {
    fn as_ref(&self) -> &ConnectArgs {
        &self.connect
    }
}

impl Args {
    /// Resolves everything, or says what to change.
    ///
    /// # Errors
    /// When a setting is missing, unreadable or contradicts another.
    pub fn resolve(
        &self,
        secrets: FoundSecrets,
    ) -> Result<(GatewaySettings, Connections), SettingsError> {
        let security = Security::open(
            secrets.credential()?,
            Places {
                tls_dir: self.connect.tls_dir.as_deref(),
                public_tls_dir: self.public_tls_dir.as_deref(),
                is_called: false,
            },
        )?;
        let connections = Connections {
            nodes: self.connect.node_addresses()?,
            rabbitmq: secrets.rabbitmq()?,
            redis: secrets.redis()?,
        };
        let security = security
            .with_server("rabbitmq", &connections.rabbitmq)
            .with_server("redis", &connections.redis);
        Ok((self.gateway_settings(security)?, connections))
    }

    fn gateway_settings(&self, security: Security) -> Result<GatewaySettings, SettingsError> {
        let refuse = |message: String| Err(SettingsError(message));
        let max_file_bytes = size_setting("HOLDFAST_MAX_FILE_SIZE", &self.max_file_size)?;
        if max_file_bytes == 0 || max_file_bytes > MAX_MAX_FILE_BYTES {
            return refuse("HOLDFAST_MAX_FILE_SIZE must lie between 1 byte and 5T".into());
        }
        let memory_budget = size_setting("HOLDFAST_MEMORY_BUDGET", &self.memory_budget)?;
        if memory_budget < MIN_MEMORY_BUDGET {
            return refuse("HOLDFAST_MEMORY_BUDGET must be at least 8M".into());
        }
        if self.max_requests < MIN_MAX_REQUESTS {
            return refuse(format!(
                "HOLDFAST_MAX_REQUESTS must be at least {MIN_MAX_REQUESTS}"
            ));
        }
        let max_expiry = duration_setting("HOLDFAST_MAX_EXPIRY", &self.max_expiry, MAX_MAX_EXPIRY)?;
        let default_expiry = match &self.default_expiry {
            Some(text) => Some(
                duration_setting("HOLDFAST_DEFAULT_EXPIRY", text, max_expiry).map_err(|error| {
                    SettingsError(format!("{error} (HOLDFAST_MAX_EXPIRY is the maximum)"))
                })?,
            ),
            None => None,
        };
        if self.listen == self.metrics_addr && self.listen.port() != 0 {
            return refuse(
                "HOLDFAST_LISTEN and HOLDFAST_METRICS_ADDR are the same: metrics are not for the public, give them another port".into(),
            );
        }
        let public_url = match self
            .public_url
            .as_deref()
            .map(|url| url.trim_end_matches('/'))
        {
            Some(url) if !(url.starts_with("http://") || url.starts_with("https://")) => {
                return refuse("HOLDFAST_PUBLIC_URL must begin with http:// or https://".into());
            }
            other => other.map(str::to_owned),
        };
        Ok(GatewaySettings {
            listen: self.listen,
            operations: Some(self.metrics_addr),
            security,
            max_file_bytes,
            max_expiry,
            default_expiry,
            memory_budget,
            max_requests: self.max_requests,
            key_rate: self.key_rate,
            address_rate: self.address_rate,
            trusted_proxies: self.trusted_proxies.clone(),
            public_url,
            stale_limit: duration_setting(
                "HOLDFAST_STALE_LIMIT",
                &self.stale_limit,
                MAX_MAX_EXPIRY,
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &[&str] = &["gateway"];

    fn secrets() -> FoundSecrets {
        FoundSecrets {
            cluster: Some("0123456789abcdef".into()),
            rabbitmq_url: Some("amqp://holdfast@mq:5672".into()),
            redis_url: Some("redis://cache:6379".into()),
            secrets_dir: None,
            shared: None,
            followed: None,
        }
    }

    fn resolve(more: &[&str]) -> Result<(GatewaySettings, Connections), String> {
        Args::try_parse_from(BASE.iter().chain(more))
            .unwrap()
            .resolve(secrets())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_original_names_of_nodes_work() {
        let (_, found) = resolve(&[
            "--node1-url",
            "http://storage-node1:8000",
            "--node2-url",
            "storage-node2:8000/",
        ])
        .unwrap();
        let nodes: Vec<String> = found.nodes.iter().map(|node| node.0.clone()).collect();
        assert_eq!(nodes, ["storage-node1:8000", "storage-node2:8000"]);
    }

    #[test]
    fn contradictions_say_what_to_change() {
        let refused = |more: &[&str]| match resolve(more) {
            Ok(_) => panic!("{more:?} was taken"),
            Err(message) => message,
        };
        assert!(refused(&[]).contains("HOLDFAST_NODES"));
        assert!(refused(&["--nodes", "a:1", "--node1-url", "http://b:1"]).contains("set one"));
        assert!(refused(&["--nodes", "nonsense"]).contains("host:port"));
        assert!(refused(&["--nodes", "a:1", "--max-file-size", "5X"]).contains("MAX_FILE_SIZE"));
        assert!(
            refused(&[
                "--nodes",
                "a:1",
                "--max-expiry",
                "1d",
                "--default-expiry",
                "2d"
            ])
            .contains("at most 1d")
        );
        assert!(
            refused(&["--nodes", "a:1", "--metrics-addr", "0.0.0.0:5000"]).contains("another port")
        );
        assert!(refused(&["--nodes", "a:1", "--public-url", "files"]).contains("http://"));
    }
}

//! Settings of a worker: parsed, resolved and validated once, at the edge.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use holdfast_cache::RedisCache;
use holdfast_queue::RabbitQueue;
use holdfast_runtime::Address;
use holdfast_runtime::secrets::{Secrets, read_secret};
use holdfast_runtime::telemetry::LogFormat;

/// Tasks at once unless set.
pub const DEFAULT_PARALLELISM: u16 = 2;
/// The most that can be set: each task holds up to 100 MiB.
pub const MAX_PARALLELISM: u16 = 32;
/// How long another process may take to make the secrets.
const SECRETS_WAIT: Duration = Duration::from_secs(60);
/// Shorter cluster secrets can be guessed.
const MIN_SECRET_BYTES: usize = 16;

/// What a running worker knows of its settings.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// How it is named in the tasks it claims.
    pub name: String,
    /// Tasks at once, 1 to [`MAX_PARALLELISM`].
    pub parallelism: u16,
    /// Where `/metrics` and `/debug` listen; none where another part of the
    /// process shows them.
    pub operations: Option<SocketAddr>,
}

impl WorkerSettings {
    /// The defaults.
    pub fn new(name: String) -> Self {
        Self {
            name,
            parallelism: DEFAULT_PARALLELISM,
            operations: None,
        }
    }
}

/// The worker of Holdfast: thumbnails, compression, deletion.
#[derive(Parser, Clone, Debug)]
#[command(name = "holdfast-worker", version)]
pub struct Args {
    /// Where metrics and health are shown; not for the public.
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9090")]
    pub metrics_addr: SocketAddr,
    /// Storage nodes, as host:port separated by commas.
    #[arg(long, env = "HOLDFAST_NODES", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// The first storage node, as http://host:port.
    #[arg(long, env = "NODE1_URL")]
    pub node1_url: Option<String>,
    /// The second storage node.
    #[arg(long, env = "NODE2_URL")]
    pub node2_url: Option<String>,
    /// The third storage node.
    #[arg(long, env = "NODE3_URL")]
    pub node3_url: Option<String>,
    /// A directory with the secrets that the services of a cluster share.
    #[arg(long, env = "HOLDFAST_SECRETS_DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Tasks at once.
    #[arg(long, env = "HOLDFAST_PARALLELISM", default_value_t = DEFAULT_PARALLELISM)]
    pub parallelism: u16,
    /// How this worker is named in tasks and logs.
    #[arg(long, env = "HOSTNAME", default_value = "worker")]
    pub name: String,
    /// How logs are written: human or json.
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
}

/// What the binary connects to.
#[derive(Clone)]
pub struct Connections {
    /// Storage nodes to ask first.
    pub nodes: Vec<Address>,
    /// The cluster's credential.
    pub cluster_secret: String,
    /// RabbitMQ.
    pub rabbitmq_url: String,
    /// Redis.
    pub redis_url: String,
}

/// A setting that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

/// Secrets as they were found, wherever they came from.
#[derive(Clone, Default)]
pub struct FoundSecrets {
    /// `HOLDFAST_CLUSTER_SECRET`.
    pub cluster: Option<String>,
    /// `RABBITMQ_URL`.
    pub rabbitmq_url: Option<String>,
    /// `REDIS_URL`.
    pub redis_url: Option<String>,
    /// What the secrets directory holds.
    pub shared: Option<Secrets>,
}

impl FoundSecrets {
    /// Reads the environment, secret files and the secrets directory, for
    /// which it waits.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub async fn read(args: &Args) -> Result<Self, SettingsError> {
        let secret = |name: &str| {
            read_secret(name).map_err(|error| SettingsError(format!("{name}: {error}")))
        };
        let shared = match &args.secrets_dir {
            Some(dir) => Some(Secrets::wait(dir, SECRETS_WAIT).await.map_err(|error| {
                SettingsError(format!("HOLDFAST_SECRETS_DIR {}: {error}", dir.display()))
            })?),
            None => None,
        };
        Ok(Self {
            cluster: secret("HOLDFAST_CLUSTER_SECRET")?,
            rabbitmq_url: secret("RABBITMQ_URL")?,
            redis_url: secret("REDIS_URL")?,
            shared,
        })
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
    ) -> Result<(WorkerSettings, Connections), SettingsError> {
        let shared = secrets.shared.as_ref();
        let cluster_secret = cluster_secret(secrets.cluster, shared)?;
        if self.parallelism == 0 || self.parallelism > MAX_PARALLELISM {
            return Err(SettingsError(format!(
                "HOLDFAST_PARALLELISM is {}: it must lie between 1 and {MAX_PARALLELISM}",
                self.parallelism
            )));
        }
        let needed = |url: Option<String>, name: &str, example: &str| {
            url.ok_or_else(|| SettingsError(format!("{name} is missing: set it to {example}")))
        };
        let rabbitmq_url = needed(
            secrets.rabbitmq_url,
            "RABBITMQ_URL",
            "amqp://user@host:5672/%2f",
        )?;
        let redis_url = needed(secrets.redis_url, "REDIS_URL", "redis://host:6379")?;
        let rabbitmq_password = shared.map(|all| all.rabbitmq_password.as_str());
        let redis_password = shared.map(|all| all.redis_password.as_str());
        let connections = Connections {
            nodes: self.node_addresses()?,
            cluster_secret,
            rabbitmq_url: with_password(&rabbitmq_url, "holdfast", rabbitmq_password),
            redis_url: with_password(&redis_url, "", redis_password),
        };
        RabbitQueue::check_url(&connections.rabbitmq_url)
            .map_err(|error| SettingsError(format!("RABBITMQ_URL: {error}")))?;
        RedisCache::check_url(&connections.redis_url)
            .map_err(|error| SettingsError(format!("REDIS_URL: {error}")))?;
        let settings = WorkerSettings {
            name: self.name.clone(),
            parallelism: self.parallelism,
            operations: Some(self.metrics_addr),
        };
        Ok((settings, connections))
    }

    fn node_addresses(&self) -> Result<Vec<Address>, SettingsError> {
        let given = |text: &&String| !text.trim().is_empty();
        let listed: Vec<_> = self.nodes.iter().filter(given).collect();
        let named = [&self.node1_url, &self.node2_url, &self.node3_url];
        let named: Vec<_> = named.into_iter().flatten().filter(given).collect();
        let all = match (listed.is_empty(), named.is_empty()) {
            (true, true) => {
                return Err(SettingsError(
                    "no storage node is named: set HOLDFAST_NODES, or NODE1_URL, NODE2_URL and NODE3_URL".into(),
                ));
            }
            (false, false) => {
                return Err(SettingsError(
                    "HOLDFAST_NODES and NODE1_URL.. both name the storage nodes: set one of them"
                        .into(),
                ));
            }
            (true, false) => named,
            (false, true) => listed,
        };
        all.into_iter().map(|text| node_address(text)).collect()
    }
}

fn cluster_secret(
    given: Option<String>,
    shared: Option<&Secrets>,
) -> Result<String, SettingsError> {
    let secret = match (given, shared) {
        (Some(_), Some(_)) => {
            return Err(SettingsError(
                "HOLDFAST_CLUSTER_SECRET and HOLDFAST_SECRETS_DIR both name the cluster's secret: set one of them".into(),
            ));
        }
        (Some(secret), None) => secret,
        (None, Some(shared)) => shared.cluster.clone(),
        (None, None) => {
            return Err(SettingsError(
                "the cluster's secret is missing: set HOLDFAST_CLUSTER_SECRET, HOLDFAST_CLUSTER_SECRET_FILE or HOLDFAST_SECRETS_DIR, the same as on the storage nodes".into(),
            ));
        }
    };
    if secret.len() < MIN_SECRET_BYTES {
        return Err(SettingsError(
            "HOLDFAST_CLUSTER_SECRET is too short: use at least 16 characters".into(),
        ));
    }
    Ok(secret)
}

/// `host:port` of `http://host:port/` or of itself.
fn node_address(text: &str) -> Result<Address, SettingsError> {
    let trimmed = text.trim();
    let bare = trimmed
        .strip_prefix("http://")
        .unwrap_or(trimmed)
        .trim_end_matches('/');
    let good = bare.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    });
    if !good {
        return Err(SettingsError(format!(
            "{text:?} is no storage node: write host:port or http://host:port"
        )));
    }
    Ok(Address(bare.into()))
}

/// Puts the shared password into a URL that has none.
fn with_password(url: &str, user: &str, password: Option<&str>) -> String {
    let (Some(password), Some((scheme, rest))) = (password, url.split_once("://")) else {
        return url.into();
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((who, _)) if who.contains(':') => url.into(),
        Some((who, host)) => {
            let path = rest.get(authority.len()..).unwrap_or_default();
            format!("{scheme}://{who}:{password}@{host}{path}")
        }
        None => format!("{scheme}://{user}:{password}@{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(extra: &[&str]) -> Args {
        let all = ["holdfast-worker", "--nodes", "a:1,http://b:2/"];
        Args::try_parse_from(all.iter().chain(extra)).unwrap()
    }

    fn secrets() -> FoundSecrets {
        FoundSecrets {
            cluster: Some("0123456789abcdef".into()),
            rabbitmq_url: Some("amqp://holdfast:x@broker".into()),
            redis_url: Some("redis://cache:6379".into()),
            shared: None,
        }
    }

    #[test]
    fn good_settings_are_resolved() {
        let (settings, connections) = args(&["--parallelism", "5"]).resolve(secrets()).unwrap();
        assert_eq!(settings.parallelism, 5);
        let nodes: Vec<_> = connections
            .nodes
            .iter()
            .map(|node| node.0.as_str())
            .collect();
        assert_eq!(nodes, ["a:1", "b:2"]);
    }

    #[test]
    fn bad_settings_say_what_to_change() {
        let refused = |args: Args, secrets: FoundSecrets| match args.resolve(secrets) {
            Ok(_) => panic!("it was taken"),
            Err(error) => error.0,
        };
        for parallelism in ["0", "33"] {
            let message = refused(args(&["--parallelism", parallelism]), secrets());
            assert!(message.contains("HOLDFAST_PARALLELISM"), "{message}");
        }
        let both = refused(args(&["--node1-url", "http://c:3"]), secrets());
        assert!(both.contains("HOLDFAST_NODES"), "{both}");
        let mut missing = secrets();
        missing.rabbitmq_url = None;
        assert!(refused(args(&[]), missing).contains("RABBITMQ_URL"));
        let mut short = secrets();
        short.cluster = Some("short".into());
        assert!(refused(args(&[]), short).contains("HOLDFAST_CLUSTER_SECRET"));
        let mut wrong = secrets();
        wrong.redis_url = Some("http://:secret@cache".into());
        let message = refused(args(&[]), wrong);
        assert!(
            message.contains("REDIS_URL") && !message.contains("secret"),
            "{message}"
        );
    }

    #[test]
    fn a_shared_password_goes_where_none_is() {
        let with = |url| with_password(url, "holdfast", Some("pw"));
        assert_eq!(with("amqp://h:1/%2f"), "amqp://holdfast:pw@h:1/%2f");
        assert_eq!(with("amqp://me@h:1/%2f"), "amqp://me:pw@h:1/%2f");
        assert_eq!(with("amqp://me:own@h:1/%2f"), "amqp://me:own@h:1/%2f");
        assert_eq!(with_password("redis://h", "", Some("pw")), "redis://:pw@h");
        assert_eq!(with_password("redis://h", "", None), "redis://h");
    }
}

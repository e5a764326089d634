//! Settings of a worker: parsed, resolved and validated once, at the edge.

use std::net::SocketAddr;

use clap::Parser;
use holdfast_cache::RedisCache;
use holdfast_queue::RabbitQueue;
use holdfast_runtime::host::tls::{Places, Security};
use holdfast_runtime::settings::ConnectArgs;
pub use holdfast_runtime::settings::{FoundSecrets, SettingsError};
use holdfast_runtime::telemetry::LogFormat;
use holdfast_runtime::{Address, ServerUrl};

/// Tasks at once unless set.
pub const DEFAULT_PARALLELISM: u16 = 2;
/// The most that can be set: each task holds up to 100 MiB.
pub const MAX_PARALLELISM: u16 = 32;
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
    /// The cluster's credential, and the certificates where there are some;
    /// none where another part of the process has them.
    pub security: Option<Security>,
}

impl WorkerSettings {
    /// The defaults.
    pub fn new(name: String) -> Self {
        Self {
            name,
            parallelism: DEFAULT_PARALLELISM,
            operations: None,
            security: None,
        }
    }
}

/// The worker of Holdfast: thumbnails, compression, deletion.
#[derive(Parser, Clone, Debug)]
#[command(name = "holdfast-worker")]
pub struct Args {
    /// Where metrics and health are shown; not for the public.
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9090")]
    pub metrics_addr: SocketAddr,
    /// The storage nodes and the secrets.
    #[command(flatten)]
    pub connect: ConnectArgs,
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
    /// The cluster's credential, and the certificates where there are some.
    pub security: Security,
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
    ) -> Result<(WorkerSettings, Connections), SettingsError> {
        if self.parallelism == 0 || self.parallelism > MAX_PARALLELISM {
            return Err(SettingsError(format!(
                "HOLDFAST_PARALLELISM is {}: it must lie between 1 and {MAX_PARALLELISM}",
                self.parallelism
            )));
        }
        let security = Security::open(
            secrets.credential()?,
            Places {
                tls_dir: self.connect.tls_dir.as_deref(),
                ..Places::default()
            },
        )?;
        let (rabbitmq, redis) = (secrets.rabbitmq()?, secrets.redis()?);
        let security = security
            .with_server("rabbitmq", &rabbitmq)
            .with_server("redis", &redis);
        let connections = Connections {
            nodes: self.connect.node_addresses()?,
            security: security.clone(),
            rabbitmq,
            redis,
        };
        RabbitQueue::check_url(&connections.rabbitmq.now())
            .map_err(|error| SettingsError(format!("RABBITMQ_URL: {error}")))?;
        RedisCache::check_url(&connections.redis.now())
            .map_err(|error| SettingsError(format!("REDIS_URL: {error}")))?;
        let settings = WorkerSettings {
            name: self.name.clone(),
            parallelism: self.parallelism,
            operations: Some(self.metrics_addr),
            security: Some(security),
        };
        Ok((settings, connections))
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
            secrets_dir: None,
            shared: None,
            followed: None,
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
}

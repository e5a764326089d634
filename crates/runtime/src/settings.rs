//! What the settings of several programs have in common: how addresses, sizes
//! and durations are written, how a gateway or a worker finds the storage
//! nodes, and where secrets come from.
//!
//! Promises: what is missing, unreadable or contradicts itself is told in one
//! sentence that says what to change; no sentence holds a secret.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use holdfast_model::Supported;
use holdfast_model::duration::parse_duration;

use crate::secrets::{
    RABBITMQ_PASSWORD, RABBITMQ_USER_FILE, REDIS_PASSWORD, SECRETS_SUBDIRECTORY, Secrets,
    read_secret,
};
use crate::server_url::{LoginFiles, ServerUrl, has_password};
use crate::{Address, Credential};

/// How long another process may take to make the secrets.
const SECRETS_WAIT: Duration = Duration::from_secs(60);
/// Shorter cluster secrets can be guessed.
const MIN_CLUSTER_SECRET_BYTES: usize = 16;
/// The user of RabbitMQ that the shared password is of.
const RABBITMQ_USER: &str = "holdfast";

/// A setting that cannot be used; the sentence says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

fn refuse<T>(sentence: impl Into<String>) -> Result<T, SettingsError> {
    Err(SettingsError(sentence.into()))
}

/// Reads what this process was told. It ends it, as clap does, when that cannot
/// be, and after `--version`, which says what the program supports.
pub fn parse_arguments<A: Parser>(supports: Supported) -> A {
    let command = A::command().version(supports.version());
    A::from_arg_matches_mut(&mut command.get_matches())
        .unwrap_or_else(|error| error.format(&mut A::command()).exit())
}

/// How a gateway or a worker reaches the rest of its cluster.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ConnectArgs {
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
    /// A directory with tls.crt, tls.key and ca.crt: storage nodes are called
    /// over HTTPS, and only those are believed whom ca.crt vouches for.
    #[arg(long, env = "HOLDFAST_TLS_DIR")]
    pub tls_dir: Option<PathBuf>,
}

impl ConnectArgs {
    /// The storage nodes to ask first, named in one of the two ways.
    ///
    /// # Errors
    /// When none is named, or both ways are used, or one is no address.
    pub fn node_addresses(&self) -> Result<Vec<Address>, SettingsError> {
        let given = |text: &&String| !text.trim().is_empty();
        let listed: Vec<_> = self.nodes.iter().filter(given).collect();
        let named = [&self.node1_url, &self.node2_url, &self.node3_url];
        let named: Vec<_> = named.into_iter().flatten().filter(given).collect();
        let all = match (listed.is_empty(), named.is_empty()) {
            (true, true) => {
                return refuse(
                    "no storage node is named: set HOLDFAST_NODES, or NODE1_URL, NODE2_URL and NODE3_URL",
                );
            }
            (false, false) => {
                return refuse(
                    "HOLDFAST_NODES and NODE1_URL.. both name the storage nodes: set one of them",
                );
            }
            (true, false) => named,
            (false, true) => listed,
        };
        if self.tls_dir.is_none() && all.iter().any(|text| text.trim().starts_with("https://")) {
            return refuse(
                "a storage node is named with https://, which needs HOLDFAST_TLS_DIR: set it to the directory with ca.crt",
            );
        }
        all.into_iter()
            .map(|text| parse_node_address(text).map_err(SettingsError))
            .collect()
    }
}

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
    /// Where that directory is.
    pub secrets_dir: Option<PathBuf>,
    /// The cluster's secret again, as it is followed while the process runs.
    pub followed: Option<Credential>,
}

impl FoundSecrets {
    /// Reads the environment, secret files and the secrets directory, for
    /// which it waits.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub async fn read(args: &impl AsRef<ConnectArgs>) -> Result<Self, SettingsError> {
        let secret = |name: &str| {
            read_secret(name).map_err(|error| SettingsError(format!("{name}: {error}")))
        };
        let shared = match &args.as_ref().secrets_dir {
            Some(dir) => Some(Secrets::wait(dir, SECRETS_WAIT).await.map_err(|error| {
                SettingsError(format!("HOLDFAST_SECRETS_DIR {}: {error}", dir.display()))
            })?),
            None => None,
        };
        let cluster = secret("HOLDFAST_CLUSTER_SECRET")?;
        let named = cluster.is_some() || shared.is_some();
        let dir = args.as_ref().secrets_dir.as_deref();
        Ok(Self {
            followed: named.then(|| Credential::find(dir)).transpose()?,
            cluster,
            rabbitmq_url: secret("RABBITMQ_URL")?,
            redis_url: secret("REDIS_URL")?,
            secrets_dir: args.as_ref().secrets_dir.clone(),
            shared,
        })
    }

    /// The cluster's credential, from the one place that names it.
    ///
    /// # Errors
    /// When no place does, or two do, or it is too short.
    pub fn cluster_secret(&self) -> Result<String, SettingsError> {
        match (&self.cluster, &self.shared) {
            (Some(_), Some(_)) => refuse(
                "HOLDFAST_CLUSTER_SECRET and HOLDFAST_SECRETS_DIR both name the cluster's secret: set one of them",
            ),
            (Some(secret), None) => checked_cluster_secret(secret.clone()),
            (None, Some(shared)) => checked_cluster_secret(shared.cluster.clone()),
            (None, None) => refuse(
                "the cluster's secret is missing: set HOLDFAST_CLUSTER_SECRET, HOLDFAST_CLUSTER_SECRET_FILE or HOLDFAST_SECRETS_DIR, the same as on the storage nodes",
            ),
        }
    }

    /// The same, as it is followed.
    ///
    /// # Errors
    /// As [`FoundSecrets::cluster_secret`].
    pub fn credential(&self) -> Result<Credential, SettingsError> {
        let secret = self.cluster_secret()?;
        let fixed = || Credential::fixed(&secret);
        Ok(self.followed.clone().unwrap_or_else(fixed))
    }

    /// RabbitMQ's address, with the shared password where it has none.
    ///
    /// # Errors
    /// When it is missing, or the shared password cannot be read.
    pub fn rabbitmq(&self) -> Result<ServerUrl, SettingsError> {
        let Some(url) = &self.rabbitmq_url else {
            return refuse(
                "RABBITMQ_URL is missing: set it to amqp://user@host:5672/%2f, or amqps://",
            );
        };
        self.server("rabbitmq", url, RABBITMQ_PASSWORD, |place| LoginFiles {
            user: RABBITMQ_USER,
            user_file: Some(place.join(RABBITMQ_USER_FILE)),
            password_file: place.join(RABBITMQ_PASSWORD),
        })
    }

    /// Redis's address, with the shared password where it has none.
    ///
    /// # Errors
    /// When it is missing, or the shared password cannot be read.
    pub fn redis(&self) -> Result<ServerUrl, SettingsError> {
        let Some(url) = &self.redis_url else {
            return refuse("REDIS_URL is missing: set it to redis://host:6379, or rediss://");
        };
        self.server("redis", url, REDIS_PASSWORD, |place| LoginFiles {
            user: "",
            user_file: None,
            password_file: place.join(REDIS_PASSWORD),
        })
    }

    fn server(
        &self,
        what: &'static str,
        url: &str,
        file: &str,
        files: impl Fn(&Path) -> LoginFiles,
    ) -> Result<ServerUrl, SettingsError> {
        match &self.secrets_dir {
            Some(dir) if !has_password(url) => {
                let place = dir.join(SECRETS_SUBDIRECTORY);
                ServerUrl::follow(what, url, files(&place)).map_err(|error| {
                    SettingsError(format!("{}: {error}", place.join(file).display()))
                })
            }
            _ => Ok(ServerUrl::fixed(url)),
        }
    }
}

/// Checks a cluster's credential that somebody chose.
///
/// # Errors
/// When it is too short.
pub fn checked_cluster_secret(secret: String) -> Result<String, SettingsError> {
    if secret.len() < MIN_CLUSTER_SECRET_BYTES {
        return refuse(format!(
            "HOLDFAST_CLUSTER_SECRET is too short: use at least {MIN_CLUSTER_SECRET_BYTES} characters"
        ));
    }
    Ok(secret)
}

/// Reads a storage node's address: `host:port`, with or without `http://` or
/// `https://` before it and slashes behind it. Which of the two is spoken is
/// not decided here, but by whether there are certificates.
///
/// # Errors
/// A sentence that says how to write it.
pub fn parse_node_address(text: &str) -> Result<Address, String> {
    let trimmed = text.trim();
    let bare = trimmed
        .strip_prefix("http://")
        .or_else(|| trimmed.strip_prefix("https://"))
        .unwrap_or(trimmed)
        .trim_end_matches('/');
    let is_host = |host: &str| {
        let plain = |c: char| !c.is_whitespace() && !"/@?#:[]".contains(c);
        let numeric = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        match numeric {
            Some(numeric) => numeric.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(plain),
        }
    };
    let good = bare
        .rsplit_once(':')
        .is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|p| p != 0));
    if !good {
        return Err(format!(
            "{text:?} is no storage node: write host:port or http://host:port"
        ));
    }
    Ok(Address(bare.to_owned()))
}

/// Reads a number of bytes: a number, or one with K, M, G or T behind it
/// (powers of 1,024).
///
/// # Errors
/// A sentence that says how to write it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match trimmed.get(digits.len()..).unwrap_or_default() {
        "" | "B" => Some(0),
        "K" | "Ki" | "KiB" => Some(10),
        "M" | "Mi" | "MiB" => Some(20),
        "G" | "Gi" | "GiB" => Some(30),
        "T" | "Ti" | "TiB" => Some(40),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    number
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("{text:?} is no size: write bytes, or a number with K, M, G or T"))
}

/// The size in the setting `name`.
///
/// # Errors
/// A sentence that names the setting.
pub fn size_setting(name: &str, text: &str) -> Result<u64, SettingsError> {
    parse_size(text).map_err(|error| SettingsError(format!("{name}: {error}")))
}

/// The duration in the setting `name`, at most `max`.
///
/// # Errors
/// A sentence that names the setting.
pub fn duration_setting(name: &str, text: &str, max: Duration) -> Result<Duration, SettingsError> {
    parse_duration(text, max).map_err(|error| SettingsError(format!("{name}: {error}")))
}

#[cfg(test)]
mod tests;

//! A RabbitMQ and a Redis that a test may stop, wipe and bring back, started as
//! `cargo xtask test` starts its own: all files in a temporary directory.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::ports::free_port;
use super::program::Program;
use crate::wait::until;

/// Erlang takes some seconds, and minutes where twenty others want two cores.
const START_LIMIT: Duration = Duration::from_secs(300);
/// Debian's own script would change to another user, who owns no file of ours.
const RABBITMQ_PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const REDIS_PROGRAM: &str = "/usr/bin/redis-server";

fn installed(program: &str, package: &str) -> Result<()> {
    if !Path::new(program).exists() {
        bail!("{program} is missing: install Debian's {package} (`cargo xtask test` does)");
    }
    Ok(())
}

async fn listening(program: &mut Program, port: u16) -> Result<()> {
    until("its port", START_LIMIT, async || {
        if let Some(status) = program.ended()? {
            bail!("it ended with {status}");
        }
        TcpStream::connect(("127.0.0.1", port)).map(drop)?;
        Ok(())
    })
    .await
    .with_context(|| program.last_lines())
}

/// Where a server's certificate, its key and its authority are.
#[derive(Clone)]
pub struct Shown(pub PathBuf);

impl Shown {
    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

/// A Redis that keeps nothing on disk.
pub struct Redis {
    port: u16,
    shown: Option<Shown>,
    running: Option<(Program, TempDir)>,
}

impl Redis {
    /// Starts one, which speaks TLS alone where it has something to show.
    pub async fn start(shown: Option<Shown>) -> Result<Self> {
        installed(REDIS_PROGRAM, "redis-server")?;
        let mut redis = Self {
            port: free_port()?,
            shown,
            running: None,
        };
        redis.start_again().await?;
        Ok(redis)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        let scheme = self.shown.as_ref().map_or("redis", |_| "rediss");
        format!("{scheme}://127.0.0.1:{}/", self.port)
    }

    /// Kills it; all that it held is gone.
    pub fn wipe(&mut self) {
        self.running = None;
    }

    /// It stands still, with its connections open.
    pub fn pause(&self) {
        self.running.iter().for_each(|(program, _)| program.pause());
    }

    /// It goes on.
    pub fn resume(&self) {
        self.running
            .iter()
            .for_each(|(program, _)| program.resume());
    }

    /// Brings it back, empty, at the same place.
    pub async fn start_again(&mut self) -> Result<()> {
        let files = tempfile::tempdir()?;
        let mut command = Command::new(REDIS_PROGRAM);
        command
            .args(["--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(files.path());
        match &self.shown {
            None => command.args(["--port", &self.port.to_string()]),
            Some(shown) => command
                .args(["--port", "0", "--tls-port", &self.port.to_string()])
                .args(["--tls-auth-clients", "no"])
                .args(["--tls-cert-file", &shown.file("tls.crt")])
                .args(["--tls-key-file", &shown.file("tls.key")])
                .args(["--tls-ca-cert-file", &shown.file("ca.crt")]),
        };
        let mut program = Program::start("redis", &mut command, &files.path().join("output"))?;
        listening(&mut program, self.port).await?;
        self.running = Some((program, files));
        Ok(())
    }
}

/// A RabbitMQ.
pub struct RabbitMq {
    port: u16,
    shown: Option<Shown>,
    distribution: u16,
    /// The port mapper that Erlang starts beside it, on a port of its own.
    mapper: u16,
    running: Option<(Program, TempDir)>,
}

impl RabbitMq {
    /// Starts one, which speaks TLS alone where it has something to show.
    pub async fn start(shown: Option<Shown>) -> Result<Self> {
        installed(RABBITMQ_PROGRAM, "rabbitmq-server")?;
        let mut rabbitmq = Self {
            port: free_port()?,
            shown,
            distribution: free_port()?,
            mapper: free_port()?,
            running: None,
        };
        rabbitmq.start_again().await?;
        Ok(rabbitmq)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        let scheme = self.shown.as_ref().map_or("amqp", |_| "amqps");
        format!("{scheme}://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Kills it and deletes its files: queues, messages, users.
    pub fn wipe(&mut self) {
        self.running = None;
        self.end_mapper();
    }

    /// It stands still, with its connections open.
    pub fn pause(&self) {
        self.running.iter().for_each(|(program, _)| program.pause());
    }

    /// It goes on.
    pub fn resume(&self) {
        self.running
            .iter()
            .for_each(|(program, _)| program.resume());
    }

    /// Brings it back, empty, at the same place.
    pub async fn start_again(&mut self) -> Result<()> {
        let files = tempfile::tempdir()?;
        let at = |name: &str| files.path().join(name);
        let port = self.port;
        fs::write(at("plugins"), "[].\n")?;
        let listeners = match &self.shown {
            None => format!("listeners.tcp.1 = 127.0.0.1:{port}\n"),
            Some(shown) => format!(
                "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\n\
                 ssl_options.certfile = {}\nssl_options.keyfile = {}\n\
                 ssl_options.cacertfile = {}\nssl_options.verify = verify_none\n",
                shown.file("tls.crt"),
                shown.file("tls.key"),
                shown.file("ca.crt"),
            ),
        };
        let rest = "loopback_users = none\ndisk_free_limit.absolute = 50MB\n";
        fs::write(at("rabbitmq.conf"), listeners + rest)?;
        let mut command = Command::new(RABBITMQ_PROGRAM);
        command
            .env("HOME", files.path())
            .env("RABBITMQ_NODENAME", format!("holdfast-{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("ERL_EPMD_PORT", self.mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_MNESIA_BASE", at("data"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", at("generated"))
            .env("RABBITMQ_FEATURE_FLAGS_FILE", at("feature_flags"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none");
        if self.shown.is_none() {
            command.env("RABBITMQ_NODE_PORT", port.to_string());
        }
        let mut program = Program::start("rabbitmq", &mut command, &at("output"))?;
        listening(&mut program, port).await?;
        self.running = Some((program, files));
        Ok(())
    }

    fn end_mapper(&self) {
        let _ = Command::new("epmd")
            .args(["-port", &self.mapper.to_string(), "-kill"])
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.wipe();
    }
}

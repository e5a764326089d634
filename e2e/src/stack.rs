//! One stack under docker compose: its own project, free ports, gone at the end.

use std::net::TcpListener;
use std::ops::Deref;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::gateway::Gateway;

/// Erlang, Raft's first elections and eight containers on a busy machine.
const START_SECONDS: &str = "240";
/// How long the gateway may take to serve after it says that it is healthy.
pub const SETTLE: Duration = Duration::from_secs(30);
/// Lines of each service's log that are shown when a case fails.
const LOG_LINES: &str = "25";

/// The running stack; gone when it is dropped.
pub struct Stack {
    compose: Compose,
    keep: bool,
}

/// What can be done with it, also from another thread.
#[derive(Clone)]
pub struct Compose {
    environment: Vec<(&'static str, String)>,
}

impl Deref for Stack {
    type Target = Compose;

    fn deref(&self) -> &Compose {
        &self.compose
    }
}

impl Stack {
    /// Starts the eight services and waits until they are healthy.
    pub async fn start(keep: bool) -> Result<Self> {
        let ports = free_ports()?;
        let [gateway, _, node1, node2, node3] = ports;
        let compose = Compose {
            environment: vec![
                (
                    "COMPOSE_PROJECT_NAME",
                    format!("holdfast-e2e-{}", std::process::id()),
                ),
                // Room for a second gateway.
                ("HOLDFAST_PORT", format!("{gateway}-{}", gateway + 1)),
                ("HOLDFAST_NODE1_PORT", node1.to_string()),
                ("HOLDFAST_NODE2_PORT", node2.to_string()),
                ("HOLDFAST_NODE3_PORT", node3.to_string()),
            ],
        };
        let stack = Self { compose, keep };
        if let Err(error) = stack.up() {
            stack.print_logs();
            return Err(error);
        }
        Ok(stack)
    }

    /// Does `work` on a thread of its own, beside what the caller does.
    pub async fn beside(
        &self,
        work: impl FnOnce(&Compose) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let compose = self.compose.clone();
        tokio::task::spawn_blocking(move || work(&compose)).await?
    }
}

impl Compose {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("compose")
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env_remove("HOLDFAST_ADMIN_TOKEN")
            .stdin(Stdio::null());
        command
    }

    /// Runs `docker compose` and returns what it prints.
    pub fn compose(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .command(arguments)
            .output()
            .context("cannot run docker compose")?;
        if !output.status.success() {
            bail!(
                "docker compose {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Brings up whatever is down, at the usual numbers, and waits for its health.
    pub fn up(&self) -> Result<()> {
        self.scaled(&[])
    }

    /// The same, with other numbers: `worker=5`.
    pub fn scaled(&self, scales: &[&str]) -> Result<()> {
        let mut arguments = vec!["up", "--detach", "--no-build", "--wait"];
        arguments.extend(["--wait-timeout", START_SECONDS]);
        for scale in scales {
            arguments.extend(["--scale", scale]);
        }
        self.compose(&arguments).map(drop)
    }

    /// Kills services without warning.
    pub fn kill(&self, services: &[&str]) -> Result<()> {
        self.compose(&[&["kill", "--signal", "KILL"], services].concat())
            .map(drop)
    }

    /// Starts services that were killed.
    pub fn start_again(&self, services: &[&str]) -> Result<()> {
        self.compose(&[&["start"], services].concat()).map(drop)
    }

    /// The gateway with that number, from 1 on.
    pub fn gateway(&self, number: u32) -> Result<Gateway> {
        let index = number.to_string();
        let published = self.compose(&["port", "--index", &index, "gateway", "5000"])?;
        let port = published.rsplit(':').next().unwrap_or_default();
        Gateway::new(format!("http://127.0.0.1:{port}"), self.key()?)
    }

    /// The admin key, as the README says to get it.
    pub fn key(&self) -> Result<String> {
        let key = self.compose(&["exec", "-T", "gateway", "holdfast", "key"])?;
        ensure!(key.len() >= 16, "no key: {key:?}");
        Ok(key)
    }

    /// Where a node's port is published.
    pub fn node_url(&self, service: &str) -> Result<String> {
        let published = self.compose(&["port", service, "8000"])?;
        let port = published.rsplit(':').next().unwrap_or_default();
        Ok(format!("http://127.0.0.1:{port}"))
    }

    /// Runs a script as a person would in the repository, against this stack.
    pub fn shell(&self, script: &str) -> Result<String> {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("no_proxy", "*")
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The ends of all logs.
    pub fn print_logs(&self) {
        let shown = [
            &["ps", "--all"][..],
            &["logs", "--no-color", "--tail", LOG_LINES],
        ];
        for arguments in shown {
            match self.command(arguments).output() {
                Ok(output) => eprintln!("{}", String::from_utf8_lossy(&output.stdout)),
                Err(error) => eprintln!("no logs: {error}"),
            }
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.keep {
            for (name, value) in &self.environment {
                println!("export {name}={value}");
            }
            return;
        }
        if let Err(error) = self.compose(&["down", "--volumes", "--timeout", "1"]) {
            eprintln!("{error:#}");
        }
    }
}

/// A gateway's port whose neighbour is free too, and three for the nodes.
fn free_ports() -> Result<[u16; 5]> {
    /// Two neighbours are soon found.
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        let first = TcpListener::bind(("0.0.0.0", 0))?;
        let port = first.local_addr()?.port();
        let Some(next) = port.checked_add(1) else {
            continue;
        };
        let Ok(_second) = TcpListener::bind(("0.0.0.0", next)) else {
            continue;
        };
        let others = [(); 3].map(|()| TcpListener::bind(("0.0.0.0", 0)));
        let mut ports = [port, next, 0, 0, 0];
        for (place, listener) in ports.iter_mut().skip(2).zip(&others) {
            *place = match listener {
                Ok(listener) => listener.local_addr()?.port(),
                Err(error) => bail!("no free port: {error}"),
            };
        }
        return Ok(ports);
    }
    bail!("no two neighbouring ports are free")
}

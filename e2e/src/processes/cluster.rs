//! A cluster of processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use holdfast_runtime::host::tls::Trust;
use tempfile::TempDir;

use super::ports::free_port;
use super::program::{Program, binary, next_release};
use super::secured::Secured;
use super::servers::{RabbitMq, Redis, Shown};
use super::shape::Shape;
use crate::gateway::Gateway;
use crate::http::{client, client_of};
use crate::wait::until;

/// The cluster's credential.
pub const SECRET: &str = "a-credential-of-tests-alone";
/// The admin key.
pub const TOKEN: &str = "an-admin-key-of-tests-alone";

/// Elections and first connections, with several clusters on two cores.
pub const START_LIMIT: Duration = Duration::from_secs(120);

/// A process of the cluster, running or not.
pub struct Member {
    /// Its name in errors.
    pub name: String,
    /// Where it listens.
    pub port: u16,
    /// Its data directory, where it is a node.
    pub data: PathBuf,
    /// While it runs.
    pub program: Option<Program>,
    binary: PathBuf,
    /// Whom a client of it believes, where it is encrypted.
    trust: Option<Trust>,
    environment: Vec<(String, String)>,
    output: PathBuf,
}

impl Member {
    /// How it is started; without what the environment of the test would add.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .env("HOLDFAST_LOG", "info")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it, and does not wait.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.program.is_none(), "{} runs already", self.name);
        let program = Program::start(&self.name, &mut self.command(), &self.output)?;
        self.program = Some(program);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// SIGTERM, and waits for an orderly end.
    pub async fn stop(&mut self, limit: Duration) -> Result<()> {
        let mut program = self.program.take().context("it does not run")?;
        program.terminate();
        let status = program.wait(limit).await?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }

    /// Makes its next start one of the program that is a release ahead, or of the
    /// usual one.
    pub fn take_release(&mut self, ahead: bool) -> Result<()> {
        let name = self.binary.file_name().and_then(|name| name.to_str());
        let name = name.context("a program without a name")?;
        self.binary = match ahead {
            true => next_release(name)?,
            false => binary(name)?,
        };
        Ok(())
    }

    /// Its address.
    pub fn url(&self) -> String {
        let scheme = self.trust.as_ref().map_or("http", |_| "https");
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Waits until a GET of `path` succeeds.
    pub async fn answers(&mut self, path: &str) -> Result<()> {
        self.get(format!("{}{path}", self.url())).await
    }

    /// Waits until it says on its port of operations that it can do its work,
    /// and, of a node, that all its groups have leaders.
    pub async fn ready(&mut self) -> Result<()> {
        let url = format!("http://{}/readyz", self.operations()?);
        self.get(url).await?;
        let what = format!("{} knows its leaders", self.name);
        until(&what, START_LIMIT, async || {
            let debug: serde_json::Value = serde_json::from_str(&self.says("/debug").await?)?;
            let waiting = debug["groups_without_leader"].as_array();
            ensure!(waiting.is_none_or(Vec::is_empty), "not of {waiting:?}");
            Ok(())
        })
        .await
    }

    /// Whether it says that it is alive: status and body.
    pub async fn health(&self) -> Result<(u16, String)> {
        let url = format!("http://{}/healthz", self.operations()?);
        let answer = client()?.build()?.get(url).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// What its port of operations says of itself, as one of its paths.
    pub async fn says(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.operations()?);
        let client = client()?.build()?;
        let answer = client.get(url).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    /// One of its metrics, with its labels as they are written; 0 where it has
    /// not been counted yet.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let all = self.says("/metrics").await?;
        let value = all.lines().find_map(|line| line.strip_prefix(name));
        value.map_or(Ok(0.0), |text| Ok(text.trim().parse()?))
    }

    /// The program, which must run.
    pub fn running(&self) -> Result<&Program> {
        self.program
            .as_ref()
            .with_context(|| format!("{} does not run", self.name))
    }

    fn operations(&self) -> Result<&str> {
        let named = |(name, _): &&(String, String)| name == "HOLDFAST_METRICS_ADDR";
        let found = self.environment.iter().find(named);
        Ok(&found.context("no address")?.1)
    }

    async fn get(&mut self, url: String) -> Result<()> {
        let client = match &self.trust {
            Some(trust) => client_of(trust)?.build()?,
            None => client()?.build()?,
        };
        let what = format!("{} answers {url}", self.name);
        until(&what, START_LIMIT, async || {
            if let Some(program) = &mut self.program
                && let Some(status) = program.ended()?
            {
                bail!("it ended with {status}");
            }
            let response = client.get(&url).send().await?;
            let status = response.status();
            ensure!(status.is_success(), "{status}: {}", response.text().await?);
            Ok(())
        })
        .await
    }
}

/// The processes; they end when it is dropped.
pub struct Cluster {
    /// Storage nodes.
    pub nodes: Vec<Member>,
    /// Gateways.
    pub gateways: Vec<Member>,
    /// Workers.
    pub workers: Vec<Member>,
    /// Redis.
    pub redis: Redis,
    /// RabbitMQ.
    pub rabbitmq: Option<RabbitMq>,
    files: TempDir,
}

impl Cluster {
    /// Starts all of it, and waits until every gateway serves.
    pub async fn start(shape: Shape) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let shown = |(secured, _): &(Arc<Secured>, Trust)| Shown(secured.place("carriers"));
        let shown = shape.secured.as_ref().map(shown);
        let redis = Redis::start(shown.clone()).await?;
        let rabbitmq = match shape.queue {
            true => Some(RabbitMq::start(shown).await?),
            false => None,
        };
        let queue_url = match &rabbitmq {
            Some(rabbitmq) => rabbitmq.url(),
            None => format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port()?),
        };
        let nodes = nodes(&shape, files.path())?;
        let addresses: Vec<_> = nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        let mut shared = vec![
            ("HOLDFAST_NODES", addresses.join(",")),
            ("RABBITMQ_URL", queue_url),
            ("REDIS_URL", redis.url()),
        ];
        shared.extend(shape.credential());
        let public = shape.secured.as_ref().map(|(secured, _)| {
            let place = secured.place("public").display().to_string();
            ("HOLDFAST_PUBLIC_TLS_DIR", place)
        });
        let trust = shape.secured.as_ref().map(|(_, trust)| trust.clone());
        let mut gateway_settings = shape.gateway_settings.clone();
        gateway_settings.extend(public);
        let others = |name: &str, count| {
            (1..=count)
                .map(|number| member(name, number, &shared, trust.clone(), files.path()))
                .collect::<Result<Vec<_>>>()
        };
        let mut cluster = Self {
            nodes,
            gateways: with_settings(others("gateway", shape.gateways)?, &gateway_settings),
            workers: others("worker", shape.workers)?,
            redis,
            rabbitmq,
            files,
        };
        cluster.up().await?;
        Ok(cluster)
    }

    /// Starts what does not run, and waits until every gateway serves.
    pub async fn up(&mut self) -> Result<()> {
        for member in self.members() {
            if member.program.is_none() {
                member.start()?;
            }
        }
        for at in 0..self.gateways.len() {
            if let Err(error) = self.serves(at).await {
                return Err(self.explain(error));
            }
        }
        Ok(())
    }

    async fn serves(&mut self, at: usize) -> Result<()> {
        self.gateways[at].answers("/readyz").await?;
        let gateway = self.gateway(at)?;
        until("a first upload", START_LIMIT, async || {
            gateway.upload("first.txt", b"first".to_vec(), 0).await
        })
        .await?;
        Ok(())
    }

    /// A client of the gateway numbered `at`.
    pub fn gateway(&self, at: usize) -> Result<Gateway> {
        let (url, key) = (self.gateways[at].url(), TOKEN.into());
        match &self.gateways[at].trust {
            Some(trust) => Gateway::trusting(url, key, trust),
            None => Gateway::new(url, key),
        }
    }

    /// Kills nodes, all at once.
    pub fn kill_nodes(&mut self, which: &[usize]) {
        for at in which {
            self.nodes[*at].kill();
        }
    }

    /// Starts a node; when it answered that it is there.
    pub async fn start_node(&mut self, at: usize) -> Result<Instant> {
        self.nodes[at].start()?;
        self.nodes[at].answers("/health").await?;
        Ok(Instant::now())
    }

    /// Leaves the logs where they are, for whoever looks for a cause.
    pub fn keep_files(&mut self) -> PathBuf {
        self.files.disable_cleanup(true);
        self.files.path().to_owned()
    }

    /// Everything that is ours.
    pub fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        self.nodes
            .iter_mut()
            .chain(&mut self.gateways)
            .chain(&mut self.workers)
    }

    /// Adds to an error what the processes have said last.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let all = self.nodes.iter().chain(&self.gateways).chain(&self.workers);
        let said: String = all
            .filter_map(|member| member.program.as_ref())
            .map(Program::last_lines)
            .collect();
        anyhow::anyhow!("{error:#}\n{said}")
    }
}

fn nodes(shape: &Shape, files: &Path) -> Result<Vec<Member>> {
    let ports = (0..shape.nodes)
        .map(|_| free_port())
        .collect::<Result<Vec<_>>>()?;
    let all: Vec<_> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let mut nodes = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let number = at + 1;
        let data = match shape.data.get(at) {
            Some(data) => data.clone(),
            None => files.join(format!("data{number}")),
        };
        fs::create_dir_all(&data)?;
        let mut environment = vec![
            ("HOLDFAST_LISTEN", all[at].clone()),
            ("HOLDFAST_ADVERTISE", all[at].clone()),
            ("HOLDFAST_DATA", data.display().to_string()),
            ("HOLDFAST_ZONE", format!("zone-{number}")),
            ("HOLDFAST_ADMIN_TOKEN", TOKEN.into()),
            (
                "HOLDFAST_METRICS_ADDR",
                format!("127.0.0.1:{}", free_port()?),
            ),
            // The default is sparse here, and on a small file system too large.
            ("HOLDFAST_SEGMENT_BYTES", (16 << 20).to_string()),
        ];
        if at == 0 {
            environment.push(("HOLDFAST_BOOTSTRAP", all.join(",")));
        }
        environment.extend(shape.credential());
        environment.extend(shape.node_settings.iter().cloned());
        nodes.push(Member {
            name: format!("node{number}"),
            port: *port,
            data,
            program: None,
            binary: binary("holdfast-node")?,
            trust: shape.secured.as_ref().map(|(_, trust)| trust.clone()),
            environment: owned(&environment),
            output: files.join(format!("node{number}.log")),
        });
    }
    Ok(nodes)
}

fn member(
    kind: &str,
    number: usize,
    shared: &[(&'static str, String)],
    trust: Option<Trust>,
    files: &Path,
) -> Result<Member> {
    let port = free_port()?;
    let name = format!("{kind}{number}");
    let mut environment = shared.to_vec();
    let metrics = format!("127.0.0.1:{}", free_port()?);
    environment.push(("HOLDFAST_METRICS_ADDR", metrics));
    environment.push(match kind {
        "gateway" => ("HOLDFAST_LISTEN", format!("127.0.0.1:{port}")),
        _ => ("HOSTNAME", name.clone()),
    });
    Ok(Member {
        port,
        data: files.into(),
        program: None,
        binary: binary(&format!("holdfast-{kind}"))?,
        trust,
        environment: owned(&environment),
        output: files.join(format!("{name}.log")),
        name,
    })
}

fn owned(environment: &[(&str, String)]) -> Vec<(String, String)> {
    environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

fn with_settings(mut members: Vec<Member>, settings: &[(&'static str, String)]) -> Vec<Member> {
    for member in &mut members {
        let more = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        member.environment.extend(more);
    }
    members
}

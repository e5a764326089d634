//! A RabbitMQ and a Redis of the tests' own: on free ports of the loopback
//! address, with all their files in a temporary directory.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Names RabbitMQ's URL to the tests.
pub const RABBITMQ_VARIABLE: &str = "HOLDFAST_TEST_RABBITMQ_URL";
/// Names Redis's URL to the tests.
pub const REDIS_VARIABLE: &str = "HOLDFAST_TEST_REDIS_URL";

/// Erlang and RabbitMQ's plugins take some seconds, and more on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(90);
/// RabbitMQ closes its files when it is told to end.
const END_LIMIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Debian's own script would change to another user, who owns no file of ours.
const RABBITMQ_PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Both servers; they end when it is dropped.
pub struct Servers {
    rabbitmq: Server,
    redis: Server,
}

struct Server {
    url: String,
    _running: Option<Running>,
}

struct Running {
    child: Child,
    /// The port mapper that Erlang starts beside it, on a port of its own.
    mapper_port: Option<u16>,
    files: tempfile::TempDir,
}

impl Servers {
    /// Starts what the environment does not name already.
    pub fn start() -> Result<Self> {
        let rabbitmq = std::env::var(RABBITMQ_VARIABLE).ok();
        let redis = std::env::var(REDIS_VARIABLE).ok();
        let mut missing = Vec::new();
        if rabbitmq.is_none() && !Path::new(RABBITMQ_PROGRAM).exists() {
            missing.push("rabbitmq-server");
        }
        if redis.is_none() && !runs("redis-server") {
            missing.push("redis-server");
        }
        install(&missing)?;
        Ok(Self {
            redis: redis.map_or_else(start_redis, named)?,
            rabbitmq: rabbitmq.map_or_else(start_rabbitmq, named)?,
        })
    }

    /// Where RabbitMQ is.
    pub fn rabbitmq_url(&self) -> &str {
        &self.rabbitmq.url
    }

    /// Where Redis is.
    pub fn redis_url(&self) -> &str {
        &self.redis.url
    }
}

fn named(url: String) -> Result<Server> {
    Ok(Server {
        url,
        _running: None,
    })
}

fn runs(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Installs Debian's packages without starting what is in them.
fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let instead = format!(
        "install {} yourself, or name running servers in {RABBITMQ_VARIABLE} and {REDIS_VARIABLE}",
        packages.join(" and ")
    );
    if !runs("apt-get") {
        bail!("there is no apt-get here: {instead}");
    }
    let policy =
        NoStart::set().with_context(|| format!("cannot install as this user: {instead}"))?;
    eprintln!("installing {}", packages.join(" "));
    let apt = |arguments: &[&str]| {
        crate::execute(
            Command::new("apt-get")
                .arg("-qq")
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(Stdio::null())
                .stdout(Stdio::null()),
        )
    };
    apt(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments).context(instead)?;
    drop(policy);
    Ok(())
}

/// Debian asks this script whether a package may start its service.
struct NoStart {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoStart {
    fn set() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let ours = !Path::new(POLICY).exists();
        if ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoStart {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

fn start_redis() -> Result<Server> {
    let files = tempfile::tempdir()?;
    let [port] = free_ports()?;
    let port_text = port.to_string();
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &port_text])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(files.path());
    let running = Running::start(command, files, None)?;
    running.await_port(port, "Redis").map(|running| Server {
        url: format!("redis://127.0.0.1:{port}/"),
        _running: Some(running),
    })
}

fn start_rabbitmq() -> Result<Server> {
    let files = tempfile::tempdir()?;
    let [port, distribution, mapper] = free_ports()?;
    let at = |name: &str| files.path().join(name);
    fs::write(at("plugins"), "[].\n")?;
    fs::write(
        at("rabbitmq.conf"),
        format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\ndisk_free_limit.absolute = 50MB\n"
        ),
    )?;
    let mut command = Command::new(RABBITMQ_PROGRAM);
    command
        .env("HOME", files.path())
        .env("RABBITMQ_NODENAME", format!("holdfast-{port}@localhost"))
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
        .env("RABBITMQ_MNESIA_BASE", at("data"))
        .env("RABBITMQ_LOG_BASE", at("log"))
        .env("RABBITMQ_PID_FILE", at("pid"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", at("generated"))
        .env("RABBITMQ_FEATURE_FLAGS_FILE", at("feature_flags"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none");
    let running = Running::start(command, files, Some(mapper))?;
    running.await_port(port, "RabbitMQ").map(|running| Server {
        url: format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
        _running: Some(running),
    })
}

impl Running {
    fn start(
        mut command: Command,
        files: tempfile::TempDir,
        mapper_port: Option<u16>,
    ) -> Result<Self> {
        let output = fs::File::create(files.path().join("output"))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A group of its own, so that all of it can be ended and nothing else.
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self {
            child,
            mapper_port,
            files,
        })
    }

    fn await_port(mut self, port: u16, name: &str) -> Result<Self> {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || start.elapsed() > START_LIMIT {
                let output =
                    fs::read_to_string(self.files.path().join("output")).unwrap_or_default();
                bail!("{name} has not started ({ended:?}); it says:\n{output}");
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(self)
    }

    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill")
            .args(["-s", signal, "--", &group])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal("TERM");
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < END_LIMIT {
            thread::sleep(LOOK_AGAIN);
        }
        self.signal("KILL");
        let _ = self.child.wait();
        if let Some(port) = self.mapper_port {
            let _ = Command::new("epmd")
                .args(["-port", &port.to_string(), "-kill"])
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Ports that nobody listens on. All are held until all are known, so that
/// they differ.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

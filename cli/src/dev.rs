//! `holdfast dev`: a whole cluster in one process. Storage nodes with real Raft
//! between them over the loopback address, a gateway and a worker; the queue and
//! the cache are in the process.
//!
//! Promises: nothing but the data directory is written; a second start finds the
//! data again, and one beside a running one is refused; what is printed works as
//! it stands.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast_cache::EmbeddedCache;
use holdfast_client::{Cluster, ClusterSettings};
use holdfast_gateway::{GatewayParts, GatewaySettings};
use holdfast_model::Supported;
use holdfast_node::limits::DEFAULT_TRANSFERS;
use holdfast_node::{NodeSettings, RunParts, Running};
use holdfast_queue::EmbeddedQueue;
use holdfast_runtime::host::descriptors::raise_descriptor_limit;
use holdfast_runtime::host::tls::Security;
use holdfast_runtime::secrets::{Secrets, read_secret};
use holdfast_runtime::telemetry::{LogFormat, install_metrics, start_logging};
use holdfast_runtime::{Address, Shutdown, host::signals};
use holdfast_worker::{WorkerParts, WorkerSettings};
use serde::{Deserialize, Serialize};

use crate::access::SECRETS_OF_DATA;
use crate::arguments::{DEFAULT_DATA, DEFAULT_PORT, Dev};
use crate::failure::Failure;

/// The first port that is tried for a node: below the range from which systems
/// give ports to outgoing connections, so that a kept one stays free.
const FIRST_NODE_PORT: u16 = 18_001;
/// Ports that are tried.
const NODE_PORTS: u16 = 1_000;
/// The most nodes: they share one machine.
const MAX_NODES: usize = 9;
/// Small, since all nodes reserve theirs on one disk, in bytes.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes a second that each node's compaction may move.
const COMPACTION_RATE: u64 = 16 << 20;
/// Bytes a second that each node's repair may copy: all are on one disk.
const REPAIR_RATE: u64 = 256 << 20;
/// Memory of each node for fragments that come and go, in bytes.
const NODE_MEMORY_BYTES: u64 = 64 << 20;
/// How long the groups may take to find their leaders, on a slow disk.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// What is kept beside the data.
const NOTES: &str = "dev.json";

/// What a later start must know.
#[derive(Serialize, Deserialize, Default, Clone, PartialEq, Debug)]
struct Notes {
    /// The nodes' ports, in order. The first founded the cluster.
    node_ports: Vec<u16>,
    /// With how many nodes it was founded.
    founded_with: usize,
}

/// Runs the cluster until the process is told to end.
pub async fn run(dev: &Dev, data: &Path) -> Result<(), Failure> {
    let started = Instant::now();
    let _lock = lock(data)?;
    let secrets = secrets(data)?;
    free_or_refuse(dev.port)?;
    let notes = notes(data, dev.nodes)?;
    start_logging(LogFormat::Human, "warn");
    // Five services in one process; where it cannot be raised, fewer connections are taken.
    let _ = raise_descriptor_limit();
    let metrics = install_metrics().map_err(Failure::Dev)?;
    let shutdown = Shutdown::default();
    signals::end_on_signal(shutdown.clone()).map_err(|error| Failure::Dev(error.to_string()))?;

    let security = Security::plain(&secrets.cluster);
    let nodes = start_nodes(data, &notes, &secrets).await?;
    let env =
        holdfast_node::host_env(&security).map_err(|error| Failure::Dev(error.to_string()))?;
    let members = addresses(&notes.node_ports);
    // The parts end after those who use them.
    let parts_end = Shutdown::default();
    let cluster = Cluster::start(
        env.clone(),
        ClusterSettings::new(members),
        parts_end.clone(),
    );
    let queue = EmbeddedQueue::start(env.clone(), parts_end.clone());
    let cache = EmbeddedCache::start(env.clone());

    let worker = WorkerParts {
        cluster: cluster.clone(),
        queue: queue.clone(),
        cache: cache.clone(),
        metrics: None,
        supports: Supported::OWN,
    };
    let worker = tokio::spawn(holdfast_worker::run(
        WorkerSettings::new("dev".into()),
        worker,
        shutdown.clone(),
    ));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, dev.port));
    let mut settings = GatewaySettings::new(address, security);
    settings.operations = dev
        .metrics_port
        .map(|port| (Ipv4Addr::LOCALHOST, port).into());
    let gateway = GatewayParts {
        cluster: cluster.clone(),
        queue,
        cache,
        metrics: Some(metrics),
        supports: Supported::OWN,
    };
    let gateway = tokio::spawn(holdfast_gateway::run(settings, gateway, shutdown.clone()));

    tell_when_ready(dev, data, &secrets, &cluster, started).await?;
    // It ends when the process is told to, or when it cannot listen.
    let ended = gateway.await;
    shutdown.begin();
    if let Ok(Err(error)) = ended {
        return Err(Failure::Dev(error.to_string()));
    }
    // Its drain has a deadline of its own.
    let _ = worker.await;
    parts_end.begin();
    futures_util::future::join_all(nodes.into_iter().map(Running::end_with_all)).await;
    Ok(())
}

/// Holds the data directory for this process alone.
fn lock(data: &Path) -> Result<fs::File, Failure> {
    let unusable = |error: &io::Error| {
        Failure::Dev(format!(
            "the data directory {} cannot be used: {error}; make it writable, or name another with --data",
            data.display()
        ))
    };
    fs::create_dir_all(data).map_err(|error| unusable(&error))?;
    let file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(data.join("lock"))
        .map_err(|error| unusable(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Failure::Dev(format!(
            "another `holdfast dev` is using {}: stop it first, or name another directory with --data",
            data.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(unusable(&error)),
    }
}

/// Holds the data directory of a cluster that does not run, and names its
/// nodes' directories.
pub fn hold_stopped(data: &Path) -> Result<(fs::File, Vec<PathBuf>), Failure> {
    let path = data.join(NOTES);
    // Read before the lock, which would make a directory that is not there.
    let bytes = fs::read(&path).map_err(Failure::file(&path))?;
    let notes = read_notes(&path, &bytes)?;
    let lock = lock(data)?;
    let nodes = (1..=notes.node_ports.len()).map(|number| node_directory(data, number));
    Ok((lock, nodes.collect()))
}

/// The cluster's secrets; a given admin token must be the one it was founded with.
fn secrets(data: &Path) -> Result<Secrets, Failure> {
    let place = data.join(SECRETS_OF_DATA);
    let dev = |error: io::Error| Failure::Dev(error.to_string());
    let given = read_secret("HOLDFAST_ADMIN_TOKEN").map_err(dev)?;
    let found = Secrets::read(&place).map_err(dev)?;
    match (&given, &found) {
        (Some(given), Some(found)) if *given != found.admin_token => Err(Failure::Dev(format!(
            "{} was founded with another key than HOLDFAST_ADMIN_TOKEN: unset it, or name another directory with --data",
            data.display()
        ))),
        _ => Secrets::ensure(&place, given).map_err(dev),
    }
}

fn free_or_refuse(port: u16) -> Result<(), Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map(drop)
        .map_err(|error| {
            Failure::Dev(format!(
                "cannot listen on port {port}: {error}; stop what uses it, or choose another with --port"
            ))
        })
}

/// What an earlier start has written, with as many nodes as are wanted now.
fn notes(data: &Path, wanted: Option<usize>) -> Result<Notes, Failure> {
    let path = data.join(NOTES);
    let mut notes: Notes = match fs::read(&path) {
        Ok(bytes) => read_notes(&path, &bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Notes::default(),
        Err(error) => return Err(Failure::file(&path)(error)),
    };
    let before = notes.clone();
    let have = notes.node_ports.len();
    let wanted = wanted.unwrap_or(if have == 0 { 3 } else { have });
    if wanted == 0 || wanted > MAX_NODES {
        return Err(Failure::Dev(format!("--nodes is 1 to {MAX_NODES}")));
    }
    if wanted < have {
        return Err(Failure::Dev(format!(
            "{} holds {have} nodes: start it with --nodes {have}, or name another directory with --data",
            data.display()
        )));
    }
    for port in &notes.node_ports {
        free_or_refuse(*port).map_err(|_| {
            Failure::Dev(format!(
                "port {port}, on which the others know one of the nodes, is taken by another program: stop that one"
            ))
        })?;
    }
    let taken = notes.node_ports.clone();
    let free = (FIRST_NODE_PORT..FIRST_NODE_PORT + NODE_PORTS)
        .filter(|port| !taken.contains(port) && free_or_refuse(*port).is_ok())
        .take(wanted - have);
    notes.node_ports.extend(free);
    if notes.node_ports.len() < wanted {
        return Err(Failure::Dev("there are no free ports for the nodes".into()));
    }
    if notes.founded_with == 0 {
        notes.founded_with = wanted;
    }
    if notes != before {
        write_notes(&path, &notes)?;
    }
    Ok(notes)
}

fn read_notes(path: &Path, bytes: &[u8]) -> Result<Notes, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::Dev(format!("{} cannot be read: {error}", path.display())))
}

fn write_notes(path: &Path, notes: &Notes) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let text = serde_json::to_vec_pretty(notes).map_err(|error| Failure::Dev(error.to_string()))?;
    fs::write(&new, text).map_err(Failure::file(&new))?;
    fs::rename(&new, path).map_err(Failure::file(path))
}

fn addresses(ports: &[u16]) -> Vec<Address> {
    ports
        .iter()
        .map(|port| Address(format!("127.0.0.1:{port}")))
        .collect()
}

/// What one node is told.
fn node_settings(data: &Path, notes: &Notes, index: usize) -> Option<NodeSettings> {
    let port = *notes.node_ports.get(index)?;
    let all = addresses(&notes.node_ports);
    let (first, _) = all.split_at_checked(notes.founded_with)?;
    let number = index + 1;
    Some(NodeSettings {
        listen: (Ipv4Addr::LOCALHOST, port).into(),
        data: node_directory(data, number),
        advertise: all.get(index).cloned(),
        bootstrap: if index == 0 {
            first.to_vec()
        } else {
            Vec::new()
        },
        join: if index < notes.founded_with {
            Vec::new()
        } else {
            first.to_vec()
        },
        zone: Some(format!("zone-{number}")),
        host: Some(format!("host-{number}")),
        secrets_dir: None,
        tls_dir: None,
        metrics_addr: (Ipv4Addr::LOCALHOST, 0).into(),
        log_format: LogFormat::Human,
        disk_reserve: None,
        segment_bytes: SEGMENT_BYTES,
        compaction_rate: COMPACTION_RATE,
        repair_rate: REPAIR_RATE,
        max_transfers: DEFAULT_TRANSFERS,
        memory_budget: NODE_MEMORY_BYTES,
        down_grace: Duration::from_secs(600),
        census_interval: Duration::from_secs(60),
        census_walk_interval: Duration::from_secs(3_600),
        expiry_grace: Duration::from_secs(3_600),
        ticket_idle: Duration::from_secs(3_600),
        ticket_max: Duration::from_secs(86_400),
    })
}

fn node_directory(data: &Path, number: usize) -> PathBuf {
    data.join(format!("node{number}"))
}

async fn start_nodes(
    data: &Path,
    notes: &Notes,
    secrets: &Secrets,
) -> Result<Vec<Running>, Failure> {
    let all = (0..notes.node_ports.len()).filter_map(|index| node_settings(data, notes, index));
    let starting = all.map(|settings| async move {
        fs::create_dir_all(&settings.data).map_err(Failure::file(&settings.data))?;
        let parts = RunParts {
            security: Security::plain(&secrets.cluster),
            admin_token: secrets.admin_token.clone(),
            metrics: None,
            operations: false,
            supports: Supported::OWN,
        };
        holdfast_node::start(&settings, parts)
            .await
            .map_err(|error| Failure::Dev(error.to_string()))
    });
    futures_util::future::try_join_all(starting).await
}

async fn tell_when_ready(
    dev: &Dev,
    data: &Path,
    secrets: &Secrets,
    cluster: &Cluster,
    started: Instant,
) -> Result<(), Failure> {
    let ready = cluster.wait_ready(READY_LIMIT).await;
    ready.map_err(|error| Failure::Dev(format!("the cluster does not get ready: {error}")))?;
    let url = format!("http://localhost:{}", dev.port);
    let key = &secrets.admin_token;
    let command = command(dev.port, data);
    println!(
        "Holdfast is ready after {:.1} s: {} nodes, data in {}

  API   {url}
  key   {key}

Upload, list, download (these lines work as they stand):

  curl -T README.md -H 'Authorization: Bearer {key}' {url}/api/upload/
  curl -H 'Authorization: Bearer {key}' {url}/api/files
  curl -OJ {url}/api/download/FILE_ID

The same with this command, which finds the key by itself:

  {command} put README.md
  {command} ls
  {command} get FILE_ID

Ctrl-C ends it; the data stays.",
        started.elapsed().as_secs_f64(),
        cluster.nodes().len(),
        data.display(),
    );
    Ok(())
}

/// The command with what it must be told to find this cluster.
fn command(port: u16, data: &Path) -> String {
    let mut command = "holdfast".to_owned();
    if port != DEFAULT_PORT {
        command.push_str(&format!(" --url http://localhost:{port}"));
    }
    if data != Path::new(DEFAULT_DATA) {
        // In single quotes a shell takes everything as it is but these.
        let quoted = data.display().to_string().replace('\'', r"'\''");
        command.push_str(&format!(" --data '{quoted}'"));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_printed_with_what_it_needs_to_find_the_cluster() {
        assert_eq!(command(5000, Path::new("./holdfast-data")), "holdfast");
        assert_eq!(
            command(5001, Path::new("/a b/it's")),
            r"holdfast --url http://localhost:5001 --data '/a b/it'\''s'"
        );
    }

    #[test]
    fn a_second_start_on_the_same_data_is_refused_with_a_sentence() {
        let data = tempfile::tempdir().unwrap();
        let first = lock(data.path()).unwrap();
        let refused = lock(data.path()).unwrap_err().to_string();
        assert!(refused.contains("another `holdfast dev`"), "{refused}");
        drop(first);
        lock(data.path()).unwrap();
    }

    #[test]
    fn a_data_directory_that_is_a_file_is_refused_with_a_sentence() {
        let data = tempfile::NamedTempFile::new().unwrap();
        let refused = lock(data.path()).unwrap_err().to_string();
        assert!(refused.contains("--data"), "{refused}");
    }

    #[test]
    fn nodes_keep_their_ports_and_can_only_become_more() {
        let data = tempfile::tempdir().unwrap();
        let first = notes(data.path(), None).unwrap();
        assert_eq!((first.node_ports.len(), first.founded_with), (3, 3));
        assert_eq!(notes(data.path(), None).unwrap(), first);
        let more = notes(data.path(), Some(5)).unwrap();
        assert_eq!(&more.node_ports[..3], &first.node_ports[..]);
        assert_eq!(more.founded_with, 3);
        let refused = notes(data.path(), Some(3)).unwrap_err().to_string();
        assert!(refused.contains("--nodes 5"), "{refused}");
        assert!(notes(data.path(), Some(0)).is_err());
    }

    #[test]
    fn one_node_founds_and_later_ones_join() {
        let notes = Notes {
            node_ports: vec![1, 2, 3, 4],
            founded_with: 3,
        };
        let told = |index| node_settings(Path::new("d"), &notes, index).unwrap();
        assert_eq!((told(0).bootstrap.len(), told(0).join.len()), (3, 0));
        assert_eq!((told(1).bootstrap.len(), told(1).join.len()), (0, 0));
        assert_eq!((told(3).bootstrap.len(), told(3).join.len()), (0, 3));
        assert!(told(0).check().is_ok() && told(3).check().is_ok());
    }

    #[test]
    fn a_taken_port_is_refused_with_a_sentence() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let refused = free_or_refuse(port).unwrap_err().to_string();
        assert!(refused.contains("--port"), "{refused}");
    }
}

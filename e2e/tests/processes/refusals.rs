//! Starts that cannot be: each says in a sentence what to change, and ends with
//! an exit code that is not zero.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::processes::{Cluster, Program, SECRET, Shape, TOKEN, binary, free_port};

use crate::claim;

const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Nobody's user id, for whom root's rights do not hold.
const NOBODY: u32 = 65_534;

/// Runs it to its end, which must not be a success; what it said.
async fn refused(what: &str, command: &mut Command, files: &Path) -> Result<String> {
    let output = files.join(format!("{}.log", what.replace(' ', "-")));
    let mut program = Program::start(what, command, &output)?;
    let status = program.wait(ENDS_WITHIN).await?;
    let said = program.output();
    ensure!(
        !status.success(),
        "{what}: it ended with {status} and said {said}"
    );
    ensure!(status.code().is_some(), "{what}: ended by {status}: {said}");
    ensure!(!said.contains("panicked"), "{what}: {said}");
    Ok(said)
}

fn says(what: &str, said: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(
            said.contains(word),
            "{what}: {word:?} is not in what it said:\n{said}"
        );
    }
    // A sentence is a line or two, not a backtrace.
    ensure!(
        !said.contains("stack backtrace"),
        "{what}: a backtrace:\n{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_why() -> Result<()> {
    let shape = Shape {
        nodes: 1,
        gateways: 1,
        workers: 1,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::a_data_directory_in_use_is_refused(&mut cluster));
    claim!(self::a_taken_port_is_named(&mut cluster));
    Ok(())
}

async fn a_data_directory_in_use_is_refused(cluster: &mut Cluster) -> Result<()> {
    let files = tempfile::tempdir()?;
    let port = free_port()?;
    let mut second = cluster.nodes[0].command();
    second
        .env("HOLDFAST_LISTEN", format!("127.0.0.1:{port}"))
        .env("HOLDFAST_ADVERTISE", format!("127.0.0.1:{port}"))
        .env(
            "HOLDFAST_METRICS_ADDR",
            format!("127.0.0.1:{}", free_port()?),
        )
        .env_remove("HOLDFAST_BOOTSTRAP");
    let said = refused("a second node", &mut second, files.path()).await?;
    let data = cluster.nodes[0].data.display().to_string();
    says(
        "a second node",
        &said,
        &[&data, "another process is using it"],
    )?;
    // The first did not notice.
    cluster
        .gateway(0)?
        .upload("still.txt", b"here".to_vec(), 0)
        .await?;
    Ok(())
}

async fn a_taken_port_is_named(cluster: &mut Cluster) -> Result<()> {
    let files = tempfile::tempdir()?;
    let taken = TcpListener::bind(("127.0.0.1", 0))?;
    let address = taken.local_addr()?.to_string();
    for which in ["HOLDFAST_LISTEN", "HOLDFAST_METRICS_ADDR"] {
        for member in ["node", "gateway", "worker"] {
            if member == "worker" && which == "HOLDFAST_LISTEN" {
                continue;
            }
            let what = format!("{member} with {which} taken");
            let mut command = match member {
                "node" => cluster.nodes[0].command(),
                "gateway" => cluster.gateways[0].command(),
                _ => cluster.workers[0].command(),
            };
            command
                .env("HOLDFAST_DATA", files.path().join(&what))
                .env("HOLDFAST_LISTEN", format!("127.0.0.1:{}", free_port()?))
                .env(
                    "HOLDFAST_METRICS_ADDR",
                    format!("127.0.0.1:{}", free_port()?),
                )
                .env_remove("HOLDFAST_BOOTSTRAP")
                .env(which, &address);
            if member == "worker" {
                command
                    .env_remove("HOLDFAST_LISTEN")
                    .env_remove("HOLDFAST_DATA");
            }
            let said = refused(&what, &mut command, files.path()).await?;
            says(&what, &said, &[&address, "listen"])?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_named() -> Result<()> {
    let files = tempfile::tempdir()?;
    // Others than its owner need not reach the target directory.
    let program = files.path().join("holdfast-node");
    fs::copy(binary("holdfast-node")?, &program)?;
    let data = files.path().join("data");
    fs::create_dir(&data)?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555))?;
    fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755))?;
    let port = free_port()?;
    let mut command = Command::new(&program);
    command
        .env_clear()
        .env("HOLDFAST_LISTEN", format!("127.0.0.1:{port}"))
        .env("HOLDFAST_ADVERTISE", format!("127.0.0.1:{port}"))
        .env(
            "HOLDFAST_METRICS_ADDR",
            format!("127.0.0.1:{}", free_port()?),
        )
        .env("HOLDFAST_CLUSTER_SECRET", SECRET)
        .env("HOLDFAST_ADMIN_TOKEN", TOKEN)
        .env("HOLDFAST_DATA", &data);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let what = "a directory without the right to write";
    let said = refused(what, &mut command, files.path()).await?;
    let path = data.to_str().context("no UTF-8")?;
    says(what, &said, &[path, "make it writable"])?;

    // A file where the directory would be.
    let file = files.path().join("a-file");
    fs::write(&file, "not a directory")?;
    command.env("HOLDFAST_DATA", &file);
    let what = "a file in place of the directory";
    let said = refused(what, &mut command, files.path()).await?;
    says(
        what,
        &said,
        &[file.to_str().context("no UTF-8")?, "cannot be used"],
    )?;
    ensure!(
        fs::read(&file)? == b"not a directory",
        "the file was changed"
    );
    Ok(())
}

/// What it is, the program, its settings, and the setting that it must name.
type Case<'a> = (&'a str, &'a Path, &'a [(&'a str, &'a str)], &'a str);

#[tokio::test]
async fn contradicting_and_missing_settings_are_named() -> Result<()> {
    let files = tempfile::tempdir()?;
    let node = binary("holdfast-node")?;
    let gateway = binary("holdfast-gateway")?;
    let worker = binary("holdfast-worker")?;
    let cases: [Case; 6] = [
        (
            "node without a secret",
            &node,
            &[],
            "HOLDFAST_CLUSTER_SECRET",
        ),
        (
            "node that founds and joins",
            &node,
            &[
                ("HOLDFAST_CLUSTER_SECRET", SECRET),
                ("HOLDFAST_BOOTSTRAP", "a:1"),
                ("HOLDFAST_JOIN", "b:1"),
            ],
            "HOLDFAST_JOIN",
        ),
        (
            "gateway without a secret",
            &gateway,
            &[],
            "HOLDFAST_CLUSTER_SECRET",
        ),
        (
            "gateway without nodes",
            &gateway,
            &[
                ("HOLDFAST_CLUSTER_SECRET", SECRET),
                ("RABBITMQ_URL", "amqp://127.0.0.1:1"),
                ("REDIS_URL", "redis://127.0.0.1:1"),
            ],
            "HOLDFAST_NODES",
        ),
        (
            "worker without a secret",
            &worker,
            &[],
            "HOLDFAST_CLUSTER_SECRET",
        ),
        (
            "worker without a queue",
            &worker,
            &[
                ("HOLDFAST_CLUSTER_SECRET", SECRET),
                ("HOLDFAST_NODES", "a:1"),
            ],
            "RABBITMQ_URL",
        ),
    ];
    for (what, program, settings, named) in cases {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOLDFAST_DATA", files.path().join("data"))
            .envs(settings.iter().copied());
        let said = refused(what, &mut command, files.path()).await?;
        says(what, &said, &[named])?;
    }
    Ok(())
}

//! Thousands of connections that say nothing.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use holdfast_e2e::processes::{Cluster, Shape};
use holdfast_e2e::wait::until;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{SETTLE, claim, rounds};

/// The bar of the promise.
const IDLE: usize = 5_000;
/// What the gateway takes at most, and a few more.
const MOST: usize = 8_192;
const BEYOND: usize = 50;
/// Resident bytes that a connection may cost.
const BYTES_EACH: u64 = 32 << 10;
/// What a shell starts programs with.
const USUAL_DESCRIPTORS: u64 = 1_024;

fn set_descriptors(current: u64) -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(current);
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_keep_nobody_out() -> Result<()> {
    // As from a shell: the programs have to raise it themselves.
    set_descriptors(USUAL_DESCRIPTORS)?;
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    set_descriptors(20_000).context("this test opens 9,000 sockets itself")?;
    claim!(self::every_program_may_open_what_the_system_allows(
        &mut cluster
    ));
    claim!(self::five_thousand_idle_connections_cost_little(
        &mut cluster
    ));
    claim!(self::past_the_limit_the_rest_is_told_to_come_again(
        &mut cluster
    ));
    Ok(())
}

async fn every_program_may_open_what_the_system_allows(cluster: &mut Cluster) -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    for member in cluster.members() {
        let limits = fs::read_to_string(format!("/proc/{}/limits", member.running()?.pid()))?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .context("no such limit")?;
        let soft = line.split_whitespace().next().context("no number")?;
        let soft = soft.parse().unwrap_or(u64::MAX);
        ensure!(soft == maximum, "{}: {soft} of {maximum}", member.name);
    }
    Ok(())
}

/// Connections that have made a request, and are kept.
async fn open(address: &str, count: usize) -> Result<Vec<TcpStream>> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let some = (0..200.min(count - all.len())).map(|_| async {
            let mut stream = TcpStream::connect(address).await?;
            let ask = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n");
            stream.write_all(ask.as_bytes()).await?;
            let mut head = [0; 15];
            stream.read_exact(&mut head).await?;
            ensure!(&head == b"HTTP/1.1 200 OK", "{}", head.escape_ascii());
            Ok(stream)
        });
        all.extend(try_join_all(some).await?);
    }
    Ok(all)
}

async fn five_thousand_idle_connections_cost_little(cluster: &mut Cluster) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    rounds(&gateway, 20, 100_000).await?;
    let program = cluster.gateways[0].running()?;
    let before = program.resident()?;
    let address = format!("127.0.0.1:{}", cluster.gateways[0].port);
    let idle = open(&address, IDLE).await?;
    let cost = program.resident()?.saturating_sub(before);
    let each = cost / IDLE as u64;
    println!("{IDLE} idle connections: {each} bytes each");
    ensure!(each <= BYTES_EACH, "{each} bytes each");
    let slowest = rounds(&gateway, 20, 100_000).await?;
    println!("the slowest of 20 uploads and downloads beside them: {slowest:?}");
    ensure!(slowest < Duration::from_secs(2), "{slowest:?}");
    drop(idle);
    Ok(())
}

/// A silent connection, or none if it is told to come again.
async fn knock(address: &str) -> Result<Option<TcpStream>> {
    let mut stream = TcpStream::connect(address).await?;
    let mut answer = vec![0; 512];
    // One that was taken is answered nothing.
    let reading = stream.read(&mut answer);
    match tokio::time::timeout(Duration::from_secs(2), reading).await {
        Err(_) => Ok(Some(stream)),
        Ok(read) => {
            let answer = String::from_utf8_lossy(&answer[..read?]).to_lowercase();
            ensure!(answer.starts_with("http/1.1 503"), "{answer}");
            ensure!(answer.contains("\r\nretry-after: "), "{answer}");
            Ok(None)
        }
    }
}

async fn past_the_limit_the_rest_is_told_to_come_again(cluster: &mut Cluster) -> Result<()> {
    let member = &cluster.gateways[0];
    let address = format!("127.0.0.1:{}", member.port);
    let taken = "holdfast_connections{server=\"gateway\"}";
    until("those of before are gone", SETTLE, async || {
        let left = member.metric(taken).await?;
        ensure!(left < 50.0, "{left}");
        Ok(())
    })
    .await?;
    let limit = "holdfast_limit{of=\"gateway_connections\"}";
    let limit = member.metric(limit).await?;
    ensure!(limit == MOST as f64, "{limit}");
    let mut held = open(&address, MOST - 50).await?;
    // All at once: the gateway ends those that stay silent.
    let more = try_join_all((0..50 + BEYOND).map(|_| knock(&address))).await?;
    let refused = more.iter().filter(|stream| stream.is_none()).count();
    held.extend(more.into_iter().flatten());
    ensure!(refused >= BEYOND, "{refused} of {BEYOND} were refused");
    let counted = "holdfast_refused_total{limit=\"gateway_connections\"}";
    ensure!(member.metric(counted).await? >= refused as f64);
    drop(held);
    let gateway = cluster.gateway(0)?;
    until("it serves again", SETTLE, async || {
        rounds(&gateway, 1, 1_000).await
    })
    .await?;
    Ok(())
}

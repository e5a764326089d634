//! What a disk with very many fragments costs in memory and at the start.
//!
//! `million fill DIR COUNT` adds empty fragments up to a count and ends like
//! kill -9; `million fill-and-save DIR COUNT` ends in order; `million open DIR`
//! opens what is there and tells times and memory; `million put DIR COUNT` one
//! client's time for fragments of 4 KiB. Eight KiB of disk a fragment.
//! `million stream DIR COUNT` writes so many fragments of 8 MiB, eight at once,
//! and reads them, eight at once, for four seconds.
//!
//! `million bars DIR` does what the bars are about, each step in a process of
//! its own: a million written in one run, opened, 100,000 more, opened; then it
//! removes the directory. It ends with 1 when a bar is missed.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement run by hand, on the machine's own clock and files"
)]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use holdfast_blobs::{BLOCK_BYTES, Closing, Engine, EngineSettings};
use holdfast_model::{
    BucketId, ClusterId, FragmentHeader, FragmentId, Generation, GroupId, Redundancy, UploadId,
    VersionId,
};
use holdfast_runtime::Env;
use holdfast_runtime::host::disk::Directory;
use holdfast_runtime::host::http::HttpTransport;
use holdfast_runtime::host::system::{SystemClock, SystemEntropy, TokioTasks};

/// From so many fragments on the bars hold.
const BARS_FROM: u64 = 1_000_000;
/// Memory of the process that has come with a fragment, in bytes.
const BAR_BYTES: f64 = 32.0;
/// How long a start may take.
const BAR_START: Duration = Duration::from_secs(2);
/// What a step of `bars` ends with when it has missed one.
const MISSED: i32 = 2;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn id(number: u64) -> FragmentId {
    let mix = |salt: u64| {
        let mut z = number
            .wrapping_add(salt)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    };
    let upload = u128::from(mix(1)) << 64 | u128::from(mix(2));
    FragmentId {
        group: GroupId(1 + (number % 16) as u16),
        upload: UploadId::from_bytes(upload.to_be_bytes()),
        chunk: 0,
        index: 0,
    }
}

fn header(id: FragmentId) -> FragmentHeader {
    FragmentHeader {
        id,
        cluster: ClusterId::from_bytes([1; 16]),
        bucket: BucketId::from_bytes([2; 16]),
        version: VersionId::from_bytes([3; 16]),
        redundancy: Redundancy::copies(3),
        stripe_bytes: 256 << 10,
        generation: Generation(1),
        encryption_key: None,
    }
}

async fn open(dir: &str) -> Engine {
    let env = Env {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(SystemEntropy),
        tasks: Arc::new(TokioTasks),
        transport: Arc::new(HttpTransport::new("none").unwrap()),
    };
    let disk = Arc::new(Directory::open(dir).unwrap());
    let before = resident();
    let begun = Instant::now();
    let failed = Arc::new(|reason: String| panic!("{reason}"));
    let engine = Engine::open(disk, &env, EngineSettings::default(), failed);
    let engine = engine.await.unwrap();
    let took = begun.elapsed();
    let report = engine.report().clone();
    println!("opened in {took:?}: {report:?}");
    tell_memory(&engine, before).await;
    if report.fragments >= BARS_FROM && took > BAR_START {
        println!("missed: {BAR_START:?} to open");
        std::process::exit(MISSED);
    }
    engine
}

async fn tell_memory(engine: &Engine, before: u64) {
    let fragments = engine.stats().await.unwrap().fragments;
    let bytes = resident().saturating_sub(before);
    let each = bytes as f64 / fragments.max(1) as f64;
    println!(
        "{fragments} fragments, {} KiB resident more than before: {each:.1} bytes a fragment",
        bytes >> 10,
    );
    if fragments >= BARS_FROM && each > BAR_BYTES {
        println!("missed: {BAR_BYTES} bytes a fragment");
        std::process::exit(MISSED);
    }
}

/// Runs the steps as processes, and says whether all bars were kept.
fn bars(dir: &str) -> bool {
    let program = std::env::current_exe().unwrap();
    let more = BARS_FROM + BARS_FROM / 10;
    let steps = [
        ("fill", BARS_FROM),
        ("open", 0),
        ("fill", more),
        ("open", 0),
    ];
    let kept = steps.iter().all(|(what, count)| {
        println!("-- {what} {count}");
        let mut step = Command::new(&program);
        let step = step.args([what, dir, &count.to_string()]);
        // The others end by a signal, as by kill -9, or with 0.
        step.status().unwrap().code() != Some(MISSED)
    });
    std::fs::remove_dir_all(dir).unwrap();
    kept
}

async fn fill(dir: &str, count: u64) -> Engine {
    let before = resident();
    let engine = open(dir).await;
    let there = engine.stats().await.unwrap().fragments;
    let begun = Instant::now();
    stream::iter(there..count)
        .for_each_concurrent(256, |number| {
            let engine = engine.clone();
            async move {
                let put = engine.put_small(header(id(number)), Bytes::new(), Closing::default());
                put.await.unwrap();
            }
        })
        .await;
    println!("{} fragments in {:?}", count - there, begun.elapsed());
    tell_memory(&engine, before).await;
    engine
}

async fn look(engine: &Engine, count: u64) {
    let begun = Instant::now();
    let page = engine.list(None, 1000).await.unwrap();
    println!("a page of {}: {:?}", page.len(), begun.elapsed());
    let begun = Instant::now();
    for number in 0..10_000 {
        let found = engine.find(&id(number * 7919 % count)).await.unwrap();
        assert!(found.is_some());
    }
    println!("a look-up: {:?}", begun.elapsed() / 10_000);
    let begun = Instant::now();
    let mut after = None;
    let mut seen = 0;
    loop {
        let page = engine.list(after, 10_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen += page.len();
    }
    println!("all {seen} listed in {:?}", begun.elapsed());
}

async fn put(engine: &Engine, count: u64) {
    let mut times = Vec::new();
    for number in 0..count {
        let data = Bytes::from(vec![7; 4096]);
        let begun = Instant::now();
        let id = id(u64::MAX - number);
        let put = engine.put_small(header(id), data, Closing::default());
        put.await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap();
    println!("put of 4 KiB: p50 {:?}, p99 {:?}", at(50), at(99));
    let begun = Instant::now();
    stream::iter(0..count * 20)
        .for_each_concurrent(64, |number| {
            let engine = engine.clone();
            async move {
                let id = id(u64::MAX / 2 - number);
                let data = Bytes::from(vec![7; 4096]);
                let put = engine.put_small(header(id), data, Closing::default());
                put.await.unwrap();
            }
        })
        .await;
    let rate = (count * 20) as f64 / begun.elapsed().as_secs_f64();
    println!("64 clients: {rate:.0} a second");
}

async fn stream_large(engine: &Engine, count: u64) {
    const LARGE_BYTES: usize = 8 << 20;
    let data = Bytes::from(vec![7; LARGE_BYTES]);
    let rate = |bytes: usize, took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    let begun = Instant::now();
    stream::iter(0..count)
        .for_each_concurrent(8, |number| {
            let (engine, mut data) = (engine.clone(), data.clone());
            async move {
                let header = header(id(u64::MAX / 3 - number));
                let mut writer = engine.begin(header, LARGE_BYTES as u64).await.unwrap();
                while !data.is_empty() {
                    let block = data.split_to(BLOCK_BYTES);
                    let checksum = crc32c::crc32c(&block);
                    writer.write_verified(block, checksum).await.unwrap();
                }
                writer.finish(Closing::default()).await.unwrap();
            }
        })
        .await;
    let written = rate(count as usize * LARGE_BYTES, begun.elapsed());
    println!("written: {written:.0} MB/s");
    let begun = Instant::now();
    let readers = (0..8).map(|reader| {
        let engine = engine.clone();
        async move {
            let mut bytes = 0;
            for turn in reader.. {
                let id = id(u64::MAX / 3 - turn % count);
                let (_, mut blocks) = engine.read(id, 0..u64::MAX).await.unwrap();
                while let Some(block) = blocks.next().await {
                    bytes += block.unwrap().data.len();
                }
                if begun.elapsed() > Duration::from_secs(4) {
                    break;
                }
            }
            bytes
        }
    });
    let bytes: Vec<usize> = futures_util::future::join_all(readers).await;
    let (bytes, took) = (bytes.iter().sum::<usize>(), begun.elapsed());
    println!("read: {:.0} MB/s", rate(bytes, took));
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = |at: usize| arguments.get(at).map_or("", String::as_str);
    let count = text(3).parse().unwrap_or(1000);
    match text(1) {
        "fill" => {
            fill(text(2), count).await;
            std::process::abort();
        }
        "fill-and-save" => fill(text(2), count).await.save().await.unwrap(),
        "open" => {
            let engine = open(text(2)).await;
            let fragments = engine.stats().await.unwrap().fragments;
            look(&engine, fragments).await;
        }
        "put" => put(&open(text(2)).await, count).await,
        "stream" => stream_large(&open(text(2)).await, count).await,
        "bars" if !bars(text(2)) => std::process::exit(1),
        "bars" => println!("all bars are kept"),
        _ => println!("million fill|fill-and-save|open|put|stream|bars DIR [COUNT]"),
    }
}

//! More than there is room for, and slower than anybody should be, over real
//! processes: what is served stays served, the rest is told to come again, and
//! memory stays bounded.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a test from outside; the simulation has no part in it"
)]

#[path = "overload/burst.rs"]
mod burst;
#[path = "overload/idle.rs"]
mod idle;
#[path = "overload/slow_clients.rs"]
mod slow_clients;
#[path = "overload/slow_node.rs"]
mod slow_node;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::Cluster;

/// How long anything may take that is not promised to be faster.
const SETTLE: Duration = Duration::from_secs(60);

/// Runs one claim, and says how long it took; its error shows the processes' last words.
macro_rules! claim {
    (self :: $name:ident ( $cluster:expr )) => {{
        let start = std::time::Instant::now();
        let result = self::$name($cluster).await;
        crate::told(stringify!($name), start, result, $cluster)?;
    }};
}
use claim;

fn told(name: &str, start: Instant, result: Result<()>, cluster: &Cluster) -> Result<()> {
    println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    result
        .with_context(|| name.to_owned())
        .map_err(|error| cluster.explain(error))
}

/// Uploads and reads back `count` times; how long the slowest took.
async fn rounds(gateway: &Gateway, count: u64, size: usize) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for round in 0..count {
        let bytes = noise(round, size);
        let start = Instant::now();
        let id = gateway.upload("round.bin", bytes.clone(), 0).await?;
        gateway.expect(&id, &bytes).await?;
        slowest = slowest.max(start.elapsed());
    }
    Ok(slowest)
}

//! Faults over real processes: what dies, fills up, hangs up or has no
//! credential, with a real RabbitMQ and a real Redis.
//!
//! A start of a cluster takes seconds of both cores, so one serves several
//! claims, each in a function of its name, one after the other.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a test from outside; the simulation has no part in it"
)]

#[path = "processes/carriers.rs"]
mod carriers;
#[path = "processes/credentials.rs"]
mod credentials;
#[path = "processes/downloads.rs"]
mod downloads;
#[path = "processes/expiry.rs"]
mod expiry;
#[path = "processes/full.rs"]
mod full;
#[path = "processes/hanging.rs"]
mod hanging;
#[path = "processes/losses.rs"]
mod losses;
#[path = "processes/orderly.rs"]
mod orderly;
#[path = "processes/refusals.rs"]
mod refusals;
#[path = "processes/releases.rs"]
mod releases;
#[path = "processes/secured.rs"]
mod secured;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::Cluster;

/// How long anything may take that is not promised to be faster.
const SETTLE: Duration = Duration::from_secs(60);

/// A file that was acknowledged.
struct Kept {
    id: String,
    bytes: Vec<u8>,
}

async fn expect_all(gateway: &Gateway, kept: &[Kept]) -> Result<()> {
    for Kept { id, bytes } in kept {
        gateway.expect(id, bytes).await?;
    }
    Ok(())
}

/// How many downloads a file has left.
async fn downloads_left(gateway: &Gateway, id: &str) -> Result<u64> {
    let file = gateway.json(&format!("/api/files/{id}")).await?;
    file["downloads_left"]
        .as_u64()
        .with_context(|| format!("no downloads_left in {file}"))
}

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

fn ensure_eq<T: PartialEq + std::fmt::Debug>(what: &str, is: T, must: T) -> Result<()> {
    ensure!(is == must, "{what}: {is:?}, not {must:?}");
    Ok(())
}

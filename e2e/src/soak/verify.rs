//! The end: the cluster heals, and everything in the journal is looked at.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::Cluster;
use holdfast_e2e::redundancy::Redundancy;
use holdfast_e2e::wait::until;
use k8s_openapi::jiff::Timestamp;
use reqwest::StatusCode;

use crate::journal::{File, Journal};

/// How long it may take until everything is back at all its copies.
const HEALS_WITHIN: Duration = Duration::from_secs(600);
/// Two rounds of the census and some: so long it must stay clean.
const TWO_ROUNDS: Duration = Duration::from_secs(40);
/// Files looked at at once.
const AT_ONCE: usize = 4;

/// Waits until the census is clean, and looks at everything.
pub async fn all(cluster: &mut Cluster, journal: &Journal) -> Result<()> {
    let (start, healing) = (Instant::now(), Timestamp::now());
    let gateway = cluster.gateway(0)?;
    let mut since = None;
    until("a clean census", HEALS_WITHIN, async || {
        let whole = clean(&gateway, healing).await;
        if whole.is_err() {
            since = None;
        }
        whole?;
        // What is missing on a disk is known only once somebody has counted.
        let held = since.get_or_insert_with(Instant::now).elapsed();
        ensure!(held > TWO_ROUNDS, "clean for {held:?} so far");
        Ok(())
    })
    .await?;
    let healed = start.elapsed().saturating_sub(TWO_ROUNDS);
    println!("healed {:.0} s after the last fault", healed.as_secs_f64());
    let gateways = [cluster.gateway(0)?, cluster.gateway(1)?];
    let files = journal.files();
    let looked: Vec<bool> = stream::iter(files.into_iter().enumerate())
        .map(|(at, file)| look(&gateways[at % 2], journal, at, file))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let there = looked.iter().filter(|there| **there).count();
    let kept = journal.kept();
    ensure!(
        there >= kept && kept > 0,
        "of {kept} files that nobody deletes {there} are there: the run was too short to say anything"
    );
    println!(
        "looked at {} files: {there} are there with every byte, the others gone as they must be",
        looked.len()
    );
    for member in cluster.members() {
        let program = member.running()?;
        ensure!(
            !program.output().contains("panicked at"),
            "{} has panicked",
            member.name
        );
        println!(
            "{}: {} MiB resident",
            member.name,
            program.resident()? >> 20
        );
    }
    Ok(())
}

/// Every object has all its copies by a census after `since`, and every disk
/// that counts has answered it.
async fn clean(gateway: &Gateway, since: Timestamp) -> Result<()> {
    let told = Redundancy::fetch(gateway).await?;
    told.whole_since(since)?;
    ensure!(told.silent_disks == 0, "{told:?}");
    ensure!(told.objects > 0, "no object is large enough to be counted");
    Ok(())
}

/// Whether it is there; an error where it is not as it must be.
async fn look(gateway: &Gateway, journal: &Journal, at: usize, file: File) -> Result<bool> {
    let began = Instant::now();
    let response = gateway.download(&file.id).await?;
    let status = response.status();
    let absent = [StatusCode::NOT_FOUND, StatusCode::GONE];
    if status == StatusCode::OK {
        let came = response.bytes().await?;
        ensure!(file.may_be_there(began), "served: {file:?}");
        ensure!(came == noise(file.seed, file.size), "other bytes: {file:?}");
        journal.change(at, |file| file.open += 1);
        journal.came_whole(at)?;
        return Ok(true);
    }
    let text = response.text().await?;
    ensure!(absent.contains(&status), "{status}: {text}: {file:?}");
    let excused = !file.must_be_there(Instant::now()) || file.may_be_used_up();
    ensure!(excused, "lost: {status}: {text}: {file:?}");
    Ok(false)
}

//! Tests in a running Kubernetes cluster that has the operator installed: the
//! one of KUBECONFIG. `cargo xtask e2e` builds, loads and installs, and runs this.
//!
//! Each case says in its name what it claims and has a namespace of its own, in
//! which nothing runs that does not fit the `restricted` Pod Security level.
//! Cases run side by side, those that break what all share one by one behind
//! them. A wait is a predicate with a deadline. What a failed case leaves (logs,
//! events, resources) is collected before its namespace goes.
//!
//! Pods and Services must be reachable from this machine.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a test from outside; the simulation has no part in it"
)]

mod cases;
mod evidence;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures_util::{StreamExt, stream};
use holdfast_e2e::kubernetes::{
    chart, children, issuer, kinds, machines, outages, roll, room, spec, state, told, traffic,
    trust,
};
use holdfast_e2e::level::Level;

use crate::cases::{Case, Company};
use crate::room::{Next, Room, World};

#[derive(Parser)]
#[command(about = "Tests of the operator in the Kubernetes cluster of KUBECONFIG")]
struct Arguments {
    #[arg(value_enum, default_value = "core")]
    level: Level,
    /// Only cases whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// Beside those of the level, every third of the others, from this one on.
    #[arg(long, value_parser = clap::value_parser!(u32).range(..3))]
    third: Option<u32>,
    /// The tag of a store's images, which the machines have, and which the
    /// operator was told to give to stores that name none.
    #[arg(long, default_value = "dev")]
    tag: String,
    /// The tag of a store's images that are a release ahead.
    #[arg(long, requires = "next_operator_tag")]
    next_tag: Option<String>,
    /// The tag of such an image of the operator.
    #[arg(long, requires = "next_tag")]
    next_operator_tag: Option<String>,
    /// Where logs, events and resources of failed cases are left.
    #[arg(long, default_value = "target/e2e-logs")]
    logs: PathBuf,
    /// Cases at the same time: they wait more than they compute.
    #[arg(long, default_value_t = 3)]
    jobs: usize,
    /// Leaves the namespaces of failed cases.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what is chosen; how many failed.
async fn run(arguments: Arguments) -> Result<usize> {
    let next = arguments
        .next_tag
        .clone()
        .zip(arguments.next_operator_tag.clone());
    let next = next.map(|(store, operator)| Next { store, operator });
    let world = World::reach(arguments.tag.clone(), next).await?;
    let (together, alone): (Vec<Case>, Vec<Case>) = choose(cases::all(), &arguments)
        .into_iter()
        .partition(|case| case.company == Company::Others);
    if together.is_empty() && alone.is_empty() {
        bail!("no case has such a name");
    }
    let (world, arguments) = (&world, &arguments);
    let show = |case| async move { show(world, case, arguments).await };
    let side_by_side = stream::iter(together).map(show);
    let mut verdicts: Vec<bool> = side_by_side
        .buffer_unordered(arguments.jobs.max(1))
        .collect()
        .await;
    for case in alone {
        verdicts.push(show(case).await);
    }
    let failed = verdicts.iter().filter(|passed| !**passed).count();
    println!("{} passed, {failed} failed", verdicts.len() - failed);
    Ok(failed)
}

fn choose(all: Vec<Case>, arguments: &Arguments) -> Vec<Case> {
    let mut further = 0;
    let mut chosen = |case: &Case| {
        let named = arguments.only.as_ref();
        if !named.is_none_or(|only| case.name.contains(only.as_str())) {
            return false;
        }
        if case.level <= arguments.level {
            return true;
        }
        further += 1;
        arguments.third == Some((further - 1) % 3)
    };
    all.into_iter().filter(|case| chosen(case)).collect()
}

/// Shows a claim; whether it holds.
async fn show(world: &World, case: Case, arguments: &Arguments) -> bool {
    let start = Instant::now();
    let room = match Room::open(world, case.name).await {
        Ok(room) => room,
        Err(error) => {
            println!("FAIL     0.0 s  {}: no namespace: {error:#}", case.name);
            return false;
        }
    };
    let limit = case.limit();
    let result = tokio::time::timeout(limit, (case.run)(&room))
        .await
        .with_context(|| format!("not within {limit:?}"))
        .flatten();
    let took = start.elapsed().as_secs_f64();
    if let Err(error) = &result {
        println!("FAIL  {took:>6.1} s  {}: {error:#}", case.name);
        match evidence::collect(&room, &arguments.logs, error) {
            Ok(place) => println!("      see {}", place.display()),
            Err(error) => println!("      no evidence: {error:#}"),
        }
        if arguments.keep {
            println!("      kept: namespace {}", room.namespace);
            return false;
        }
    } else {
        println!("ok    {took:>6.1} s  {}", case.name);
        world.passed.borrow_mut().push(case.name);
    }
    if let Err(error) = room.close().await {
        println!("      namespace {} stays: {error:#}", room.namespace);
    }
    result.is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(third: u32) -> BTreeSet<&'static str> {
        let arguments = ["e2e", "core", "--third", &third.to_string()];
        let arguments = Arguments::try_parse_from(arguments).unwrap();
        choose(cases::all(), &arguments)
            .iter()
            .map(|case| case.name)
            .collect()
    }

    #[test]
    fn three_thirds_are_all_cases_and_each_has_the_core() {
        let thirds: Vec<BTreeSet<&str>> = (0..3).map(names).collect();
        let all: BTreeSet<&str> = cases::all().iter().map(|case| case.name).collect();
        let union: BTreeSet<&str> = thirds.iter().flatten().copied().collect();
        assert_eq!(union, all);
        let core = cases::all();
        let core = core.iter().filter(|case| case.level == Level::Core);
        let core: BTreeSet<&str> = core.map(|case| case.name).collect();
        let common: BTreeSet<&str> = &(&thirds[0] & &thirds[1]) & &thirds[2];
        assert_eq!(common, core);
    }

    #[test]
    fn no_two_cases_share_a_name() {
        let names: Vec<&str> = cases::all().iter().map(|case| case.name).collect();
        let distinct: BTreeSet<&&str> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}

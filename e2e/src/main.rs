//! Tests against a running stack of containers: the real images, RabbitMQ,
//! Redis and volumes, broken on purpose. `cargo xtask e2e` builds the images
//! and runs this.
//!
//! Each run has a stack of its own, under its own project name and on free
//! ports, and takes it down again. Each case says in its name what it claims,
//! and leaves the stack whole. A wait is a predicate with a deadline.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a test from outside; the simulation has no part in it"
)]

mod cases;
mod stack;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use holdfast_e2e::level::Level;
use holdfast_e2e::{content, gateway, wait};

use crate::stack::Stack;

#[derive(Parser)]
struct Arguments {
    #[arg(value_enum, default_value = "core")]
    level: Level,
    /// Only cases whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// Leaves the stack running, and says how it is reached.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<bool> {
    let chosen: Vec<_> = cases::all()
        .into_iter()
        .filter(|case| case.level <= arguments.level)
        .filter(|case| {
            arguments
                .only
                .as_ref()
                .is_none_or(|only| case.name.contains(only.as_str()))
        })
        .collect();
    let stack = Stack::start(arguments.keep).await?;
    let (mut passed, mut failed) = (0, 0);
    for case in chosen {
        let start = Instant::now();
        let result = (case.run)(&stack, arguments.level).await;
        let took = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                passed += 1;
                println!("ok    {took:>6.1} s  {}", case.name);
            }
            Err(error) => {
                failed += 1;
                println!("FAIL  {took:>6.1} s  {}: {error:#}", case.name);
                stack.print_logs();
            }
        }
        // The next case begins with a whole stack, whatever this one left.
        stack.up()?;
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

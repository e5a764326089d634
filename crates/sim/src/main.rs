//! `holdfast-sim`: runs seeds, and says which of them fails.
//!
//! Ends with 0 when every seed went well, with 1 when one did not, with 2 when
//! it was asked for something senseless.

mod pool;
mod show;

use std::process::ExitCode;

use clap::Parser;
use holdfast_sim::{Run, run_seed};

/// Runs whole clusters in simulated time under faults drawn from a seed.
#[derive(Clone, Parser)]
#[command(version)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, from the first on.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Processes that run seeds at the same time; one for each core where it is not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Nodes of the cluster; 3 to 5 by the seed where it is not given.
    #[arg(long)]
    nodes: Option<usize>,
    /// Prints the whole story, of seeds that go well too.
    #[arg(long)]
    story: bool,
    /// Prints a line for each seed.
    #[arg(long)]
    each: bool,
    /// Goes on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
    /// Reads seeds from its input and runs them: what the other processes are.
    #[arg(long, hide = true)]
    worker: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.worker {
        return pool::work(&arguments);
    }
    if arguments.count > 1 {
        return pool::run(&arguments);
    }
    let (seed, nodes) = (arguments.seed, arguments.nodes);
    let live = arguments.story;
    let report = run_seed(Run {
        seed,
        nodes,
        live,
        ..Run::default()
    });
    print!("{}", show::text(&report, nodes, !live));
    match report.wrong.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

//! `holdfast-sim`: runs seeds, and says which of them fails.

use std::process::ExitCode;

use clap::Parser;
use holdfast_sim::{Report, Run, run_seed};

/// Lines of the story that are printed for a seed that fails.
const SHOWN_LINES: usize = 60;

/// Runs whole clusters in simulated time under faults drawn from a seed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Nodes of the cluster; 3 or 4 by the seed where it is not given.
    #[arg(long)]
    nodes: Option<usize>,
    /// Prints the whole story, of seeds that go well too.
    #[arg(long)]
    story: bool,
    /// Goes on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut failed = 0u64;
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.count) {
        let nodes = arguments.nodes;
        let again = replay(seed, nodes);
        let before = std::panic::take_hook();
        let hint = again.clone();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            eprintln!("seed {seed} panicked: replay it with {hint}");
        }));
        let report = run_seed(Run { seed, nodes });
        // The next seed sets its own.
        drop(std::panic::take_hook());
        show(&report, &again, arguments.story);
        if !report.wrong.is_empty() {
            failed += 1;
            if !arguments.keep_going {
                return ExitCode::FAILURE;
            }
        }
    }
    if failed > 0 {
        println!("{failed} of {} seeds failed", arguments.count);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn replay(seed: u64, nodes: Option<usize>) -> String {
    let nodes = nodes.map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
    format!("cargo run -p holdfast-sim -- --seed {seed}{nodes}")
}

fn show(report: &Report, again: &str, story: bool) {
    let (digest, events) = &report.digest;
    let counts = report.counts;
    let word = if report.wrong.is_empty() {
        "ok"
    } else {
        "FAILED"
    };
    println!(
        "seed {} {word}: {} nodes, {:?} simulated, {events} events, {} puts, {} reads, {} deletes, \
         {} listings, {} downloads, {} unknown, {} failed, trace {}",
        report.seed,
        report.nodes,
        report.took,
        counts.puts,
        counts.reads,
        counts.deletes,
        counts.listings,
        counts.downloads,
        counts.unknown,
        counts.failed,
        digest.get(..16).unwrap_or_default(),
    );
    let shown = match (story, report.wrong.is_empty()) {
        (true, _) => report.story.len(),
        (false, false) => SHOWN_LINES,
        (false, true) => 0,
    };
    for line in report
        .story
        .iter()
        .skip(report.story.len().saturating_sub(shown))
    {
        println!("  {line}");
    }
    for wrong in &report.wrong {
        println!("  wrong: {wrong}");
    }
    if !report.wrong.is_empty() {
        println!("  replay it with {again}");
    }
}

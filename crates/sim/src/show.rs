//! What is printed of a seed.

use std::fmt::Write;

use holdfast_sim::Report;

/// Lines of the story that are printed for a seed that fails.
const SHOWN_LINES: usize = 60;

/// How a seed is run again.
pub fn replay(seed: u64, nodes: Option<usize>) -> String {
    let nodes = nodes.map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
    format!("cargo run --release -p holdfast-sim -- --seed {seed}{nodes} --story")
}

/// One line for a seed that went well; for another what was wrong, the end of
/// its story if it was not printed before, and how to replay it.
pub fn text(report: &Report, nodes: Option<usize>, ending: bool) -> String {
    let well = report.wrong.is_empty();
    let mut text = line(report);
    let shown = if ending && !well { SHOWN_LINES } else { 0 };
    let skipped = report.story.len().saturating_sub(shown);
    for line in report.story.iter().skip(skipped) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {line}");
    }
    for wrong in &report.wrong {
        let _ = writeln!(text, "  wrong: {wrong}");
    }
    if !well {
        let _ = writeln!(text, "  replay it with {}", replay(report.seed, nodes));
    }
    text
}

fn line(report: &Report) -> String {
    let (digest, events) = &report.digest;
    let counts = report.counts;
    format!(
        "seed {} {}: {} nodes, {:?} simulated, {events} events, {} puts, {} reads, {} deletes, \
         {} listings, {} downloads, {} conditions unmet, {} unknown, {} asked again, {} failed, trace {}\n",
        report.seed,
        if report.wrong.is_empty() {
            "ok"
        } else {
            "FAILED"
        },
        report.nodes,
        report.took,
        counts.puts,
        counts.reads,
        counts.deletes,
        counts.listings,
        counts.downloads,
        counts.unmet,
        counts.unknown,
        counts.again,
        counts.failed,
        digest.get(..16).unwrap_or_default(),
    )
}

//! How long each step took, and how long it may take: a suite that grows slow
//! is not run.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The steps so far.
#[derive(Default)]
pub struct Budget {
    steps: Vec<Step>,
}

struct Step {
    name: &'static str,
    took: Duration,
    allowed: Duration,
}

impl Budget {
    /// Runs a step that should take at most `seconds`.
    pub fn step<T>(
        &mut self,
        name: &'static str,
        seconds: u64,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        let result = work();
        self.steps.push(Step {
            name,
            took: start.elapsed(),
            allowed: Duration::from_secs(seconds),
        });
        result
    }

    /// Prints the steps. A step over its time is pointed out and fails nothing:
    /// machines differ.
    pub fn report(&self) {
        for Step {
            name,
            took,
            allowed,
        } in &self.steps
        {
            let over = if took > allowed { "  OVER BUDGET" } else { "" };
            eprintln!(
                "{:>8.1} s of {:>5} s  {name}{over}",
                took.as_secs_f64(),
                allowed.as_secs()
            );
        }
    }
}

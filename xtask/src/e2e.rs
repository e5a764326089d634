//! The suites against containers: under docker compose, and in a Kubernetes
//! cluster. Both take the same release binaries, built once.

use std::process::Command;

use anyhow::{Context, Result};

use crate::budget::Budget;
use crate::{binaries, execute, kubernetes, root};

/// How much of the suites.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// What each change must pass.
    Core,
    /// All of it.
    Full,
}

impl Level {
    /// As the suites' programs call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Full => "full",
        }
    }
}

/// What of the suites runs.
#[derive(clap::Args)]
pub struct Chosen {
    /// How much of it.
    #[arg(value_enum, default_value = "core")]
    level: Level,
    /// Everything: the level `full`, under docker compose and in Kubernetes.
    #[arg(long, conflicts_with_all = ["compose_only", "kubernetes_only", "only"])]
    all: bool,
    /// Beside the level `core`, a third of what only the level `full` has in
    /// Kubernetes: another third with another commit, so that all of it runs
    /// again and again without a run of hours.
    #[arg(long, conflicts_with_all = ["all", "only"])]
    third: bool,
    /// Only what runs under docker compose.
    #[arg(long, conflicts_with = "kubernetes_only")]
    compose_only: bool,
    /// Only what runs in a Kubernetes cluster.
    #[arg(long)]
    kubernetes_only: bool,
    /// Only tests whose names contain this.
    #[arg(long)]
    only: Option<String>,
}

/// Builds, and runs what was chosen.
pub fn run(budget: &mut Budget, chosen: &Chosen) -> Result<()> {
    let level = if chosen.all {
        Level::Full
    } else {
        chosen.level
    };
    let only = chosen.only.as_deref();
    let cluster = if chosen.compose_only {
        None
    } else {
        // Looked for first: nobody waits for a build to hear that there is none.
        kubernetes::find(chosen.all || chosen.kubernetes_only)?
    };
    binaries::provide(budget, &[binaries::SUITES])?;
    if !chosen.kubernetes_only {
        compose(budget, level, only)?;
    }
    match cluster {
        Some(cluster) => {
            let third = chosen.third.then(third_of_this_commit).transpose()?;
            let cases = kubernetes::Cases { level, only, third };
            kubernetes::suite(budget, &cluster, &cases)
        }
        None => Ok(()),
    }
}

/// Which third is this commit's turn.
fn third_of_this_commit() -> Result<u32> {
    let printed = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(root())
        .output();
    // What is no checkout has no turn: the first.
    let printed = printed.map(|output| output.stdout).unwrap_or_default();
    let commit = String::from_utf8(printed)?;
    let third = third_of(&commit);
    println!("third {} of 3, by commit {}", third + 1, commit.trim());
    Ok(third)
}

/// The first digits of a hash are as good as all of them.
fn third_of(commit: &str) -> u32 {
    let digits = commit.get(..8).unwrap_or_default();
    u32::from_str_radix(digits, 16).unwrap_or_default() % 3
}

fn compose(budget: &mut Budget, level: Level, only: Option<&str>) -> Result<()> {
    budget.step("images", 180, || {
        execute(
            Command::new("docker")
                .args(["compose", "build", "--quiet"])
                .current_dir(root())
                .env("HOLDFAST_BINARIES", "prebuilt")
                .env("HOLDFAST_TAG", "e2e")
                .env("DOCKER_BUILDKIT", "1"),
        )
        .context("docker compose is needed for this suite")
    })?;
    let seconds = match level {
        Level::Core => 600,
        Level::Full => 3600,
    };
    budget.step("compose suite", seconds, || {
        let mut suite = Command::new(binaries::release_directory()?.join("holdfast-e2e"));
        suite
            .arg(level.name())
            .current_dir(root())
            .env("HOLDFAST_BINARIES", "prebuilt")
            .env("HOLDFAST_TAG", "e2e");
        if let Some(only) = only {
            suite.args(["--only", only]);
        }
        execute(&mut suite)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_third_has_its_commits() {
        let thirds = ["00000000a", "00000001b", "fffffffe0"].map(third_of);
        assert_eq!(thirds, [0, 1, 2]);
        assert_eq!(third_of(""), 0);
    }
}

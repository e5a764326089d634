//! The suite against containers: release binaries are built once, here, and
//! given to the images; then the suite's own program runs against the stack.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::budget::Budget;
use crate::{cargo, execute, root};

/// How much of the suite.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Level {
    /// What each change must pass.
    Core,
    /// All of it.
    Full,
}

/// The programs that the images hold.
const BINARIES: [&str; 5] = [
    "holdfast",
    "holdfast-operator",
    "holdfast-node",
    "holdfast-gateway",
    "holdfast-worker",
];
const PACKAGES: [&str; 6] = [
    "holdfast-cli",
    "holdfast-operator",
    "holdfast-node",
    "holdfast-gateway",
    "holdfast-worker",
    "holdfast-e2e",
];

/// Builds, and runs the suite.
pub fn run(
    budget: &mut Budget,
    level: Level,
    compose_only: bool,
    only: Option<&str>,
) -> Result<()> {
    if !compose_only {
        // There is no other kind of stack yet.
        eprintln!("the suite runs under docker compose");
    }
    budget.step("release binaries", 2400, || {
        let mut build = cargo();
        build.args(["build", "--release", "--locked"]);
        for package in PACKAGES {
            build.args(["-p", package]);
        }
        execute(&mut build)
    })?;
    budget.step("images", 180, || {
        provide_binaries(&root().join("docker/prebuilt"))?;
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
    let (name, seconds) = match level {
        Level::Core => ("core", 600),
        Level::Full => ("full", 3600),
    };
    budget.step("compose suite", seconds, || {
        let mut suite = Command::new(release_directory()?.join("holdfast-e2e"));
        suite
            .arg(name)
            .current_dir(root())
            .env("HOLDFAST_BINARIES", "prebuilt")
            .env("HOLDFAST_TAG", "e2e");
        if let Some(only) = only {
            suite.args(["--only", only]);
        }
        execute(&mut suite)
    })
}

/// Copies the programs to where the images take them from, without their symbols.
fn provide_binaries(to: &Path) -> Result<()> {
    let from = release_directory()?;
    for name in BINARIES {
        let (source, target) = (from.join(name), to.join(name));
        let stripped = Command::new("strip")
            .arg("-o")
            .args([&target, &source])
            .status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(&source, &target)
                .with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}

fn release_directory() -> Result<std::path::PathBuf> {
    let output = cargo()
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    match metadata
        .get("target_directory")
        .and_then(serde_json::Value::as_str)
    {
        Some(directory) => Ok(Path::new(directory).join("release")),
        None => bail!("cargo metadata names no target directory"),
    }
}

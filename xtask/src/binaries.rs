//! The programs that images hold: built once, in release, here, and given to
//! the images as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::budget::Budget;
use crate::{cargo, execute, next_release, root};

/// The programs.
pub const BINARIES: [&str; 5] = [
    "holdfast",
    "holdfast-operator",
    "holdfast-node",
    "holdfast-gateway",
    "holdfast-worker",
];
/// Where they come from.
const PACKAGES: [&str; 5] = [
    "holdfast-cli",
    "holdfast-operator",
    "holdfast-node",
    "holdfast-gateway",
    "holdfast-worker",
];

/// The package of the suites that images are tested with.
pub const SUITES: &str = "holdfast-e2e";
/// Where images take the programs from, in the repository.
pub const PREBUILT: &str = "docker/prebuilt";
/// Where they take those from that are a release ahead.
pub const PREBUILT_AHEAD: &str = "docker/prebuilt-ahead";

/// Builds the programs and `more` packages, and lays the programs where the
/// images take them from, without their symbols.
pub fn provide(budget: &mut Budget, more: &[&str]) -> Result<()> {
    budget.step("release binaries", 2400, || {
        execute(of_release(cargo().arg("build"), more))?;
        lay_out(PREBUILT)
    })
}

/// Builds programs that are a release ahead, and then the usual ones again: what
/// lies in the target directory is never of a release that there is not.
pub fn provide_ahead(budget: &mut Budget) -> Result<()> {
    budget.step("release binaries, a release ahead", 2400, || {
        // With the packages of the suite's own build: what is not ours is there.
        let programs = || next_release::programs(&BINARIES);
        let mut ahead = next_release::ahead();
        ahead.args(["-p", "holdfast-model"]).args(programs());
        execute(of_release(&mut ahead, &[SUITES]))?;
        lay_out(PREBUILT_AHEAD)?;
        let mut usual = cargo();
        execute(of_release(usual.arg("build").args(programs()), &[SUITES]))
    })
}

fn of_release<'c>(build: &'c mut Command, more: &[&str]) -> &'c mut Command {
    build.args(["--release", "--locked"]);
    for package in PACKAGES.iter().chain(more) {
        build.args(["-p", package]);
    }
    build
}

fn lay_out(directory: &str) -> Result<()> {
    let (from, to) = (release_directory()?, root().join(directory));
    fs::create_dir_all(&to)?;
    BINARIES
        .iter()
        .try_for_each(|name| strip(&from.join(name), &to.join(name)))
}

fn strip(source: &Path, target: &Path) -> Result<()> {
    let stripped = Command::new("strip")
        .arg("-o")
        .args([target, source])
        .status();
    if !stripped.is_ok_and(|status| status.success()) {
        fs::copy(source, target).with_context(|| format!("cannot copy {}", source.display()))?;
    }
    Ok(())
}

/// Where cargo puts what it builds in release.
pub fn release_directory() -> Result<PathBuf> {
    Ok(target_directory()?.join("release"))
}

/// Where cargo puts what it builds.
pub fn target_directory() -> Result<PathBuf> {
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
        Some(directory) => Ok(PathBuf::from(directory)),
        None => bail!("cargo metadata names no target directory"),
    }
}

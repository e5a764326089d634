//! The programs that images hold: built once, in release, here, and given to
//! the images as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::budget::Budget;
use crate::{cargo, execute, root};

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

/// Builds the programs and `more` packages, and lays the programs where the
/// images take them from, without their symbols.
pub fn provide(budget: &mut Budget, more: &[&str]) -> Result<()> {
    budget.step("release binaries", 2400, || {
        let mut build = cargo();
        build.args(["build", "--release", "--locked"]);
        for package in PACKAGES.iter().chain(more) {
            build.args(["-p", package]);
        }
        execute(&mut build)?;
        let (from, to) = (release_directory()?, prebuilt_directory());
        BINARIES
            .iter()
            .try_for_each(|name| strip(&from.join(name), &to.join(name)))
    })
}

/// Where the images take programs from.
pub fn prebuilt_directory() -> PathBuf {
    root().join("docker/prebuilt")
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

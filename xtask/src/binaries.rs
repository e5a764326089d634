//! The programs that images hold: built once, in release, here, and given to
//! the images as they are.

use std::fs;
use std::os::unix::fs::symlink;
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

/// The services' programs, and the package and program that is each of them a
/// release ahead, by the name that it is started by: for tests alone.
const SERVICES: [&str; 4] = [
    "holdfast-operator",
    "holdfast-node",
    "holdfast-gateway",
    "holdfast-worker",
];
const AHEAD: &str = "holdfast-ahead";

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
        lay_out(PREBUILT, |name| name)
    })
}

/// Builds what is a release ahead, and lays it where the images of the next
/// release take their programs from. With the packages of the suite's own build
/// it is a link more: what it is made of is there.
pub fn provide_ahead(budget: &mut Budget) -> Result<()> {
    budget.step("release binaries, a release ahead", 600, || {
        execute(of_release(cargo().arg("build"), &[SUITES, AHEAD]))?;
        lay_out(PREBUILT_AHEAD, |name| match SERVICES.contains(&name) {
            true => AHEAD,
            false => name,
        })
    })
}

/// Lets tests over processes find what is a release ahead by the services'
/// names, in a directory of its own.
pub fn link_ahead() -> Result<()> {
    let directory = target_directory()?.join("debug").join("next");
    fs::create_dir_all(&directory)?;
    for name in SERVICES {
        let link = directory.join(name);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        symlink(Path::new("..").join(AHEAD), &link)
            .with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(())
}

fn of_release<'c>(build: &'c mut Command, more: &[&str]) -> &'c mut Command {
    build.args(["--release", "--locked"]);
    for package in PACKAGES.iter().chain(more) {
        build.args(["-p", package]);
    }
    build
}

/// Lays every program into `directory`, made of the one that `source` names.
fn lay_out(directory: &str, source: impl Fn(&'static str) -> &'static str) -> Result<()> {
    let (from, to) = (release_directory()?, root().join(directory));
    fs::create_dir_all(&to)?;
    BINARIES
        .iter()
        .try_for_each(|name| strip(&from.join(source(name)), &to.join(name)))
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

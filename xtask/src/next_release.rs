//! Programs that claim the formats of the next release, so that an upgrade can
//! be tested before there is one. They come to lie apart from the usual ones.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::binaries::target_directory;
use crate::budget::Budget;
use crate::{cargo, execute};

/// Without this feature the variable does nothing, and without the variable the
/// feature: crates/model/src/release.rs.
const FEATURE: &str = "holdfast-model/test-release";
const VARIABLE: (&str, &str) = ("HOLDFAST_TEST_RELEASE_BUMP", "1");
/// The programs that tests over processes start.
const PROGRAMS: [&str; 2] = ["holdfast-node", "holdfast-gateway"];

/// Builds them for tests over processes, without optimisation. Whoever needs the
/// usual ones too builds those after it: cargo keeps both, and lays the ones that
/// it was asked for last where programs lie.
pub fn build(budget: &mut Budget) -> Result<()> {
    budget.step("programs of the next release", 900, || {
        execute(ahead().arg("--workspace").args(programs(&PROGRAMS)))?;
        let directory = target_directory()?.join("debug");
        lay_apart(&directory, &directory.join("next"), &PROGRAMS)?;
        let mut usual = cargo();
        execute(
            usual
                .args(["build", "--workspace"])
                .args(programs(&PROGRAMS)),
        )
    })
}

/// `cargo build`, a release ahead, of packages among which must be the model.
/// With the packages of another build, what is not ours is not built again.
pub fn ahead() -> Command {
    let mut build = cargo();
    build
        .args(["build", "--features", FEATURE])
        .env(VARIABLE.0, VARIABLE.1);
    build
}

/// Of the packages that are chosen, only these programs.
pub fn programs<'n>(names: &'n [&'n str]) -> impl Iterator<Item = &'n str> {
    names.iter().flat_map(|name| ["--bin", *name])
}

/// Copies programs to a directory of their own.
pub fn lay_apart(from: &Path, to: &Path, names: &[&str]) -> Result<()> {
    fs::create_dir_all(to)?;
    for name in names {
        let target = to.join(name);
        // A program that runs cannot be written over, but another put in its place.
        if target.exists() {
            fs::remove_file(&target)?;
        }
        fs::copy(from.join(name), &target).with_context(|| format!("cannot copy {name}"))?;
    }
    Ok(())
}

//! Holdfast in a Kubernetes cluster: images that hold the binaries built here,
//! the chart, and the suite against both.
//!
//! The cluster is that of KUBECONFIG where this variable is set, and otherwise
//! one that kind makes: never the one that kubectl would take by itself, which
//! may be somebody's real one.

mod access;
mod images;
mod release;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::binaries::{self, PREBUILT, PREBUILT_AHEAD};
use crate::budget::Budget;
use crate::e2e::Level;
use crate::{execute, root};

pub use access::{Found, find};
use images::Images;

/// The cases alone, on a machine of two cores.
const CORE_SECONDS: u64 = 900;
/// A third of what only the level `full` has.
const THIRD_SECONDS: u64 = 1500;
/// All of them.
const FULL_SECONDS: u64 = 5400;

/// Which cases run.
pub struct Cases<'a> {
    /// How much of them.
    pub level: Level,
    /// Only those whose names contain this.
    pub only: Option<&'a str>,
    /// Beside the level, this third of the others.
    pub third: Option<u32>,
}

impl Cases<'_> {
    fn seconds(&self) -> u64 {
        match (self.level, self.third) {
            (Level::Core, None) => CORE_SECONDS,
            (Level::Core, Some(_)) => CORE_SECONDS + THIRD_SECONDS,
            (Level::Full, _) => FULL_SECONDS,
        }
    }
}

/// Builds, loads and installs, or upgrades what is installed.
pub fn cluster(budget: &mut Budget) -> Result<()> {
    let found = find(true)?;
    // With what the suite needs, so that both take the same build of everything.
    binaries::provide(budget, &["holdfast-e2e"])?;
    let Some(found) = found else { return Ok(()) };
    // It is for a person to look at: kept, also where kind has just made it.
    let cluster = budget.step("cluster", 300, || found.open())?;
    let images = provide_images(budget, &cluster)?;
    budget.step("helm upgrade", 120, || {
        release::install(&cluster, &images, "info")
    })?;
    println!("export KUBECONFIG={}", cluster.kubeconfig.display());
    Ok(())
}

/// Measures what is built here in the cluster.
pub fn bench(budget: &mut Budget, more: &[String]) -> Result<()> {
    let found = find(true)?;
    binaries::provide(budget, &["holdfast-e2e", "holdfast-bench"])?;
    let Some(found) = found else { return Ok(()) };
    let cluster = budget.step("cluster", 300, || found.open())?;
    let images = provide_images(budget, &cluster)?;
    budget.step("helm upgrade", 120, || {
        release::install(&cluster, &images, "info")
    })?;
    let other = budget.step("load them by another name", 180, || {
        let other = images::by_another_name(&images)?;
        images::load(&cluster, &other)?;
        Ok(other)
    })?;
    budget.step("bench", 7200, || {
        let program = binaries::release_directory()?.join("holdfast-bench");
        let mut bench = Command::new(program);
        bench
            .args(["--k8s", "--tag", &images.store])
            .args(["--other-tag", &other.store])
            .args(more)
            .current_dir(root());
        execute(cluster.use_in(&mut bench))
    })?;
    budget.step("clean up", 180, || {
        release::remove_namespaces(&cluster)?;
        cluster.close()
    })
}

/// Builds images, installs the chart, runs the suite, and takes away what it made.
pub fn suite(budget: &mut Budget, found: &Found, cases: &Cases<'_>) -> Result<()> {
    let cluster = budget.step("cluster", 300, || found.open())?;
    let there_before = release::is_installed(&cluster);
    let result = run(budget, &cluster, cases);
    let cleaned = budget.step("clean up", 180, || {
        release::remove_namespaces(&cluster)?;
        if !there_before {
            release::uninstall(&cluster)?;
        }
        cluster.close()
    });
    // Why the suite failed comes before why something could not be removed.
    result.and(cleaned)
}

fn run(budget: &mut Budget, cluster: &access::Cluster, cases: &Cases<'_>) -> Result<()> {
    let images = provide_images(budget, cluster)?;
    // What a third holds, the suite's program alone knows.
    let further = cases.level == Level::Full || cases.third.is_some();
    let next = further.then(|| provide_next(budget, cluster)).transpose()?;
    budget.step("helm install", 120, || {
        // Of a run that was ended before it had cleaned up.
        release::remove_namespaces(cluster)?;
        release::install(cluster, &images, "info,holdfast_operator=debug")?;
        release::test(cluster)
    })?;
    budget.step("Kubernetes suite", cases.seconds(), || {
        // What is there afterwards is of this run.
        if logs().exists() {
            fs::remove_dir_all(logs()).context("cannot remove the logs of an earlier run")?;
        }
        let program = binaries::release_directory()?.join("holdfast-e2e-kubernetes");
        let mut suite = Command::new(program);
        if let Some(next) = &next {
            suite
                .args(["--next-tag", &next.store])
                .args(["--next-operator-tag", &next.operator]);
        }
        suite
            .arg(cases.level.name())
            .args(["--tag", &images.store])
            .arg("--logs")
            .arg(logs())
            .current_dir(root());
        if let Some(only) = cases.only {
            suite.args(["--only", only]);
        }
        if let Some(third) = cases.third {
            suite.args(["--third", &third.to_string()]);
        }
        execute(cluster.use_in(&mut suite))
    })
}

fn provide_images(budget: &mut Budget, cluster: &access::Cluster) -> Result<Images> {
    let images = budget.step("images for Kubernetes", 180, || images::build(PREBUILT))?;
    budget.step("load images", 180, || images::load(cluster, &images))?;
    Ok(images)
}

/// Images that are a release ahead, for the case that upgrades.
fn provide_next(budget: &mut Budget, cluster: &access::Cluster) -> Result<Images> {
    binaries::provide_ahead(budget)?;
    budget.step("images of the next release", 240, || {
        let images = images::build(PREBUILT_AHEAD)?;
        images::load(cluster, &images)?;
        Ok(images)
    })
}

/// Where logs, events and resources of failed cases are left.
fn logs() -> PathBuf {
    root().join("target/e2e-logs")
}

//! What building and testing need beyond cargo: `cargo xtask test`, `e2e`,
//! `cluster`, `crds`, `sim`, `soak`, `bench`, `check-manifests`.
//!
//! Promises: it installs nothing but the two servers that tests talk to, and
//! those only where they are missing; whatever it starts it ends, by its own
//! process id; it says how long each step took and how long it may take.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool that runs other programs; the simulation has no part in it"
)]

mod binaries;
mod budget;
mod crds;
mod e2e;
mod kubernetes;
mod manifests;
mod reference;
mod servers;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::budget::Budget;

#[derive(Parser)]
#[command(about = "What building and testing need beyond cargo")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs all tests that need no containers, with a real RabbitMQ and a real Redis.
    Test {
        /// Goes to `cargo test`: `-- -p holdfast-queue`, say. Without it, the whole workspace.
        #[arg(last = true)]
        cargo: Vec<String>,
    },
    /// Runs the suites against containers: under docker compose, then in the
    /// Kubernetes cluster of KUBECONFIG, or in one that kind makes.
    E2e {
        #[command(flatten)]
        chosen: e2e::Chosen,
    },
    /// Builds, loads and installs (or upgrades) the operator, into the
    /// Kubernetes cluster of KUBECONFIG or into one that kind makes.
    Cluster,
    /// Writes the definition of StorageCluster, as its types say, to where it is kept.
    Crds {
        /// Says whether it is there, and writes nothing.
        #[arg(long)]
        check: bool,
    },
    /// Runs seeded simulations, or one seed again.
    Sim {
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds, from the first on.
        #[arg(long, default_value_t = 1)]
        count: u64,
        /// Processes at the same time; one for each core where it is not given.
        #[arg(long)]
        jobs: Option<usize>,
        /// Goes on after a seed that fails.
        #[arg(long)]
        keep_going: bool,
    },
    /// Mixed load over real processes that are killed, stopped and paused at random.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// Storage nodes.
        #[arg(long, default_value_t = 4)]
        nodes: u64,
        /// Draws load and faults; another one each time unless given.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Measures this machine, and Holdfast against it.
    Bench {
        /// StorageClusters instead, in the Kubernetes cluster of KUBECONFIG, with
        /// what is built here installed.
        #[arg(long)]
        k8s: bool,
        /// Goes to the bench: `-- --rounds 1`, say.
        #[arg(last = true)]
        bench: Vec<String>,
    },
    /// Checks which crate may depend on which.
    CheckManifests,
}

fn main() -> ExitCode {
    let mut budget = Budget::default();
    let result = run(&mut budget);
    budget.report();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(budget: &mut Budget) -> Result<()> {
    match Arguments::parse().task {
        Task::Test { cargo } => test(budget, &cargo),
        Task::E2e { chosen } => e2e::run(budget, &chosen),
        Task::Cluster => kubernetes::cluster(budget),
        Task::Crds { check } => crds::run(check),
        Task::Sim {
            seed,
            count,
            jobs,
            keep_going,
        } => {
            budget.step("compile the simulation", 600, || {
                execute(cargo().args(["build", "--release", "-p", "holdfast-sim"]))
            })?;
            // About nine tenths of a second of a core each.
            budget.step("simulation", 60 + count, || {
                let mut command = cargo();
                command
                    .args(["run", "--quiet", "--release", "-p", "holdfast-sim", "--"])
                    .args(["--seed", &seed.to_string(), "--count", &count.to_string()]);
                if let Some(jobs) = jobs {
                    command.args(["--jobs", &jobs.to_string()]);
                }
                if keep_going {
                    command.arg("--keep-going");
                }
                execute(&mut command)
            })
        }
        Task::Soak {
            minutes,
            nodes,
            seed,
        } => soak(budget, minutes, nodes, seed),
        Task::Bench { k8s: true, bench } => kubernetes::bench(budget, &bench),
        Task::Bench { k8s: false, bench } => budget.step("bench", 1800, || {
            let run = ["run", "--release", "-p", "holdfast-bench", "--"];
            execute(cargo().args(run).args(&bench))
        }),
        Task::CheckManifests => manifests::check(),
    }
}

/// The programs of the tests, which check their arithmetic as they run.
const SOAKED: [&str; 4] = [
    "holdfast-node",
    "holdfast-gateway",
    "holdfast-worker",
    "holdfast-e2e",
];

fn soak(budget: &mut Budget, minutes: u64, nodes: u64, seed: Option<u64>) -> Result<()> {
    budget.step("start RabbitMQ and Redis once", 120, || {
        // Installs them where they are missing; the run starts its own.
        servers::Servers::start().map(drop)
    })?;
    budget.step("programs", 1500, || {
        let mut build = cargo();
        build.arg("build");
        for package in SOAKED {
            build.args(["-p", package]);
        }
        execute(&mut build)
    })?;
    // Beside the run itself: its start, healing, and the last look at everything.
    budget.step("soak", minutes * 60 + 900, || {
        let mut run = cargo();
        run.args(["run", "-p", "holdfast-e2e", "--bin", "holdfast-soak", "--"])
            .args(["--minutes", &minutes.to_string()])
            .args(["--nodes", &nodes.to_string()]);
        if let Some(seed) = seed {
            run.args(["--seed", &seed.to_string()]);
        }
        execute(&mut run)
    })
}

fn test(budget: &mut Budget, chosen: &[String]) -> Result<()> {
    let whole = ["--workspace".to_owned()];
    let chosen = if chosen.is_empty() {
        &whole[..]
    } else {
        chosen
    };
    // Compiling first: the servers then do not wait for it, and a failure to
    // compile is known sooner.
    budget.step("compile the tests", 1500, || {
        execute(cargo().args(["test", "--no-run"]).args(chosen))?;
        // The suites over real processes start them from beside the tests.
        execute(cargo().args(["build", "--workspace", "--bins"]))?;
        binaries::link_ahead()
    })?;
    let servers = budget.step("start RabbitMQ and Redis", 120, servers::Servers::start)?;
    budget.step("tests", 900, || {
        execute(
            cargo()
                .arg("test")
                .args(chosen)
                .env(servers::RABBITMQ_VARIABLE, servers.rabbitmq_url())
                .env(servers::REDIS_VARIABLE, servers.redis_url()),
        )
    })
}

/// The cargo that runs this.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What `cargo run` tells this program of itself: build scripts that look at
    // it would run again, and all that rests on them would be built again.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Runs a program to its end.
fn execute(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

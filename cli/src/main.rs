//! The `holdfast` command: a whole cluster in one process for development, and
//! the way from a terminal to a cluster that runs elsewhere.
//!
//! Promises: an error says what to do about it, and its kind is the exit code;
//! with `--json` standard output carries JSON alone, one value a line; progress
//! goes to standard error, and only to a terminal.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the command is a client at a terminal; the simulation has no part in it"
)]

mod access;
mod admin;
mod api;
mod arguments;
mod backup;
mod dev;
mod explain;
mod failure;
mod get;
mod health;
mod listing;
mod progress;
mod put;
mod restore;
#[cfg(test)]
mod settings_table;
mod show;
mod status;

use std::process::ExitCode;

use clap::Parser;

use crate::access::Access;
use crate::api::Api;
use crate::arguments::{Admin, Arguments, Command, Explain};
use crate::failure::Failure;
use crate::show::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("holdfast: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("holdfast: {failure}");
            if let Some(advice) = failure.advice() {
                eprintln!("  {advice}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let output = Output {
        json: arguments.json,
    };
    if let Command::Dev(dev) = &arguments.command {
        return dev::run(dev, &arguments.data).await;
    }
    if let Command::Admin(Admin::Restore(order)) = arguments.command {
        return restore::run(order, arguments.data, output).await;
    }
    if let Command::Explain(Explain::Plan(plan)) = &arguments.command {
        return explain::plan(plan, output);
    }
    let access = Access {
        url: arguments.url,
        key: arguments.key,
        data: arguments.data,
        tls_dir: arguments.tls_dir,
    };
    let api = || Api::new(&access);
    match arguments.command {
        // They were told apart above: they need no gateway.
        Command::Dev(_) | Command::Explain(_) => Ok(()),
        Command::Put(put) => put::run(&api()?, &put, output).await,
        Command::Get(get) => get::run(&api()?, &get, output).await,
        Command::Ls(ls) => listing::list(&api()?, &ls, output).await,
        Command::Rm(rm) => listing::remove(&api()?, &rm, output).await,
        Command::Status => status::run(&api()?, output).await,
        Command::Key => access.print_key(output),
        Command::Health { address } => health::run(&access, &address).await,
        Command::Admin(admin) => admin::run(&api()?, admin, output).await,
    }
}

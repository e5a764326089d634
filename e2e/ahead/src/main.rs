//! Our services with the formats of the next release, FOR TESTS ALONE: so that
//! an upgrade can be tested before there is a release to upgrade to.
//!
//! It is that service by whose name it is started, and says at `--version` and
//! in its first line of log what it is.

use std::path::Path;

use anyhow::{Result, bail};
use holdfast_model::Supported;

fn main() -> Result<()> {
    let supports = Supported::OWN.ahead();
    let started = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&started).file_name();
    match name.and_then(|name| name.to_str()) {
        Some("holdfast-node") => holdfast_node::process::run(supports)?,
        Some("holdfast-gateway") => holdfast_gateway::process::run(supports),
        Some("holdfast-worker") => holdfast_worker::process::run(supports),
        Some("holdfast-operator") => holdfast_operator::process::run(supports),
        _ => bail!(
            "for tests alone: start it by the name of a service, of which it is one release ahead"
        ),
    }
    Ok(())
}

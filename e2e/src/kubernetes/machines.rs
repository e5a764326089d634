//! Machines that lose their power, where this can be had: two commands, which
//! take a machine's number.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

const CRASH: &str = "HOLDFAST_MACHINE_CRASH";
const START: &str = "HOLDFAST_MACHINE_START";

/// The commands.
pub struct Machines {
    crash: String,
    start: String,
}

impl Machines {
    /// Those of the environment. None where it names none.
    pub fn given() -> Option<Self> {
        Some(Self {
            crash: std::env::var(CRASH).ok()?,
            start: std::env::var(START).ok()?,
        })
    }

    /// Takes the power from the machine that the Kubernetes node `name` is.
    pub async fn crash(&self, name: &str) -> Result<()> {
        run(&self.crash, number(name)?).await
    }

    /// Gives it back.
    pub async fn start(&self, name: &str) -> Result<()> {
        run(&self.start, number(name)?).await
    }
}

/// Nodes are named with their machine's number at the end: `node-2`.
fn number(name: &str) -> Result<u32> {
    let digits = name.rsplit('-').next().unwrap_or_default();
    digits
        .parse()
        .with_context(|| format!("the node {name} has no number"))
}

async fn run(command: &str, number: u32) -> Result<()> {
    let output = tokio::process::Command::new("sh")
        .args(["-c", &format!("exec {command} {number}")])
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{command} {number}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

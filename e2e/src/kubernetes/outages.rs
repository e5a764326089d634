//! What a cluster's machines and servers can suffer, where this can be had:
//! commands that the environment names. Those about machines take a machine's
//! number.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

/// A command that breaks something, and the one that mends it.
pub struct Outage {
    begin: String,
    end: String,
}

impl Outage {
    /// A machine loses its power, and gets it back.
    pub fn of_power() -> Option<Self> {
        Self::given("HOLDFAST_MACHINE_CRASH", "HOLDFAST_MACHINE_START")
    }

    /// A machine's pods lose their network while the machine itself keeps it.
    pub fn of_network() -> Option<Self> {
        Self::given("HOLDFAST_MACHINE_CUT", "HOLDFAST_MACHINE_JOIN")
    }

    /// The API server stops.
    pub fn of_the_api_server() -> Option<Self> {
        Self::given("HOLDFAST_API_SERVER_STOP", "HOLDFAST_API_SERVER_START")
    }

    /// None where the environment names not both. Says so: a case that is left
    /// out has shown nothing.
    fn given(begin: &str, end: &str) -> Option<Self> {
        let given = std::env::var(begin).ok().zip(std::env::var(end).ok());
        if given.is_none() {
            println!("      skipped: {begin} and {end} name no commands");
        }
        given.map(|(begin, end)| Self { begin, end })
    }

    /// Begins, for the machine that the Kubernetes node `name` is.
    pub async fn begin_at(&self, name: &str) -> Result<()> {
        run(&format!("{} {}", self.begin, number(name)?))
            .await
            .map(drop)
    }

    /// Ends there.
    pub async fn end_at(&self, name: &str) -> Result<()> {
        run(&format!("{} {}", self.end, number(name)?))
            .await
            .map(drop)
    }

    /// Begins.
    pub async fn begin(&self) -> Result<()> {
        run(&self.begin).await.map(drop)
    }

    /// Ends.
    pub async fn end(&self) -> Result<()> {
        run(&self.end).await.map(drop)
    }
}

/// Nodes are named with their machine's number at the end: `node-2`.
fn number(name: &str) -> Result<u32> {
    let digits = name.rsplit('-').next().unwrap_or_default();
    digits
        .parse()
        .with_context(|| format!("the node {name} has no number"))
}

/// Runs a line of shell; what it prints is shown when it fails.
pub async fn run(line: &str) -> Result<String> {
    let output = tokio::process::Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        // A case that runs out of time leaves nothing behind.
        .kill_on_drop(true)
        .output()
        .await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{line}: {printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(printed)
}

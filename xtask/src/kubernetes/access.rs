//! Which cluster, and the programs that talk to it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{execute, root};

/// The cluster that kind makes.
const KIND_NAME: &str = "holdfast";
const KIND_CONFIG: &str = "kind-config.yaml";

/// Where a cluster would come from.
pub enum Found {
    /// KUBECONFIG names one, and it answers.
    Given(PathBuf),
    /// kind can make one.
    Kind,
}

/// A cluster that answers.
pub struct Cluster {
    /// How it is reached.
    pub kubeconfig: PathBuf,
    /// Its name in kind, where it is one of kind's.
    pub kind: Option<String>,
    /// Whether it is to go when the suite is done.
    made_here: bool,
}

/// Looks for a cluster. None is an error only where one is `required`.
pub fn find(required: bool) -> Result<Option<Found>> {
    if let Some(given) = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        let found = Found::Given(given.into());
        found.open().context(
            "KUBECONFIG is set and its cluster does not answer: start it, or unset the variable",
        )?;
        return Ok(Some(found));
    }
    if runs("kind", "version") {
        return Ok(Some(Found::Kind));
    }
    if required {
        bail!("no Kubernetes cluster: set KUBECONFIG, or install kind");
    }
    eprintln!("neither KUBECONFIG nor kind: the Kubernetes suite is left out");
    Ok(None)
}

impl Found {
    /// The cluster, made first where it must be.
    pub fn open(&self) -> Result<Cluster> {
        let cluster = match self {
            Self::Given(kubeconfig) => {
                let mut cluster = Cluster {
                    kubeconfig: kubeconfig.clone(),
                    kind: None,
                    made_here: false,
                };
                let context = cluster.kubectl(&["config", "current-context"])?;
                cluster.kind = context.trim().strip_prefix("kind-").map(str::to_owned);
                cluster
            }
            Self::Kind => open_kind()?,
        };
        cluster.kubectl(&["get", "--raw", "/readyz"])?;
        Ok(cluster)
    }
}

fn open_kind() -> Result<Cluster> {
    let listed = Command::new("kind").args(["get", "clusters"]).output()?;
    let exists = String::from_utf8_lossy(&listed.stdout)
        .lines()
        .any(|name| name == KIND_NAME);
    let kubeconfig = root().join("target/kind.kubeconfig");
    if exists {
        execute(
            Command::new("kind")
                .args(["export", "kubeconfig", "--name", KIND_NAME, "--kubeconfig"])
                .arg(&kubeconfig),
        )?;
    } else {
        execute(
            Command::new("kind")
                .args(["create", "cluster", "--name", KIND_NAME, "--wait", "3m"])
                .args(["--config", KIND_CONFIG, "--kubeconfig"])
                .arg(&kubeconfig)
                .current_dir(root()),
        )?;
    }
    Ok(Cluster {
        kubeconfig,
        kind: Some(KIND_NAME.to_owned()),
        made_here: !exists,
    })
}

impl Cluster {
    /// Gives a program this cluster.
    pub fn use_in<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("KUBECONFIG", &self.kubeconfig)
    }

    /// Runs kubectl and returns what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .use_in(Command::new("kubectl").args(arguments))
            .stdin(Stdio::null())
            .output()
            .context("kubectl is needed")?;
        if !output.status.success() {
            bail!(
                "kubectl {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs helm, which prints nothing but its complaints.
    pub fn helm(&self, arguments: &[&str]) -> Result<()> {
        execute(
            self.use_in(Command::new("helm").args(arguments))
                .current_dir(root())
                .stdout(Stdio::null()),
        )
    }

    /// Removes the cluster, where it was made for this run.
    pub fn close(self) -> Result<()> {
        if !self.made_here {
            return Ok(());
        }
        execute(Command::new("kind").args(["delete", "cluster", "--name", KIND_NAME]))
    }
}

fn runs(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

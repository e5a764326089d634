//! The operator's chart, as whoever installs it sees it.

use std::time::Duration;

use crate::wait::until;
use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::kubernetes::outages::run;
use crate::kubernetes::room::{OPERATOR, OPERATOR_NAMESPACE, Room};

/// The release that the suite installs.
const RELEASE: &str = "holdfast";
/// The Deployment in it.
const DEPLOYMENT: &str = "holdfast-operator";
/// Seen from the repository, where the suite runs.
const CHART: &str = "charts/holdfast";
/// How long operators may take to come and go.
const MOVED: Duration = Duration::from_secs(120);

/// What the installed release was given, to be given again.
pub struct Values(String);

/// Reads what the installed release was given.
pub async fn values() -> Result<Values> {
    let line = format!("helm get values {RELEASE} --namespace {OPERATOR_NAMESPACE} --output json");
    Ok(Values(run(&line).await?))
}

impl Values {
    /// `helm upgrade --install` of the release of the suite.
    pub async fn install(&self) -> Result<()> {
        self.install_as(
            RELEASE,
            OPERATOR_NAMESPACE,
            "--create-namespace --take-ownership",
        )
        .await
    }

    /// The same under another name, and with more flags.
    pub async fn install_as(&self, release: &str, namespace: &str, flags: &str) -> Result<()> {
        let values = std::env::temp_dir().join(format!("{release}-{namespace}-values.json"));
        std::fs::write(&values, &self.0)?;
        let line = format!(
            "helm upgrade {release} {CHART} --install --namespace {namespace} --values {} {flags} --wait --timeout 2m",
            values.display()
        );
        let installed = run(&line).await;
        std::fs::remove_file(&values)?;
        installed.map(drop)
    }
}

/// `helm uninstall` of the release of the suite.
pub async fn uninstall() -> Result<()> {
    uninstall_as(RELEASE, OPERATOR_NAMESPACE).await
}

/// The same of another one.
pub async fn uninstall_as(release: &str, namespace: &str) -> Result<()> {
    let line = format!("helm uninstall {release} --namespace {namespace} --wait --timeout 2m");
    run(&line).await.map(drop)
}

/// The operator's pods.
pub async fn operators(room: &Room) -> Result<Vec<Pod>> {
    let all = ListParams::default().labels(OPERATOR);
    Ok(room.beside_the_operator::<Pod>().list(&all).await?.items)
}

/// Kills every operator, as a machine does that loses its power.
pub async fn kill_operators(room: &Room) -> Result<()> {
    let all = ListParams::default().labels(OPERATOR);
    let at_once = DeleteParams::default().grace_period(0);
    room.beside_the_operator::<Pod>()
        .delete_collection(&at_once, &all)
        .await?;
    Ok(())
}

/// `kubectl scale` of the operator, and waits until it is so.
pub async fn scale_operators(room: &Room, replicas: usize) -> Result<()> {
    let change = json!({"spec": {"replicas": replicas}});
    room.beside_the_operator::<Deployment>()
        .patch(DEPLOYMENT, &PatchParams::default(), &Patch::Merge(&change))
        .await?;
    until("that many operators", MOVED, async || {
        let pods = operators(room).await?;
        let ready = pods
            .iter()
            .filter(|pod| crate::kubernetes::children::is_ready(pod));
        let (there, ready) = (pods.len(), ready.count());
        ensure!(there == replicas && ready == replicas, "{ready} of {there}");
        Ok(())
    })
    .await
}

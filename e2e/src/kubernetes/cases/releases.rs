//! A release goes round, is finalised, and the older one is refused.
//!
//! The images of the next release hold programs that claim its formats; there is
//! no such release yet, so their tags name none.

use std::future::Future;

use anyhow::{Context, Result, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::wait::until;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use super::{SETTLED, TOLD};
use crate::children::storage_pods;
use crate::room::{Next, OPERATOR, Room};
use crate::spec::small;
use crate::state::condition;
use crate::traffic::{Patience, Traffic};

/// The annotation that lets a release be finalised where that is asked for.
const FINALIZE: &str = "holdfast.dev/finalize";
const FIRST: &str = "0.1.0";
const NEXT: &str = "0.2.0";

pub async fn a_release_is_finalised_and_then_the_older_one_is_refused(room: &Room) -> Result<()> {
    let next = room.next()?.clone();
    let operator = Operator::find(room).await?;
    let shown = show(room, &next, &operator);
    operator.put_back_after(room, shown).await
}

async fn show(room: &Room, next: &Next, operator: &Operator) -> Result<()> {
    room.apply("demo", &small(room)).await?;
    room.until_settled("demo", SETTLED).await?;
    until_written(room, FIRST).await?;
    let traffic = Traffic::start(room.gateway("demo").await?, Patience::OneRetry).await?;

    // It runs and is not finalised by an operator that does not know it: the
    // older image may come back.
    take(room, &next.store).await?;
    until_says(room, "Reconciling", "FinalizeWaits", "upgrade the operator").await?;
    until_written(room, FIRST).await?;
    take(room, &room.tag).await?;
    room.change("demo", json!({"upgrade": {"finalize": "Manual"}}))
        .await?;
    take(room, &next.store).await?;
    // With an operator that could, it waits for a person's word, which names the
    // release.
    operator.run(room, &next.operator).await?;
    let word = format!("{FINALIZE}={NEXT}");
    until_says(room, "Reconciling", "FinalizeWaits", &word).await?;
    until_written(room, FIRST).await?;
    let word = json!({"metadata": {"annotations": {(FINALIZE): NEXT}}});
    room.merge::<StorageCluster>("demo", word).await?;
    until_written(room, NEXT).await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)?;

    older_images_are_refused(room, next).await?;
    an_older_operator_changes_nothing(room, next, operator).await
}

/// Changes the image, and waits until all of it runs.
async fn take(room: &Room, tag: &str) -> Result<()> {
    room.change("demo", json!({"image": {"tag": tag}})).await?;
    until("all parts run the image", SETTLED, async || {
        for kind in ["gateway", "worker"] {
            let name = format!("demo-{kind}");
            let deployment = room.api::<Deployment>().get(&name).await?;
            let spec = serde_json::to_string(&deployment.spec)?;
            ensure!(spec.contains(tag), "{name} has another image");
        }
        for pod in storage_pods(room, "demo").await? {
            let spec = serde_json::to_string(&pod.spec)?;
            ensure!(spec.contains(tag), "{} has another image", pod.name_any());
        }
        Ok(())
    })
    .await?;
    room.until_settled("demo", SETTLED).await.map(drop)
}

async fn until_written(room: &Room, release: &str) -> Result<()> {
    let what = format!("clusterVersion {release}");
    room.until_cluster("demo", &what, TOLD, |cluster| {
        let status = cluster.status.as_ref();
        status.and_then(|status| status.cluster_version.as_deref()) == Some(release)
    })
    .await
    .map(drop)
}

async fn until_says(room: &Room, kind: &str, reason: &str, words: &str) -> Result<()> {
    let what = format!("{kind} with the reason {reason}");
    room.until_cluster("demo", &what, SETTLED, |cluster| {
        condition(cluster, kind)
            .is_some_and(|said| said.reason == reason && said.message.contains(words))
    })
    .await
    .map(drop)
}

async fn older_images_are_refused(room: &Room, next: &Next) -> Result<()> {
    let identities = async || -> Result<Vec<Option<String>>> {
        let pods = storage_pods(room, "demo").await?;
        Ok(pods.iter().map(ResourceExt::uid).collect())
    };
    // By its tag, before a pod is touched.
    let before = identities().await?;
    room.change("demo", json!({"image": {"tag": FIRST}}))
        .await?;
    until_says(room, "Stalled", "ImageRefused", "older image").await?;
    ensure!(identities().await? == before, "pods were replaced");
    // One that cannot be judged stops at its first pod, which says why.
    room.change("demo", json!({"image": {"tag": room.tag}}))
        .await?;
    until_says(room, "Stalled", "RolloutStopped", "image of release 0.2.0").await?;
    let after = identities().await?;
    let kept = before.iter().filter(|one| after.contains(one)).count();
    ensure!(kept == 2, "{kept} of three pods are as they were");
    let gateway = room.gateway("demo").await?;
    gateway.upload("still.txt", b"here".to_vec(), 0).await?;
    take(room, &next.store).await
}

async fn an_older_operator_changes_nothing(
    room: &Room,
    next: &Next,
    operator: &Operator,
) -> Result<()> {
    operator.run(room, &operator.image_tag).await?;
    until_says(room, "Stalled", "OperatorTooOld", "changes nothing").await?;
    room.change("demo", json!({"gateway": {"replicas": 2}}))
        .await?;
    room.until_cluster("demo", "the change is seen", TOLD, crate::state::is_current)
        .await?;
    let gateways = async || -> Result<Option<i32>> {
        let deployment = room.api::<Deployment>().get("demo-gateway").await?;
        Ok(deployment.spec.and_then(|spec| spec.replicas))
    };
    ensure!(gateways().await? == Some(1), "the older operator scaled");
    operator.run(room, &next.operator).await?;
    until("the change is made", SETTLED, async || {
        ensure!(gateways().await? == Some(2), "not yet");
        Ok(())
    })
    .await?;
    room.until_settled("demo", SETTLED).await.map(drop)
}

/// The operator that all share.
struct Operator {
    name: String,
    container: String,
    repository: String,
    image_tag: String,
}

impl Operator {
    async fn find(room: &Room) -> Result<Self> {
        let deployments = room.beside_the_operator::<Deployment>();
        let found = deployments
            .list(&ListParams::default().labels(OPERATOR))
            .await?;
        let deployment = found.items.first().context("there is no operator")?;
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let pod = template.and_then(|template| template.spec.as_ref());
        let container = pod.and_then(|pod| pod.containers.first());
        let container = container.context("the operator has no container")?;
        let image = container.image.as_deref().unwrap_or_default();
        let (repository, image_tag) = image.rsplit_once(':').context("no tag")?;
        Ok(Self {
            name: deployment.name_any(),
            container: container.name.clone(),
            repository: repository.to_owned(),
            image_tag: image_tag.to_owned(),
        })
    }

    /// Has it run with that tag, and waits until no other does.
    async fn run(&self, room: &Room, tag: &str) -> Result<()> {
        let image = format!("{}:{tag}", self.repository);
        let containers = json!([{"name": self.container, "image": image}]);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let deployments = room.beside_the_operator::<Deployment>();
        let parameters = PatchParams::default();
        deployments
            .patch(&self.name, &parameters, &Patch::Strategic(&patch))
            .await?;
        until("the operator runs with that image", SETTLED, async || {
            let deployment = deployments.get(&self.name).await?;
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            let status = deployment.status.unwrap_or_default();
            ensure!(status.observed_generation == deployment.metadata.generation);
            ensure!(status.replicas == wanted && status.updated_replicas == wanted);
            ensure!(status.available_replicas == wanted, "not available");
            Ok(())
        })
        .await
    }

    /// Gives the others their operator back, whatever came of `work`.
    async fn put_back_after(
        &self,
        room: &Room,
        work: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let result = work.await;
        let back = self.run(room, &self.image_tag).await;
        result.and(back)
    }
}

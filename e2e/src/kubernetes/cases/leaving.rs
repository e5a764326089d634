//! What goes, and what stays: the chart, namespaces, the definition, volumes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use holdfast_crd::StorageCluster;
use holdfast_e2e::wait::until;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::rest::Files;
use super::{SETTLED, TOLD, born_with_traffic};
use crate::chart::{self, operators};
use crate::children::{claim_uid, replace_pod, until_no_pods};
use crate::room::{OPERATOR_NAMESPACE, Room};
use crate::spec::{small, with};
use crate::state::{self, id_of};

const DEFINITION: &str = "storageclusters.holdfast.dev";

pub async fn the_chart_goes_and_comes_back_and_files_are_served(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    let values = chart::values().await?;
    chart::uninstall().await?;
    let alone = without_operator(room).await;
    values.install().await?;
    alone?;
    // What was asked for meanwhile is done now.
    until("a second worker", SETTLED, async || {
        ensure!(workers(room).await? == 2, "there is one");
        Ok(())
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

async fn without_operator(room: &Room) -> Result<()> {
    until("the operator is gone", TOLD, async || {
        let left = operators(room).await?.len();
        ensure!(left == 0, "{left} are left");
        Ok(())
    })
    .await?;
    room.change("demo", json!({"worker": {"replicas": 2}}))
        .await?;
    // Kubernetes alone brings it back, and it needs nobody to be told what it is.
    replace_pod(room, "demo", 1, SETTLED).await?;
    ensure!(workers(room).await? == 1, "somebody has acted");
    Ok(())
}

async fn workers(room: &Room) -> Result<u64> {
    use k8s_openapi::api::apps::v1::Deployment;
    let deployment = room.api::<Deployment>().get("demo-worker").await?;
    let replicas = deployment.spec.and_then(|spec| spec.replicas);
    Ok(u64::try_from(replicas.unwrap_or_default())?)
}

pub async fn the_namespaces_of_store_and_operator_go_at_once(room: &Room) -> Result<()> {
    const GONE: Duration = Duration::from_secs(240);
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    traffic.finish_unharmed().await?;
    let values = chart::values().await?;
    let namespaces = room.everywhere::<Namespace>();
    let both = [room.namespace.as_str(), OPERATOR_NAMESPACE];
    for namespace in both {
        namespaces
            .delete(namespace, &DeleteParams::default())
            .await?;
    }
    let gone = until("both are gone", GONE, async || {
        for namespace in both {
            let found = namespaces.get_opt(namespace).await?;
            let status = found.and_then(|found| found.status);
            ensure!(status.is_none(), "{namespace} is there: {status:?}");
        }
        Ok(())
    })
    .await;
    values.install().await?;
    room.open_again().await?;
    gone?;
    // The one that was installed now works.
    let (cluster, traffic) = born_with_traffic(room, &small(room)).await?;
    ensure!(id_of(&cluster).is_some(), "no clusterId");
    traffic.finish_unharmed().await.map(drop)
}

pub async fn one_name_in_two_namespaces(room: &Room) -> Result<()> {
    let other = room.beside("other").await?;
    let shown = two_of_one_name(room, &other).await;
    other.close().await?;
    shown
}

async fn two_of_one_name(room: &Room, other: &Room) -> Result<()> {
    other.apply("demo", &small(other)).await?;
    let (here, traffic) = born_with_traffic(room, &small(room)).await?;
    let there = other.until_settled("demo", SETTLED).await?;
    ensure!(id_of(&here) != id_of(&there), "both are the same cluster");
    ensure!(
        room.first_key("demo").await? != other.first_key("demo").await?,
        "both have the same key"
    );
    let gateway = other.gateway("demo").await?;
    let theirs = Files::store(&gateway, 700).await?;
    theirs.expect(&gateway).await?;
    ensure!(
        theirs
            .expect_once(&room.gateway("demo").await?)
            .await
            .is_err(),
        "the one has the other's files"
    );
    // What is done to one is not done to the other.
    other
        .api::<StorageCluster>()
        .delete("demo", &DeleteParams::default())
        .await?;
    until_no_pods(other, "demo", SETTLED).await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

pub async fn the_definition_is_upgraded_under_a_running_operator(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    let definitions = room.everywhere::<CustomResourceDefinition>();
    let old = definitions.get(DEFINITION).await?;
    let new = with_a_field(&old)?;
    definitions
        .replace(DEFINITION, &PostParams::default(), &new)
        .await?;
    let shown = under_the_new_one(room).await;
    let mut back = old;
    back.metadata.resource_version = None;
    let patch = Patch::Merge(json!({"spec": back.spec}));
    definitions
        .patch(DEFINITION, &PatchParams::default(), &patch)
        .await?;
    shown?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// The definition of a later release: one more field in the spec.
fn with_a_field(old: &CustomResourceDefinition) -> Result<CustomResourceDefinition> {
    let mut new = serde_json::to_value(old)?;
    let versions = new
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut);
    for version in versions.context("no versions")? {
        let fields = version
            .pointer_mut("/schema/openAPIV3Schema/properties/spec/properties")
            .and_then(Value::as_object_mut);
        let fields = fields.context("no fields of the spec")?;
        fields.insert("later".into(), json!({"type": "string", "maxLength": 63}));
    }
    Ok(serde_json::from_value(new)?)
}

async fn under_the_new_one(room: &Room) -> Result<()> {
    let definition = GroupVersionKind::gvk("holdfast.dev", "v1alpha1", "StorageCluster");
    let definition = ApiResource::from_gvk(&definition);
    let raw = room.dynamic(&definition);
    let change = Patch::Merge(json!({"spec": {"later": "than now", "worker": {"replicas": 2}}}));
    // Until the API server knows the field, it drops it.
    until("the field is known", TOLD, async || {
        let taken: DynamicObject = raw.patch("demo", &PatchParams::default(), &change).await?;
        let field = taken.data.pointer("/spec/later");
        ensure!(field.is_some(), "it is dropped");
        Ok(())
    })
    .await?;
    until("what was asked for beside it", TOLD, async || {
        ensure!(workers(room).await? == 2, "one worker");
        Ok(())
    })
    .await?;
    let cluster = room.until_settled("demo", SETTLED).await?;
    let kept = raw.get("demo").await?;
    ensure!(
        kept.data.pointer("/spec/later") == Some(&json!("than now")),
        "the operator has dropped a field that it does not know: {}",
        state::say(&cluster)
    );
    Ok(())
}

pub async fn volumes_go_with_the_resource_where_asked_and_no_others(room: &Room) -> Result<()> {
    let going = json!({"nodes": {"storage": {"retention": {"whenDeleted": "Delete"}}}});
    room.apply(
        "other",
        &with(small(room), json!({"worker": {"replicas": 0}})),
    )
    .await?;
    let (before, traffic) = born_with_traffic(room, &with(small(room), going)).await?;
    room.until_settled("other", SETTLED).await?;
    traffic.finish_unharmed().await?;
    let claims = room.api::<PersistentVolumeClaim>();
    let mine = json!({
        "metadata": {"name": "data-0-demo-nodes-0", "labels": {"app.kubernetes.io/name": "holdfast"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    claims
        .create(&PostParams::default(), &serde_json::from_value(mine)?)
        .await?;
    let own = try_join_all((0..3).map(|ordinal| claim_uid(room, "demo", ordinal))).await?;
    let neighbours: Vec<String> = uids(room)
        .await?
        .into_iter()
        .filter(|uid| !own.contains(uid))
        .collect();
    ensure!(neighbours.len() > 3, "{neighbours:?}");

    room.api::<StorageCluster>()
        .delete("demo", &DeleteParams::default())
        .await?;
    until("its volumes are gone", SETTLED, async || {
        let left = uids(room).await?;
        let of_it = own.iter().filter(|uid| left.contains(uid)).count();
        ensure!(of_it == 0, "{of_it} are left");
        Ok(())
    })
    .await?;
    until_no_pods(room, "demo", SETTLED).await?;
    room.until_settled("other", SETTLED).await?;
    let left = uids(room).await?;
    let gone: Vec<&String> = neighbours
        .iter()
        .filter(|uid| !left.contains(uid))
        .collect();
    ensure!(gone.is_empty(), "others are gone as well: {gone:?}");

    // Its Secrets are there still, and its name begins anew.
    let (after, traffic) = born_with_traffic(room, &small(room)).await?;
    ensure!(
        id_of(&after) != id_of(&before),
        "an empty cluster says that it is the one of before"
    );
    traffic.finish_unharmed().await.map(drop)
}

/// The identities of all claims but the queues'.
async fn uids(room: &Room) -> Result<Vec<String>> {
    let claims = room.api::<PersistentVolumeClaim>();
    let listed = claims.list(&ListParams::default()).await?;
    let kept = |claim: &&PersistentVolumeClaim| !claim.name_any().contains("rabbitmq");
    Ok(listed
        .iter()
        .filter(kept)
        .filter_map(ResourceExt::uid)
        .collect())
}

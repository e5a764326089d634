//! Changes by those who may make them, and by those who may not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::wait::until;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{ApiResource, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::json;

use super::{SETTLED, born_with_traffic};
use crate::children::{ask_for_memory, storage_pods, until_all_ask, waits_for};
use crate::roll::Onlooker;
use crate::room::Room;
use crate::spec::{small, two_gateways};
use crate::traffic::{Patience, Traffic};

/// The operator is to need 3 s of it; two cases share two cores.
const PUT_RIGHT: Duration = Duration::from_secs(10);

pub async fn a_changed_setting_rolls_one_node_at_a_time(room: &Room) -> Result<()> {
    room.apply("demo", &small(room)).await?;
    room.until_settled("demo", SETTLED).await?;
    let old = identities(room).await?;
    let traffic = Traffic::start(room.gateway("demo").await?, Patience::OneRetry).await?;
    let onlooker = Onlooker::begin(room, "demo", 3);
    ask_for_memory(room, "80Mi").await?;
    until_all_ask(room, 3, "80Mi", SETTLED).await?;
    let new = identities(room).await?;
    ensure!(
        old.iter().all(|uid| !new.contains(uid)),
        "a pod is the old one"
    );
    room.until_settled("demo", SETTLED).await?;
    onlooker.expect_one_at_a_time().await?;
    traffic.finish_unharmed().await.map(drop)
}

async fn identities(room: &Room) -> Result<Vec<Option<String>>> {
    let pods = storage_pods(room, "demo").await?;
    ensure!(pods.len() == 3, "there are {} storage pods", pods.len());
    Ok(pods.iter().map(ResourceExt::uid).collect())
}

pub async fn an_image_that_does_not_exist_then_the_revert(room: &Room) -> Result<()> {
    room.apply("demo", &two_gateways(room)).await?;
    room.until_settled("demo", SETTLED).await?;
    let traffic = Traffic::start(room.gateway("demo").await?, Patience::OneRetry).await?;
    let onlooker = Onlooker::begin(room, "demo", 3);
    room.change("demo", json!({"image": {"tag": "there-is-no-such-tag"}}))
        .await?;
    until("a pod waits for the image", SETTLED, async || {
        let pods = storage_pods(room, "demo").await?;
        let waits = pods.iter().filter_map(waits_for);
        let images = waits.filter(|why| why.contains("Image")).count();
        ensure!(images > 0, "none of {} waits for an image", pods.len());
        Ok(())
    })
    .await?;
    room.change("demo", json!({"image": {"tag": room.tag}}))
        .await?;
    room.until_settled("demo", SETTLED).await?;
    onlooker.expect_one_at_a_time().await?;
    traffic.finish_unharmed().await.map(drop)
}

pub async fn drift_is_put_right(room: &Room) -> Result<()> {
    room.apply("demo", &small(room)).await?;
    room.until_settled("demo", SETTLED).await?;
    // Their own Service is deleted and edited: what is behind it serves on.
    let gateway = room.gateway_behind("demo", "apart").await?;
    let traffic = Traffic::start(gateway, Patience::OneRetry).await?;
    a_port_comes_back(room).await?;
    a_number_comes_back(room).await?;
    a_foreign_container_goes(room).await?;
    what_was_deleted_comes_back(room).await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

async fn a_port_comes_back(room: &Room) -> Result<()> {
    // As `kubectl edit` does it: the same entry with another number.
    let service = room.api::<Service>().get("demo-gateway").await?;
    let mut ports = serde_json::to_value(service.spec.and_then(|spec| spec.ports))?;
    ports[0]["port"] = json!(5999);
    room.merge::<Service>("demo-gateway", json!({"spec": {"ports": ports}}))
        .await?;
    until("the port", PUT_RIGHT, async || {
        let service = room.api::<Service>().get("demo-gateway").await?;
        let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let numbers: Vec<i32> = ports.iter().map(|port| port.port).collect();
        ensure!(numbers == [5000], "ports {numbers:?}");
        Ok(())
    })
    .await
}

async fn a_number_comes_back(room: &Room) -> Result<()> {
    room.merge::<Deployment>("demo-gateway", json!({"spec": {"replicas": 3}}))
        .await?;
    until("the number of gateways", PUT_RIGHT, async || {
        let replicas = deployment_replicas(room, "demo-gateway").await?;
        ensure!(replicas == Some(1), "{replicas:?} gateways");
        Ok(())
    })
    .await
}

async fn deployment_replicas(room: &Room, name: &str) -> Result<Option<i32>> {
    let deployment = room.api::<Deployment>().get(name).await?;
    Ok(deployment.spec.and_then(|spec| spec.replicas))
}

async fn a_foreign_container_goes(room: &Room) -> Result<()> {
    let foreign = json!({"spec": {"template": {"spec": {
        "containers": [{"name": "foreign", "image": "debian:trixie-slim"}],
        "volumes": [{"name": "foreign", "emptyDir": {}}],
    }}}});
    // Strategic: beside ours, and not in their place.
    room.api::<Deployment>()
        .patch(
            "demo-worker",
            &PatchParams::default(),
            &Patch::Strategic(&foreign),
        )
        .await?;
    until("the foreign container", PUT_RIGHT, async || {
        let deployment = room.api::<Deployment>().get("demo-worker").await?;
        let text = serde_json::to_string(&deployment.spec)?;
        ensure!(!text.contains("foreign"), "it is still there");
        Ok(())
    })
    .await
}

async fn what_was_deleted_comes_back(room: &Room) -> Result<()> {
    let now = DeleteParams::default();
    room.api::<Service>().delete("demo-gateway", &now).await?;
    room.api::<Deployment>().delete("demo-worker", &now).await?;
    let budgets = room.api::<PodDisruptionBudget>();
    let listed = budgets.list(&ListParams::default()).await?;
    let budget = listed
        .items
        .first()
        .context("there is no disruption budget")?;
    let (name, old) = (budget.name_any(), budget.uid());
    budgets.delete(&name, &now).await?;
    until("what was deleted", PUT_RIGHT, async || {
        room.api::<Service>().get("demo-gateway").await?;
        room.api::<Deployment>().get("demo-worker").await?;
        ensure!(budgets.get(&name).await?.uid() != old, "the old budget");
        Ok(())
    })
    .await
}

pub async fn what_is_no_longer_asked_for_is_taken_away(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    // Nobody listens there: a store does without.
    for (name, url) in [
        ("queue", "amqp://nobody:5672"),
        ("cache", "redis://nobody:6379"),
    ] {
        let secret = json!({"metadata": {"name": name}, "stringData": {"url": url}});
        room.api::<Secret>()
            .create(&PostParams::default(), &serde_json::from_value(secret)?)
            .await?;
    }
    let elsewhere = |name: &str| json!({"type": "External", "external": {"secretName": name}});
    room.change(
        "demo",
        json!({
            "queue": elsewhere("queue"),
            "cache": elsewhere("cache"),
            "gateway": {
                "autoscale": {"min": 1, "max": 2},
                "ingress": {"host": "files.example.com"},
            },
        }),
    )
    .await?;
    until("what was asked for", SETTLED, async || {
        let of = of_the_cluster(room).await?;
        let has = |part: &str| of.iter().any(|name| name.starts_with(part));
        ensure!(has("HorizontalPodAutoscaler") && has("Ingress"), "{of:?}");
        ensure!(!of.iter().any(|name| name.contains("rabbitmq")), "{of:?}");
        ensure!(!of.iter().any(|name| name.contains("redis")), "{of:?}");
        Ok(())
    })
    .await?;
    room.until_ready("demo", SETTLED).await?;
    room.change(
        "demo",
        json!({
            "queue": {"type": "Managed", "external": null},
            "cache": {"type": "Managed", "external": null},
            "gateway": {"autoscale": null, "ingress": null},
        }),
    )
    .await?;
    until("all as it was", SETTLED, async || {
        let of = of_the_cluster(room).await?;
        let has = |part: &str| of.iter().any(|name| name.starts_with(part));
        ensure!(!has("HorizontalPodAutoscaler") && !has("Ingress"), "{of:?}");
        ensure!(has("StatefulSet demo-rabbitmq"), "{of:?}");
        ensure!(has("Deployment demo-redis"), "{of:?}");
        Ok(())
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// Kind and name of everything that came of the resource by itself.
async fn of_the_cluster(room: &Room) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (group, version, kind) in [
        ("apps", "v1", "StatefulSet"),
        ("apps", "v1", "Deployment"),
        ("", "v1", "Service"),
        ("", "v1", "ConfigMap"),
        ("networking.k8s.io", "v1", "Ingress"),
        ("networking.k8s.io", "v1", "NetworkPolicy"),
        ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ] {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let ours = ListParams::default().labels("app.kubernetes.io/instance=demo");
        for object in room.dynamic(&kind).list(&ours).await?.items {
            found.push(format!("{} {}", kind.kind, object.name_any()));
        }
    }
    Ok(found)
}

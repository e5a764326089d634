//! Queues that take each other's place while tasks wait in them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::content::picture;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::http::client;
use holdfast_e2e::wait::until;
use image::ImageFormat;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::{SETTLED, born_with_traffic};
use crate::children::is_ready;
use crate::room::Room;
use crate::spec::small;

/// The queue of hints.
const TASKS: &str = "holdfast.tasks";
/// The brokers that the operator makes.
const BROKERS: &str = "demo-rabbitmq";
/// The broker of somebody else, its Service, and the Secret with its address.
const ELSEWHERE: &str = "elsewhere";
const USER: &str = "files";
const PASSWORD: &str = "not-much-of-a-secret";
/// Of a broker that the operator makes.
const IMAGE: &str = "rabbitmq:4.0-management";

pub async fn the_queue_moves_to_another_one_and_back_and_no_task_is_lost(
    room: &Room,
) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    let gateway = room.gateway("demo").await?;
    let other = Elsewhere::start(room).await?;
    let mut pictures = Vec::new();

    // Nobody takes tasks, so that they wait in the queue that goes.
    upload_without_workers(room, &gateway, &mut pictures).await?;
    room.change(
        "demo",
        json!({
            "worker": {"replicas": 1},
            "queue": {"type": "External", "external": {"secretName": ELSEWHERE}},
        }),
    )
    .await?;
    until("work is fetched elsewhere", SETTLED, async || {
        let fetching = other.consumers().await?;
        ensure!(fetching > 0, "nobody fetches there");
        Ok(())
    })
    .await?;
    until("the operator's brokers are gone", SETTLED, async || {
        let sets = room.api::<StatefulSet>();
        ensure!(sets.get_opt(BROKERS).await?.is_none(), "they are there");
        Ok(())
    })
    .await?;
    all_are_made(&gateway, &pictures).await?;
    room.until_settled("demo", SETTLED).await?;

    upload_without_workers(room, &gateway, &mut pictures).await?;
    room.change(
        "demo",
        json!({
            "worker": {"replicas": 1},
            "queue": {"type": "Managed", "external": null},
        }),
    )
    .await?;
    until("nobody fetches work elsewhere", SETTLED, async || {
        let sets = room.api::<StatefulSet>();
        ensure!(sets.get_opt(BROKERS).await?.is_some(), "no brokers");
        let fetching = other.consumers().await?;
        ensure!(fetching == 0, "{fetching} fetch there");
        Ok(())
    })
    .await?;
    other.end(room).await?;
    all_are_made(&gateway, &pictures).await?;
    room.until_settled("demo", SETTLED).await?;
    nothing_is_left_to_do(&gateway, pictures.len() as u64).await?;
    traffic.finish_unharmed().await.map(drop)
}

pub async fn one_broker_becomes_three_and_no_task_is_lost(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    let gateway = room.gateway("demo").await?;
    let mut pictures = Vec::new();
    upload_without_workers(room, &gateway, &mut pictures).await?;
    room.change(
        "demo",
        json!({"worker": {"replicas": 1}, "queue": {"managed": {"replicas": 3}}}),
    )
    .await?;
    // While one serves, and when the three do.
    pictures.push(upload_picture(&gateway, 10).await?);
    let mut nobody_served = false;
    let three = until("three brokers, and the one is gone", SETTLED, async || {
        let ready = ready_brokers(room).await?;
        nobody_served |= ready.values().all(|ready| *ready == 0);
        ensure!(ready.values().eq(&[3]), "{ready:?} are ready");
        ready.into_keys().next().context("no brokers")
    })
    .await?;
    ensure!(three != BROKERS, "they are the same ones");
    ensure!(!nobody_served, "the one went before the three were there");
    pictures.push(upload_picture(&gateway, 11).await?);
    all_are_made(&gateway, &pictures).await?;
    room.until_settled("demo", SETTLED).await?;

    // Three go on where one would not.
    let pods = room.api::<Pod>();
    let now = DeleteParams::default().grace_period(0);
    pods.delete(&format!("{three}-1"), &now).await?;
    pictures.push(upload_picture(&gateway, 12).await?);
    all_are_made(&gateway, &pictures).await?;
    nothing_is_left_to_do(&gateway, pictures.len() as u64).await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// How many brokers are ready, of each StatefulSet of them that is there.
async fn ready_brokers(room: &Room) -> Result<BTreeMap<String, i32>> {
    let sets = room.api::<StatefulSet>().list(&Default::default()).await?;
    let ready = |set: StatefulSet| {
        let ready = set.status.as_ref().and_then(|status| status.ready_replicas);
        (set.name_any(), ready.unwrap_or(0))
    };
    let of_brokers = |(name, _): &(String, i32)| name.starts_with(BROKERS);
    Ok(sets.into_iter().map(ready).filter(of_brokers).collect())
}

/// Takes the workers away, and gives them something to do.
async fn upload_without_workers(
    room: &Room,
    gateway: &Gateway,
    pictures: &mut Vec<String>,
) -> Result<()> {
    room.change("demo", json!({"worker": {"replicas": 0}}))
        .await?;
    until("there is no worker", SETTLED, async || {
        let pods = room.api::<Pod>().list(&Default::default()).await?;
        let workers = pods.iter().filter_map(|pod| pod.metadata.name.as_deref());
        let workers = workers.filter(|name| name.starts_with("demo-worker-"));
        ensure!(workers.count() == 0, "there is one");
        Ok(())
    })
    .await?;
    for _ in 0..3 {
        let seed = pictures.len() as u64;
        pictures.push(upload_picture(gateway, seed).await?);
    }
    let waiting = tasks(gateway, "pending").await?;
    ensure!(waiting >= 3, "{waiting} tasks wait");
    Ok(())
}

async fn upload_picture(gateway: &Gateway, seed: u64) -> Result<String> {
    let bytes = picture(seed, 640, 480, ImageFormat::Png)?;
    gateway.upload("picture.png", bytes, 0).await
}

/// Waits for the thumbnail of each picture.
async fn all_are_made(gateway: &Gateway, pictures: &[String]) -> Result<()> {
    for id in pictures {
        until("a thumbnail", SETTLED, async || gateway.thumbnail(id).await).await?;
    }
    Ok(())
}

async fn tasks(gateway: &Gateway, state: &str) -> Result<u64> {
    let stats = gateway.json("/api/stats").await?;
    let counted = stats.pointer(&format!("/tasks/{state}"));
    counted.and_then(Value::as_u64).context("no such count")
}

async fn nothing_is_left_to_do(gateway: &Gateway, done: u64) -> Result<()> {
    until("all tasks are done", SETTLED, async || {
        for state in ["pending", "running", "failed"] {
            let count = tasks(gateway, state).await?;
            ensure!(count == 0, "{count} tasks are {state}");
        }
        let count = tasks(gateway, "done").await?;
        ensure!(count >= done, "{count} of {done} are done");
        Ok(())
    })
    .await
}

/// A RabbitMQ that is nothing of the operator's.
struct Elsewhere {
    management: String,
}

impl Elsewhere {
    /// Starts it, and waits until it takes messages.
    async fn start(room: &Room) -> Result<Self> {
        let address = format!("amqp://{USER}:{PASSWORD}@{ELSEWHERE}:5672");
        let secret = json!({"metadata": {"name": ELSEWHERE}, "stringData": {"url": address}});
        let once = PostParams::default();
        let secrets = room.api::<Secret>();
        secrets
            .create(&once, &serde_json::from_value(secret)?)
            .await?;
        let service = json!({
            "metadata": {"name": ELSEWHERE},
            "spec": {"selector": {"app": ELSEWHERE}, "ports": [{"port": 5672}]},
        });
        let services = room.api::<Service>();
        services
            .create(&once, &serde_json::from_value(service)?)
            .await?;
        let pods = room.api::<Pod>();
        pods.create(&once, &serde_json::from_value(pod())?).await?;
        let ip = until("the other broker", SETTLED, async || {
            let pod = pods.get(ELSEWHERE).await?;
            ensure!(is_ready(&pod), "it is not ready");
            let ip = pod.status.and_then(|status| status.pod_ip);
            ip.context("it has no address")
        })
        .await?;
        let management = format!("http://{ip}:15672");
        Ok(Self { management })
    }

    /// How many fetch hints from it.
    async fn consumers(&self) -> Result<u64> {
        let url = format!("{}/api/queues/%2F/{TASKS}", self.management);
        let request = client()?.build()?.get(url);
        let answer = request.basic_auth(USER, Some(PASSWORD)).send().await?;
        let queue: Value = answer.error_for_status()?.json().await?;
        let consumers = queue.get("consumers").and_then(Value::as_u64);
        consumers.context("it does not say how many fetch")
    }

    /// Ends it with all that it holds.
    async fn end(self, room: &Room) -> Result<()> {
        let now = DeleteParams::default().grace_period(0);
        room.api::<Pod>().delete(ELSEWHERE, &now).await?;
        Ok(())
    }
}

fn pod() -> Value {
    json!({
        "metadata": {"name": ELSEWHERE, "labels": {"app": ELSEWHERE}},
        "spec": {
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "broker",
                "image": IMAGE,
                "env": [
                    {"name": "RABBITMQ_DEFAULT_USER", "value": USER},
                    {"name": "RABBITMQ_DEFAULT_PASS", "value": PASSWORD},
                    // Two cores are for all of us.
                    {"name": "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "value": "+sbwt none"},
                ],
                "readinessProbe": {"tcpSocket": {"port": 5672}, "periodSeconds": 2},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "data", "mountPath": "/var/lib/rabbitmq"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}

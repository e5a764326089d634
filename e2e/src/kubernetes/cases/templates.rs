//! What `podTemplate` adds to pods, and what it may not.

use anyhow::{Context, Result, ensure};
use holdfast_e2e::wait::until;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::{SETTLED, TOLD, born_with_traffic};
use crate::children::{is_ready, lives, node_pod};
use crate::roll::Onlooker;
use crate::room::Room;
use crate::spec::two_gateways;
use crate::state;

/// The parts, with the names of their containers and how many there are.
const PARTS: [(&str, &str, usize); 3] = [
    ("nodes", "node", 3),
    ("gateway", "gateway", 2),
    ("worker", "worker", 1),
];
/// A label of ours.
const OURS: &str = "app.kubernetes.io/instance";

pub async fn what_a_pod_template_adds_arrives_and_what_is_ours_is_refused(
    room: &Room,
) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &two_gateways(room)).await?;
    let onlooker = Onlooker::begin(room, "demo", 3);
    let parts = PARTS.map(|(field, container, _)| (field.to_owned(), template(container)));
    room.change("demo", Value::Object(parts.into_iter().collect()))
        .await?;
    for (_, part, count) in PARTS {
        until(
            &format!("all pods of {part} have it"),
            SETTLED,
            async || all_have_it(room, part, count).await,
        )
        .await?;
    }
    room.until_settled("demo", SETTLED).await?;
    onlooker.expect_each_replaced_once().await?;

    let before = lives(room).await?;
    let not_theirs = |value: Value| {
        let labels = json!({"metadata": {"labels": {(OURS): value}}});
        json!({"nodes": {"podTemplate": labels}})
    };
    room.change("demo", not_theirs(json!("another"))).await?;
    room.until_cluster("demo", "the refusal is told", TOLD, |cluster| {
        state::condition(cluster, "Stalled").is_some_and(|stalled| {
            stalled.status == "True"
                && stalled.reason == "PodTemplateRefused"
                && stalled.message.contains("spec.nodes.podTemplate")
                && stalled.message.contains(OURS)
        })
    })
    .await?;
    room.change("demo", not_theirs(Value::Null)).await?;
    room.until_settled("demo", SETTLED).await?;
    let after = lives(room).await?;
    ensure!(after == before, "pods {after:?} in place of {before:?}");
    traffic.finish_unharmed().await.map(drop)
}

pub async fn a_pod_that_kubernetes_refuses_is_told_and_taking_it_back_helps(
    room: &Room,
) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &two_gateways(room)).await?;
    let onlooker = Onlooker::begin(room, "demo", 3);
    // Namespaces of cases take no such pods.
    let refused = json!({"hostNetwork": true});
    room.change("demo", json!({"nodes": {"podTemplate": {"spec": refused}}}))
        .await?;
    room.until_cluster("demo", "it is told", SETTLED, |cluster| {
        state::condition(cluster, "Stalled").is_some_and(|stalled| {
            stalled.status == "True"
                && stalled.reason == "RolloutStopped"
                && stalled.message.contains(&node_pod("demo", 2))
        })
    })
    .await?;
    // What is no longer asked for is taken out of what was made of it.
    room.change("demo", json!({"nodes": {"podTemplate": null}}))
        .await?;
    room.until_settled("demo", SETTLED).await?;
    onlooker.expect_one_at_a_time().await?;
    traffic.finish_unharmed().await.map(drop)
}

/// Something of each kind, for a part with that container.
fn template(container: &str) -> Value {
    json!({"podTemplate": {
        "metadata": {
            "labels": {"example.com/team": "files"},
            "annotations": {"example.com/told": "twice"},
        },
        "spec": {
            "tolerations": [{"key": "example.com/kept", "operator": "Exists", "effect": "NoSchedule"}],
            "containers": [{
                "name": container,
                "env": [{"name": "EXAMPLE_TEAM", "value": "files"}],
            }],
        },
    }})
}

async fn all_have_it(room: &Room, part: &str, count: usize) -> Result<()> {
    let of_part = format!("{OURS}=demo,app.kubernetes.io/component={part}");
    let pods = room.api::<Pod>();
    let pods = pods.list(&ListParams::default().labels(&of_part)).await?;
    ensure!(pods.items.len() == count, "there are {}", pods.items.len());
    for pod in pods {
        let name = pod.name_any();
        ensure!(is_ready(&pod), "{name} is not ready");
        let lacks = what_it_lacks(&pod)?;
        ensure!(lacks.is_empty(), "{name} lacks {}", lacks.join(", "));
    }
    Ok(())
}

fn what_it_lacks(pod: &Pod) -> Result<Vec<&'static str>> {
    let spec = pod.spec.as_ref().context("the pod has no spec")?;
    let tolerations = spec.tolerations.iter().flatten();
    let mut keys = tolerations.filter_map(|one| one.key.as_deref());
    let variables = spec
        .containers
        .iter()
        .flat_map(|one| one.env.iter().flatten());
    let mut values = variables.filter(|one| one.name == "EXAMPLE_TEAM");
    let has = [
        ("the label", pod.labels().contains_key("example.com/team")),
        (
            "the annotation",
            pod.annotations().contains_key("example.com/told"),
        ),
        ("the toleration", keys.any(|key| key == "example.com/kept")),
        (
            "the variable",
            values.any(|one| one.value.as_deref() == Some("files")),
        ),
    ];
    let lacking = has.into_iter().filter(|(_, has)| !has);
    Ok(lacking.map(|(what, _)| what).collect())
}

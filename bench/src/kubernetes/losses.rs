//! One pod of each part is killed, and how long it takes until nothing tells of it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::kubernetes::children::is_ready;
use holdfast_e2e::kubernetes::room::Room;
use holdfast_e2e::kubernetes::state;
use holdfast_e2e::wait::until;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::{Amounts, LIMIT, fill, roomy};
use crate::sample::{Figure, figure};

const PARTS: [(&str, &str); 4] = [
    ("node", "storage pod"),
    ("gateway", "gateway"),
    ("worker", "worker"),
    ("rabbitmq", "RabbitMQ"),
];

/// Measures.
pub async fn measure(room: &Room, amounts: &Amounts) -> Result<Vec<Figure>> {
    room.apply("demo", &roomy(room, json!({}))).await?;
    room.until_settled("demo", LIMIT).await?;
    fill(&room.gateway("demo").await?, amounts.held_mib).await?;
    let mut figures = Vec::new();
    for _ in 0..amounts.k8s_rounds {
        for (component, part) in PARTS {
            room.until_settled("demo", LIMIT).await?;
            figures.extend(kill(room, component, part).await?);
        }
    }
    Ok(figures)
}

/// Kills one, and waits until another is ready and nothing is degraded.
async fn kill(room: &Room, component: &str, part: &str) -> Result<Vec<Figure>> {
    let pods = room.api::<Pod>();
    let labels = format!("app.kubernetes.io/component={component}");
    let all = ListParams::default().labels(&labels);
    let found = pods.list(&all).await?.items;
    let number = found.len();
    let old = found
        .first()
        .with_context(|| format!("there is no {part}"))?;
    let begun = Instant::now();
    pods.delete(&old.name_any(), &DeleteParams::default().grace_period(0))
        .await?;
    until("another one is ready", LIMIT, async || {
        let now = pods.list(&all).await?.items;
        let others = now
            .iter()
            .filter(|pod| pod.uid() != old.uid() && is_ready(pod));
        ensure!(others.count() >= number, "not yet");
        Ok(())
    })
    .await?;
    let ready = Instant::now();
    let mut figures = Vec::new();
    if component == "node" {
        room.until_cluster("demo", "it is listed as active", LIMIT, |cluster| {
            let nodes = cluster.status.as_ref().map(|status| &status.nodes);
            nodes.is_some_and(|nodes| nodes.list.iter().all(|node| node.state == "Active"))
        })
        .await?;
        let took = ready.elapsed().as_secs_f64();
        figures.push(figure(
            "from its pod's readiness to Active in the status",
            took,
            "s",
        ));
    }
    room.until_cluster("demo", "nothing is degraded", LIMIT, |cluster| {
        state::is(cluster, "Degraded", "False")
    })
    .await?;
    let what = format!("{part} killed, to Degraded=False");
    figures.push(figure(&what, begun.elapsed().as_secs_f64(), "s"));
    Ok(figures)
}

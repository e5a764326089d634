//! From `kubectl apply` to Ready, and how fast drift is put right.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use holdfast_crd::StorageCluster;
use holdfast_e2e::kubernetes::children::until_no_pods;
use holdfast_e2e::kubernetes::room::Room;
use holdfast_e2e::kubernetes::spec::{small, with};
use holdfast_e2e::wait::until;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DeleteParams;
use serde_json::json;

use super::{Amounts, LIMIT};
use crate::sample::{Figure, figure};

/// Gateways of each cluster.
const GATEWAYS: i32 = 2;

/// Measures.
pub async fn measure(room: &Room, amounts: &Amounts) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for brokers in [1, 3] {
        for round in 0..amounts.k8s_rounds {
            let name = format!("born-{brokers}-{round}");
            // What the README's example comes to: encrypted, two of each.
            let brokers_of = json!({"managed": {"replicas": brokers}});
            let change = json!({"tls": null, "gateway": {"replicas": GATEWAYS},
                "worker": {"replicas": 2}, "queue": brokers_of});
            let spec = with(small(room), change);
            let begun = Instant::now();
            room.apply(&name, &spec).await?;
            room.until_ready(&name, LIMIT).await?;
            let what = format!("apply to Ready: 3 nodes, Redis, {brokers} RabbitMQ");
            figures.push(figure(&what, begun.elapsed().as_secs_f64(), "s"));
            if brokers == 1 {
                let took = put_right(room, &name).await?;
                figures.push(figure("drift put right", took.as_secs_f64(), "s"));
            }
            room.api::<StorageCluster>()
                .delete(&name, &DeleteParams::default())
                .await?;
            until_no_pods(room, &name, LIMIT).await?;
        }
    }
    Ok(figures)
}

async fn put_right(room: &Room, cluster: &str) -> Result<Duration> {
    let name = format!("{cluster}-gateway");
    let begun = Instant::now();
    room.merge::<Deployment>(&name, json!({"spec": {"replicas": GATEWAYS + 1}}))
        .await?;
    until("the number of gateways", LIMIT, async || {
        let found = room.api::<Deployment>().get(&name).await?;
        let replicas = found.spec.and_then(|spec| spec.replicas);
        ensure!(replicas == Some(GATEWAYS), "{replicas:?} gateways");
        Ok(())
    })
    .await?;
    Ok(begun.elapsed())
}

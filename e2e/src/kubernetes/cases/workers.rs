//! Workers that are as many as there is work for.

use anyhow::{Result, ensure};
use holdfast_e2e::content::picture;
use holdfast_e2e::wait::until;
use image::ImageFormat;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::{SETTLED, born_with_traffic};
use crate::room::Room;
use crate::spec::{small, with};

/// Each is a task: more than enough for all workers that may be.
const PICTURES: u64 = 12;
const MOST: i32 = 3;

pub async fn a_long_queue_raises_the_workers_and_an_empty_one_lowers_them(
    room: &Room,
) -> Result<()> {
    let scale = json!({"min": 0, "max": MOST, "tasksPerWorker": 2});
    let spec = with(small(room), json!({"worker": {"autoscale": scale}}));
    let (_, traffic) = born_with_traffic(room, &spec).await?;
    // Nobody works before there is something to do, so that it adds up.
    until_workers(room, 0).await?;
    let gateway = room.gateway("demo").await?;
    let mut pictures = Vec::new();
    for seed in 0..PICTURES {
        let bytes = picture(seed, 640, 480, ImageFormat::Png)?;
        pictures.push(gateway.upload("picture.png", bytes, 0).await?);
    }
    until_workers(room, MOST).await?;
    for id in &pictures {
        until("a thumbnail", SETTLED, async || gateway.thumbnail(id).await).await?;
    }
    until_workers(room, 0).await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

async fn until_workers(room: &Room, wanted: i32) -> Result<()> {
    until(&format!("{wanted} workers"), SETTLED, async || {
        let deployment = room.api::<Deployment>().get("demo-worker").await?;
        let replicas = deployment.spec.and_then(|spec| spec.replicas);
        ensure!(replicas == Some(wanted), "{replicas:?}");
        Ok(())
    })
    .await
}

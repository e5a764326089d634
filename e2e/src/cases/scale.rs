//! More of the same service.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use image::ImageFormat;
use reqwest::StatusCode;
use serde_json::Value;

use crate::Level;
use crate::content::{noise, picture};
use crate::stack::{SETTLE, Stack};
use crate::wait::until;

pub async fn a_limit_holds_over_two_gateways(stack: &Stack, _: Level) -> Result<()> {
    const READERS: usize = 50;
    const LIMIT: u32 = 3;
    stack.scaled(&["gateway=2"])?;
    let gateways = [stack.gateway(1)?, stack.gateway(2)?];
    ensure!(
        gateways[0].url() != gateways[1].url(),
        "there is one gateway"
    );
    for gateway in &gateways {
        until("the gateway serves", SETTLE, async || {
            gateway.json("/api/stats").await
        })
        .await?;
    }
    for size in [1_000, 500_000] {
        let bytes = noise(size as u64, size);
        let id = gateways[0]
            .upload("three.bin", bytes.clone(), LIMIT)
            .await?;
        let readers = (0..READERS).map(|reader| {
            let gateway = &gateways[reader % 2];
            let (id, bytes) = (&id, &bytes);
            async move {
                let response = gateway.download(id).await?;
                let status = response.status();
                if status != StatusCode::OK {
                    return Ok((status, false));
                }
                anyhow::Ok((status, response.bytes().await? == bytes))
            }
        });
        let answers = join_all(readers).await;
        let answers: Vec<_> = answers.into_iter().collect::<Result<_>>()?;
        let served = answers
            .iter()
            .filter(|(status, _)| *status == StatusCode::OK);
        ensure!(
            served.clone().count() == LIMIT as usize && served.clone().all(|(_, same)| *same),
            "{size} bytes with limit {LIMIT}: {answers:?}"
        );
    }
    Ok(())
}

pub async fn five_workers_share_the_tasks(stack: &Stack, _: Level) -> Result<()> {
    const PICTURES: u64 = 40;
    stack.scaled(&["worker=5"])?;
    let gateway = stack.gateway(1)?;
    let mut ids = Vec::new();
    for seed in 0..PICTURES {
        let bytes = picture(seed, 700, 500, ImageFormat::Jpeg)?;
        ids.push(gateway.upload("many.jpg", bytes, 0).await?);
    }
    for id in &ids {
        let limit = Duration::from_secs(90);
        until("the thumbnail", limit, async || gateway.thumbnail(id).await).await?;
    }
    let tasks = gateway.json("/api/tasks?status=done&limit=200").await?;
    let tasks = tasks.get("tasks").unwrap_or(&tasks);
    let workers: BTreeSet<&str> = tasks
        .as_array()
        .context("no tasks")?
        .iter()
        .filter_map(|task| task.get("worker").and_then(Value::as_str))
        .collect();
    ensure!(workers.len() >= 3, "the tasks were done by {workers:?}");
    Ok(())
}

//! RabbitMQ and Redis, which carry work and heat and never truth; and the
//! worker that deletes what has expired.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_e2e::content::picture;
use holdfast_e2e::processes::{Cluster, Shape};
use holdfast_e2e::wait::until;
use image::ImageFormat;
use reqwest::{Method, StatusCode};
use tokio::sync::Semaphore;

use crate::{SETTLE, claim};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_and_cache_carry_nothing_that_can_be_lost() -> Result<()> {
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        workers: 2,
        queue: true,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::what_has_expired_is_not_served_and_goes_by_itself(
        &mut cluster
    ));
    claim!(self::rabbitmq_and_redis_are_wiped_in_the_middle_of_a_thousand_uploads(&mut cluster));
    Ok(())
}

async fn what_has_expired_is_not_served_and_goes_by_itself(cluster: &mut Cluster) -> Result<()> {
    /// The clocks of nodes and test are one; the rest is the way there.
    const LATE: Duration = Duration::from_millis(500);
    let gateway = cluster.gateway(0)?;
    let start = Instant::now();
    let response = gateway
        .request(
            Method::PUT,
            "/api/upload/brief.jpg?expires_in=2s&download_limit=0",
        )
        .body(picture(9, 640, 480, ImageFormat::Jpeg)?)
        .send()
        .await?;
    ensure!(
        response.status() == StatusCode::CREATED,
        "{}",
        response.status()
    );
    let answered = Instant::now();
    let text = response.text().await?;
    let id = text
        .split("\"file_id\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let id = id.with_context(|| format!("no file_id in {text}"))?;

    let mut served = 0;
    until("it is no longer served", SETTLE, async || {
        let asked = Instant::now();
        let status = gateway.download(id).await?.status();
        if status == StatusCode::OK {
            served += 1;
            let late = asked.duration_since(answered);
            assert!(
                late < Duration::from_secs(2) + LATE,
                "served {late:?} after its upload"
            );
            anyhow::bail!("served");
        }
        assert!(
            start.elapsed() >= Duration::from_secs(2),
            "gone too early: {status}"
        );
        assert!(
            status == StatusCode::GONE || status == StatusCode::NOT_FOUND,
            "{status}"
        );
        Ok(())
    })
    .await?;
    ensure!(served > 0, "it was never served");
    let path = format!("/api/files/{id}/thumbnail");
    let status = gateway.request(Method::GET, &path).send().await?.status();
    ensure!(
        status == StatusCode::GONE || status == StatusCode::NOT_FOUND,
        "{path}: {status}"
    );
    // Its data stays for an hour of grace, and the task that deletes it waits.
    until("its deletion is a task", SETTLE, async || {
        let tasks = gateway.json("/api/tasks?limit=200").await?.to_string();
        ensure!(tasks.contains(id) && tasks.contains("delete"), "{tasks}");
        Ok(())
    })
    .await
}

async fn rabbitmq_and_redis_are_wiped_in_the_middle_of_a_thousand_uploads(
    cluster: &mut Cluster,
) -> Result<()> {
    const COUNT: u64 = 1_000;
    const AT_ONCE: usize = 8;
    /// A hint that was lost with its broker is given again after a minute.
    const THUMBNAILS_WITHIN: Duration = Duration::from_secs(240);
    let gateway = &cluster.gateway(0)?;
    let done = &AtomicUsize::new(0);
    // The last quarter comes when both are back.
    let (back, last) = (&Semaphore::new(0), COUNT / 4 * 3);
    let start = Instant::now();
    let uploads = stream::iter(0..COUNT)
        .map(|seed| async move {
            if seed >= last {
                back.acquire().await?.forget();
                back.add_permits(1);
            }
            let bytes = picture(1_000 + seed, 48, 36, ImageFormat::Jpeg)?;
            // Once: none may fail because a carrier is away.
            let id = gateway
                .upload("album.jpg", bytes.clone(), 0)
                .await
                .with_context(|| format!("upload {seed}"))?;
            done.fetch_add(1, Ordering::Relaxed);
            anyhow::Ok((id, bytes))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>();
    let rabbitmq = cluster.rabbitmq.as_mut().context("no RabbitMQ")?;
    let redis = &mut cluster.redis;
    let reached = async |count: usize| {
        until("uploads go on", SETTLE, async || {
            let done = done.load(Ordering::Relaxed);
            ensure!(done >= count, "{done} of {count}");
            Ok(())
        })
        .await
    };
    let wiping = async {
        reached(250).await?;
        rabbitmq.wipe();
        redis.wipe();
        reached(500).await?;
        tokio::try_join!(rabbitmq.start_again(), redis.start_again())?;
        println!("back at upload {}", done.load(Ordering::Relaxed));
        back.add_permits(1);
        anyhow::Ok(())
    };
    let (uploaded, ()) = tokio::try_join!(uploads, wiping)?;
    println!("uploaded after {:.1} s", start.elapsed().as_secs_f64());
    let deadline = Instant::now() + THUMBNAILS_WITHIN;
    for (id, bytes) in &uploaded {
        let left = deadline.saturating_duration_since(Instant::now());
        let thumbnail = until("the thumbnail", left, async || gateway.thumbnail(id).await).await?;
        ensure!(image_of(&thumbnail), "no picture came as thumbnail of {id}");
        gateway.expect(id, bytes).await?;
    }
    println!(
        "all thumbnails after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    // Hints flow again, so that one more need not wait for a second publication.
    let id = gateway
        .upload("late.jpg", picture(7, 300, 200, ImageFormat::Jpeg)?, 0)
        .await?;
    until("the thumbnail of one more", SETTLE, async || {
        gateway.thumbnail(&id).await
    })
    .await?;
    Ok(())
}

fn image_of(bytes: &[u8]) -> bool {
    image::load_from_memory(bytes).is_ok()
}

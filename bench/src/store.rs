//! What the store does, through its gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::processes::Cluster;
use reqwest::{Client, Method};

use crate::limits::{Limits, SMALL_BYTES};
use crate::sample::{Figure, figure, median_millis};

/// A large object: one full chunk.
const LARGE_BYTES: usize = 8 << 20;
/// Clients that move large objects at once.
const LARGE_CLIENTS: usize = 8;

/// The store's figures in one round.
pub struct Store {
    one_upload_millis: f64,
    one_download_millis: f64,
    uploads: f64,
    downloads: f64,
    large_upload_mb: f64,
    large_download_mb: f64,
}

impl Store {
    /// As figures, with the ratios to the limits of the same round.
    pub fn figures(&self, limits: &Limits) -> Vec<Figure> {
        vec![
            figure("one client: 4 KiB upload p50", self.one_upload_millis, "ms"),
            figure(
                "one client: 4 KiB upload p50 / fdatasync",
                self.one_upload_millis / limits.sync_millis,
                "fdatasyncs",
            ),
            figure(
                "one client: 4 KiB download p50",
                self.one_download_millis,
                "ms",
            ),
            figure("4 KiB uploads", self.uploads, "objects/s"),
            figure(
                "4 KiB uploads / (a third of the log)",
                self.uploads / (limits.log_records / 3.0),
                "",
            ),
            figure(
                "4 KiB uploads / file per object",
                self.uploads / limits.file_objects,
                "",
            ),
            figure("4 KiB downloads", self.downloads, "objects/s"),
            figure("8 MiB uploads", self.large_upload_mb, "MB/s"),
            figure(
                "8 MiB uploads / (a third of sequential)",
                self.large_upload_mb / (limits.sequential_mb / 3.0),
                "",
            ),
            figure("8 MiB downloads", self.large_download_mb, "MB/s"),
        ]
    }
}

/// Measures one round.
pub async fn measure(cluster: &Cluster, clients: usize, time: Duration) -> Result<Store> {
    let gateway = Arc::new(Load::new(&cluster.gateway(0)?)?);
    let small = Bytes::from(vec![b'x'; SMALL_BYTES]);
    let (_, took, ids) = gateway.uploads(1, time / 2, &small).await?;
    let one_upload_millis = median_millis(took);
    let (_, took) = gateway.downloads(1, time / 2, &ids, SMALL_BYTES).await?;
    let one_download_millis = median_millis(took);
    let (uploads, _, ids) = gateway.uploads(clients, time, &small).await?;
    let (downloads, _) = gateway.downloads(clients, time, &ids, SMALL_BYTES).await?;
    let large = Bytes::from(vec![b'y'; LARGE_BYTES]);
    let (ups, _, ids) = gateway.uploads(LARGE_CLIENTS, time, &large).await?;
    let (downs, _) = gateway
        .downloads(LARGE_CLIENTS, time, &ids, LARGE_BYTES)
        .await?;
    let mb = LARGE_BYTES as f64 / 1e6;
    Ok(Store {
        one_upload_millis,
        one_download_millis,
        uploads,
        downloads,
        large_upload_mb: ups * mb,
        large_download_mb: downs * mb,
    })
}

/// Clients of one gateway.
struct Load {
    client: Client,
    url: String,
    key: String,
    serial: AtomicU64,
}

impl Load {
    fn new(gateway: &Gateway) -> Result<Self> {
        let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
        Ok(Self {
            client,
            url: gateway.url().to_owned(),
            key: holdfast_e2e::processes::TOKEN.to_owned(),
            serial: AtomicU64::new(0),
        })
    }

    /// Uploads for a while; how many a second, how long each took, and what they became.
    async fn uploads(
        &self,
        clients: usize,
        time: Duration,
        body: &Bytes,
    ) -> Result<(f64, Vec<Duration>, Vec<String>)> {
        let begin = Instant::now();
        let all = try_join_all((0..clients).map(|_| async {
            let mut done = Vec::new();
            while begin.elapsed() < time {
                let one = Instant::now();
                let id = self.upload(body.clone()).await?;
                done.push((one.elapsed(), id));
            }
            anyhow::Ok(done)
        }))
        .await?;
        let took = begin.elapsed().as_secs_f64();
        let (times, ids): (Vec<_>, Vec<_>) = all.into_iter().flatten().unzip();
        Ok((ids.len() as f64 / took, times, ids))
    }

    async fn upload(&self, body: Bytes) -> Result<String> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let response = self
            .client
            .request(
                Method::PUT,
                format!(
                    "{}/api/upload/bench-{serial}.bin?download_limit=0",
                    self.url
                ),
            )
            .bearer_auth(&self.key)
            .body(body)
            .send()
            .await?;
        let status = response.status();
        let answer: serde_json::Value = response.json().await?;
        ensure!(
            status.is_success(),
            "an upload was answered {status}: {answer}"
        );
        let id = answer
            .get("file_id")
            .and_then(|id| id.as_str())
            .context("no file_id")?;
        Ok(id.to_owned())
    }

    /// Downloads what was uploaded, in turn, for a while.
    async fn downloads(
        &self,
        clients: usize,
        time: Duration,
        ids: &[String],
        bytes: usize,
    ) -> Result<(f64, Vec<Duration>)> {
        let begin = Instant::now();
        let next = AtomicU64::new(0);
        let all = try_join_all((0..clients).map(|_| async {
            let mut done = Vec::new();
            while begin.elapsed() < time {
                let one = Instant::now();
                let at = next.fetch_add(1, Ordering::Relaxed) as usize % ids.len();
                let url = format!("{}/api/download/{}", self.url, ids[at]);
                let response = self.client.get(url).send().await?.error_for_status()?;
                ensure!(response.bytes().await?.len() == bytes, "a download was cut");
                done.push(one.elapsed());
            }
            anyhow::Ok(done)
        }))
        .await?;
        let took = begin.elapsed().as_secs_f64();
        let times: Vec<_> = all.into_iter().flatten().collect();
        Ok((times.len() as f64 / took, times))
    }
}

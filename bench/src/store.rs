//! What the store does, through its gateway.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use holdfast_e2e::processes::Cluster;

use crate::limits::Limits;
use crate::load::Load;
use crate::loopback::Loopback;
use crate::sample::{Figure, figure, median_millis};

/// A small object.
pub const SMALL_BYTES: usize = 4096;
/// A large object: one full chunk.
pub const LARGE_BYTES: usize = 8 << 20;
/// Clients that move large objects at once.
pub const LARGE_CLIENTS: usize = 8;
/// Copies that are made of everything.
const COPIES: f64 = 3.0;
/// A text just large enough that a worker is asked to compress it.
const TASK_BYTES: usize = 5 << 10;

/// The store's figures in one round.
pub struct Store {
    one_upload_millis: f64,
    one_download_millis: f64,
    uploads: f64,
    task_uploads: f64,
    downloads: f64,
    limited_uploads: f64,
    limited_downloads: f64,
    large_upload_mb: f64,
    large_download_mb: f64,
    small_written: f64,
    large_written: f64,
}

impl Store {
    /// As figures, with the ratios to the limits of the same round.
    #[rustfmt::skip]
    pub fn figures(&self, limits: &Limits, http: &Loopback) -> Vec<Figure> {
        let log = limits.log_records / COPIES;
        vec![
            figure("one client: 4 KiB upload p50", self.one_upload_millis, "ms"),
            figure("one client: 4 KiB upload p50 / fdatasync", self.one_upload_millis / limits.sync_millis, "fdatasyncs"),
            figure("one client: 4 KiB download p50", self.one_download_millis, "ms"),
            figure("one client: 4 KiB download p50 / loopback", self.one_download_millis / http.one_millis, "requests"),
            figure("4 KiB uploads", self.uploads, "objects/s"),
            figure("4 KiB uploads / (a third of the log)", self.uploads / log, ""),
            figure("4 KiB uploads / file per object", self.uploads / limits.file_objects, ""),
            figure("5 KiB uploads with a task each", self.task_uploads, "objects/s"),
            figure("4 KiB downloads", self.downloads, "objects/s"),
            figure("4 KiB downloads / loopback", self.downloads / http.small, ""),
            figure("4 KiB downloads, counted", self.limited_downloads, "objects/s"),
            figure("4 KiB downloads, counted / uploads", self.limited_downloads / self.limited_uploads, ""),
            figure("8 MiB uploads", self.large_upload_mb, "MB/s"),
            figure("8 MiB uploads / (a third of sequential)", self.large_upload_mb / (limits.sequential_mb / COPIES), ""),
            figure("8 MiB downloads", self.large_download_mb, "MB/s"),
            figure("8 MiB downloads / loopback", self.large_download_mb / http.large_mb, ""),
            figure("bytes written / byte stored, 4 KiB (3 are the copies)", self.small_written, ""),
            figure("bytes written / byte stored, 8 MiB (3 are the copies)", self.large_written, ""),
        ]
    }
}

/// Bytes that the nodes have had written to disk since they began.
fn written(cluster: &Cluster) -> Result<f64> {
    let mut bytes = 0.0;
    for node in &cluster.nodes {
        let program = node.program.as_ref().context("a node does not run")?;
        let text = std::fs::read_to_string(format!("/proc/{}/io", program.pid()))?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("write_bytes: "));
        bytes += line.context("no write_bytes")?.parse::<f64>()?;
    }
    Ok(bytes)
}

/// Measures one round.
pub async fn measure(cluster: &Cluster, clients: usize, time: Duration) -> Result<Store> {
    let gateway = Load::new(cluster.gateway(0)?.url())?;
    let body = Bytes::from(vec![b'x'; SMALL_BYTES]);
    let small = ("bin", &body);
    eprintln!("  one client");
    let (one_up, ids) = gateway.uploads(1, time / 2, small, 0).await?;
    let one_down = gateway.downloads(1, time / 2, &ids, SMALL_BYTES).await?;
    let before = written(cluster)?;
    eprintln!("  4 KiB uploads");
    let (ups, ids) = gateway.uploads(clients, time, small, 0).await?;
    let small_written = (written(cluster)? - before) / (ids.len() * SMALL_BYTES) as f64;
    eprintln!("  4 KiB downloads");
    let downs = gateway.downloads(clients, time, &ids, SMALL_BYTES).await?;
    eprintln!("  counted downloads");
    let (limited_ups, ids) = gateway.uploads(clients, time, small, 1_000_000).await?;
    let limited_downs = gateway.downloads(clients, time, &ids, SMALL_BYTES).await?;
    let text = Bytes::from(vec![b'x'; TASK_BYTES]);
    eprintln!("  uploads with tasks");
    let (task_ups, _) = gateway.uploads(clients, time, ("txt", &text), 0).await?;
    let body = Bytes::from(vec![b'y'; LARGE_BYTES]);
    let large = ("bin", &body);
    let before = written(cluster)?;
    eprintln!("  8 MiB uploads");
    let (large_ups, ids) = gateway.uploads(LARGE_CLIENTS, time, large, 0).await?;
    let large_written = (written(cluster)? - before) / (ids.len() * LARGE_BYTES) as f64;
    eprintln!("  8 MiB downloads");
    let large_downs = gateway
        .downloads(LARGE_CLIENTS, time, &ids, LARGE_BYTES)
        .await?;
    let mb = LARGE_BYTES as f64 / 1e6;
    Ok(Store {
        one_upload_millis: median_millis(one_up.took),
        one_download_millis: median_millis(one_down.took),
        uploads: ups.per_second,
        task_uploads: task_ups.per_second,
        downloads: downs.per_second,
        limited_uploads: limited_ups.per_second,
        limited_downloads: limited_downs.per_second,
        large_upload_mb: large_ups.per_second * mb,
        large_download_mb: large_downs.per_second * mb,
        small_written,
        large_written,
    })
}

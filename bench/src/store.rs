//! What the store does, through its gateway.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use holdfast_e2e::processes::Cluster;

use crate::limits::Limits;
use crate::load::Load;
use crate::loopback::Loopback;
use crate::sample::{Figure, figure, median_millis};
use crate::usage::Meter;

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
    upload_micros: f64,
    download_micros: f64,
    limited_download_micros: f64,
    large_upload_millis: f64,
    large_download_millis: f64,
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
            figure("processor time of our processes, a 4 KiB upload", self.upload_micros, "µs"),
            figure("processor time of our processes, a 4 KiB download", self.download_micros, "µs"),
            figure("processor time of our processes, a counted one", self.limited_download_micros, "µs"),
            figure("processor time of our processes, an 8 MiB upload", self.large_upload_millis, "ms"),
            figure("processor time of our processes, an 8 MiB download", self.large_download_millis, "ms"),
            figure("bytes written / byte stored, 4 KiB (3 are the copies)", self.small_written, ""),
            figure("bytes written / byte stored, 8 MiB (3 are the copies)", self.large_written, ""),
        ]
    }
}

/// Measures one round.
pub async fn measure(cluster: &Cluster, clients: usize, time: Duration) -> Result<Store> {
    let gateway = Load::new(cluster.gateway(0)?.url())?;
    let body = Bytes::from(vec![b'x'; SMALL_BYTES]);
    let small = ("bin", &body);
    eprintln!("  one client");
    let (one_up, ids) = gateway.uploads(1, time / 2, small, 0).await?;
    let one_down = gateway.downloads(1, time / 2, &ids, SMALL_BYTES).await?;
    eprintln!("  4 KiB uploads");
    let meter = Meter::start(cluster)?;
    let (ups, ids) = gateway.uploads(clients, time, small, 0).await?;
    let (upload_seconds, small_written) = meter.per(ids.len())?;
    eprintln!("  4 KiB downloads");
    let meter = Meter::start(cluster)?;
    let downs = gateway.downloads(clients, time, &ids, SMALL_BYTES).await?;
    let (download_seconds, _) = meter.per(downs.took.len())?;
    eprintln!("  counted downloads");
    let (limited_ups, ids) = gateway.uploads(clients, time, small, 1_000_000).await?;
    let meter = Meter::start(cluster)?;
    let limited_downs = gateway.downloads(clients, time, &ids, SMALL_BYTES).await?;
    let (limited_seconds, _) = meter.per(limited_downs.took.len())?;
    let text = Bytes::from(vec![b'x'; TASK_BYTES]);
    eprintln!("  uploads with tasks");
    let (task_ups, _) = gateway.uploads(clients, time, ("txt", &text), 0).await?;
    let body = Bytes::from(vec![b'y'; LARGE_BYTES]);
    let large = ("bin", &body);
    eprintln!("  8 MiB uploads");
    let meter = Meter::start(cluster)?;
    let (large_ups, ids) = gateway.uploads(LARGE_CLIENTS, time, large, 0).await?;
    let (large_up_seconds, large_written) = meter.per(ids.len())?;
    eprintln!("  8 MiB downloads");
    let meter = Meter::start(cluster)?;
    let large_downs = gateway
        .downloads(LARGE_CLIENTS, time, &ids, LARGE_BYTES)
        .await?;
    let (large_down_seconds, _) = meter.per(large_downs.took.len())?;
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
        small_written: small_written / SMALL_BYTES as f64,
        large_written: large_written / LARGE_BYTES as f64,
        upload_micros: upload_seconds * 1e6,
        download_micros: download_seconds * 1e6,
        limited_download_micros: limited_seconds * 1e6,
        large_upload_millis: large_up_seconds * 1e3,
        large_download_millis: large_down_seconds * 1e3,
    })
}

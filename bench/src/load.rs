//! Clients of an HTTP server that do one thing again and again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use reqwest::{Client, Method};

/// What came of a load.
pub struct Done {
    /// Requests a second, all clients together.
    pub per_second: f64,
    /// How long each took.
    pub took: Vec<Duration>,
}

/// Clients of one gateway, or of the server in memory.
pub struct Load {
    client: Client,
    url: String,
    serial: AtomicU64,
}

impl Load {
    /// Clients of the server at `url`.
    pub fn new(url: &str) -> Result<Self> {
        let client = holdfast_e2e::http::client()?.tcp_nodelay(true).build()?;
        Ok(Self {
            client,
            url: url.to_owned(),
            serial: AtomicU64::new(0),
        })
    }

    /// Uploads with this download limit for a while, and what the files are called.
    pub async fn uploads(
        &self,
        clients: usize,
        time: Duration,
        (extension, body): (&str, &Bytes),
        limit: u64,
    ) -> Result<(Done, Vec<String>)> {
        let begin = Instant::now();
        let all = try_join_all((0..clients).map(|_| async {
            let mut done = Vec::new();
            while begin.elapsed() < time {
                let one = Instant::now();
                let id = self.upload(extension, body.clone(), limit).await?;
                done.push((one.elapsed(), id));
            }
            anyhow::Ok(done)
        }))
        .await?;
        let seconds = begin.elapsed().as_secs_f64();
        let (took, ids): (Vec<_>, Vec<_>) = all.into_iter().flatten().unzip();
        let per_second = ids.len() as f64 / seconds;
        Ok((Done { per_second, took }, ids))
    }

    /// Uploads one file.
    pub async fn upload(&self, extension: &str, body: Bytes, limit: u64) -> Result<String> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let url = format!(
            "{}/api/upload/bench-{serial}.{extension}?download_limit={limit}",
            self.url
        );
        let request = self.client.request(Method::PUT, url);
        let request = request.bearer_auth(holdfast_e2e::processes::TOKEN);
        let response = request.body(body).send().await?;
        let status = response.status();
        let answer: serde_json::Value = response.json().await?;
        ensure!(
            status.is_success(),
            "an upload was answered {status}: {answer}"
        );
        let id = answer.get("file_id").and_then(|id| id.as_str());
        Ok(id.context("no file_id")?.to_owned())
    }

    /// Downloads what was uploaded, in turn, for a while; each time anew, with
    /// no ticket of an earlier download.
    pub async fn downloads(
        &self,
        clients: usize,
        time: Duration,
        ids: &[String],
        bytes: usize,
    ) -> Result<Done> {
        let path = |at: usize| format!("/api/download/{}", ids[at % ids.len()]);
        self.gets(clients, time, path, bytes).await
    }

    /// Gets the paths numbered from 0 on for a while.
    pub async fn gets(
        &self,
        clients: usize,
        time: Duration,
        path: impl Fn(usize) -> String,
        bytes: usize,
    ) -> Result<Done> {
        let begin = Instant::now();
        let next = AtomicU64::new(0);
        let all = try_join_all((0..clients).map(|_| async {
            let mut took = Vec::new();
            while begin.elapsed() < time {
                let one = Instant::now();
                let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                let url = format!("{}{}", self.url, path(at));
                let response = self.client.get(url).send().await?.error_for_status()?;
                ensure!(response.bytes().await?.len() == bytes, "a download was cut");
                took.push(one.elapsed());
            }
            anyhow::Ok(took)
        }))
        .await?;
        let seconds = begin.elapsed().as_secs_f64();
        let took: Vec<_> = all.into_iter().flatten().collect();
        let per_second = took.len() as f64 / seconds;
        Ok(Done { per_second, took })
    }
}

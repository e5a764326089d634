//! A client that uploads and downloads all the time and compares every byte.
//!
//! Refusals and broken connections are tried again, as clients do, and counted.
//! Wrong bytes, and a file that was acknowledged and is not found, end the case:
//! no retry makes them right.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::content::noise;
use crate::gateway::Gateway;
use crate::wait::until;
use anyhow::{Context, Error, Result, anyhow, ensure};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use tokio::task::JoinHandle;

/// Inline, one fragment, several blocks, and now and then more than a chunk.
const SIZES: [usize; 8] = [900, 40_000, 300_000, 20_000, 5_000, 100_000, 700, 9 << 20];
/// What the client keeps: older files are deleted.
const MOST_BYTES: usize = 64 << 20;
/// Leaves the cluster some of two cores, and its disks less to write than
/// compaction takes back.
const PAUSE: Duration = Duration::from_millis(300);
/// Uploads and downloads at the same time.
const LANES: u64 = 2;
/// At the end everything must come back at once, but for an election.
const SETTLE: Duration = Duration::from_secs(30);

/// How often something is tried again.
#[derive(Clone, Copy)]
pub enum Patience {
    /// Once, a moment later.
    OneRetry,
    /// For as long.
    Until(Duration),
}

/// What was done.
#[derive(Default, Debug)]
pub struct Tally {
    /// Files that were acknowledged.
    pub uploads: usize,
    /// Files that came back whole.
    pub downloads: usize,
    /// What failed and then succeeded.
    pub cured: Vec<String>,
    /// What failed for good: `an upload: 503: ...`.
    pub failed: Vec<String>,
}

/// The running client.
pub struct Traffic {
    gateway: Gateway,
    ended: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<Result<Lane>>>,
}

struct Kept {
    id: String,
    seed: u64,
    size: usize,
}

struct Lane {
    gateway: Gateway,
    patience: Patience,
    sizes: &'static [usize],
    tally: Tally,
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Traffic {
    /// Starts, and returns when each lane has stored a few files.
    pub async fn start(gateway: Gateway, patience: Patience) -> Result<Self> {
        Self::start_with(gateway, patience, &SIZES).await
    }

    /// The same with files of these sizes, one after the other.
    pub async fn start_with(
        gateway: Gateway,
        patience: Patience,
        sizes: &'static [usize],
    ) -> Result<Self> {
        // Each size once.
        let first = sizes.len() as u64;
        let ended = Arc::new(AtomicBool::new(false));
        let mut lanes = Vec::new();
        for number in 0..LANES {
            let mut lane = Lane {
                gateway: gateway.clone(),
                patience,
                sizes,
                tally: Tally::default(),
                kept: VecDeque::new(),
                bytes: 0,
            };
            let first_seed = number << 32;
            for seed in 0..first {
                lane.upload(first_seed + seed).await?;
            }
            let till = ended.clone();
            lanes.push(tokio::spawn(async move {
                let mut seed = first_seed + first;
                while !till.load(Ordering::Relaxed) {
                    lane.upload(seed).await?;
                    lane.download_one(seed).await?;
                    lane.forget().await?;
                    seed += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(lane)
            }));
        }
        Ok(Self {
            gateway,
            ended,
            lanes,
        })
    }

    /// Ends, and looks at every file once more.
    pub async fn finish(self) -> Result<Tally> {
        self.ended.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for lane in join_all(self.lanes).await {
            let lane = lane.context("the client")??;
            for kept in &lane.kept {
                let bytes = noise(kept.seed, kept.size);
                until("a file at the end", SETTLE, async || {
                    self.gateway.expect(&kept.id, &bytes).await
                })
                .await?;
            }
            all.uploads += lane.tally.uploads;
            all.downloads += lane.tally.downloads;
            all.cured.extend(lane.tally.cured);
            all.failed.extend(lane.tally.failed);
        }
        Ok(all)
    }

    /// The same; and nothing may have failed that trying again did not cure.
    pub async fn finish_unharmed(self) -> Result<Tally> {
        let tally = self.finish().await?;
        ensure!(tally.downloads > 0, "the client did nothing");
        ensure!(
            tally.failed.is_empty(),
            "of {} uploads and {} downloads {} failed, as {}",
            tally.uploads,
            tally.downloads,
            tally.failed.len(),
            tally.failed[0]
        );
        Ok(tally)
    }
}

impl Lane {
    async fn upload(&mut self, seed: u64) -> Result<()> {
        let size = self.sizes[(seed % self.sizes.len() as u64) as usize];
        let work = Work::Upload(noise(seed, size));
        if let Some(id) = self.persist(work).await? {
            self.tally.uploads += 1;
            self.bytes += size;
            self.kept.push_back(Kept { id, seed, size });
        }
        Ok(())
    }

    async fn download_one(&mut self, draw: u64) -> Result<()> {
        let Some(kept) = self.kept.get(draw as usize % self.kept.len().max(1)) else {
            return Ok(());
        };
        let work = Work::Download(kept.id.clone(), noise(kept.seed, kept.size));
        if self.persist(work).await?.is_some() {
            self.tally.downloads += 1;
        }
        Ok(())
    }

    /// Deletes the oldest files, so that hours of this fill no disk.
    async fn forget(&mut self) -> Result<()> {
        while self.bytes > MOST_BYTES {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.bytes -= oldest.size;
            self.persist(Work::Delete(oldest.id)).await?;
        }
        Ok(())
    }

    /// Tries, and tries again as patience allows; the file's id. None when it
    /// failed for good.
    async fn persist(&mut self, work: Work) -> Result<Option<String>> {
        /// What a client waits that is told nothing else.
        const MOMENT: Duration = Duration::from_secs(1);
        let start = Instant::now();
        let mut first = None;
        loop {
            let error = match work.attempt(&self.gateway).await {
                Ok(id) => {
                    self.tally.cured.extend(first);
                    return Ok(Some(id));
                }
                Err(Failure::Never(error)) => return Err(error),
                Err(Failure::Again(error)) => format!("{}: {error:#}", work.name()),
            };
            let patient = match self.patience {
                Patience::OneRetry => first.is_none(),
                Patience::Until(limit) => start.elapsed() < limit,
            };
            if !patient {
                self.tally.failed.push(error);
                return Ok(None);
            }
            first.get_or_insert(error);
            tokio::time::sleep(MOMENT).await;
        }
    }
}

/// A thing to do.
enum Work {
    Upload(Vec<u8>),
    Download(String, Vec<u8>),
    Delete(String),
}

/// Whether trying again may help.
enum Failure {
    Again(Error),
    Never(Error),
}

impl Work {
    fn name(&self) -> &'static str {
        match self {
            Self::Upload(_) => "an upload",
            Self::Download(..) => "a download",
            Self::Delete(_) => "a deletion",
        }
    }

    /// Does it once; the file's id.
    async fn attempt(&self, gateway: &Gateway) -> Result<String, Failure> {
        match self {
            Self::Upload(bytes) => gateway
                .upload("traffic.bin", bytes.clone(), 0)
                .await
                .map_err(Failure::Again),
            Self::Download(id, bytes) => {
                compare(gateway, id, bytes).await?;
                Ok(id.clone())
            }
            Self::Delete(id) => {
                delete(gateway, id).await.map_err(Failure::Again)?;
                Ok(id.clone())
            }
        }
    }
}

async fn compare(gateway: &Gateway, id: &str, bytes: &[u8]) -> Result<(), Failure> {
    let response = gateway.download(id).await.map_err(Failure::Again)?;
    let status = response.status();
    let came = response.bytes().await;
    let came = came.map_err(|error| Failure::Again(error.into()))?;
    match status {
        StatusCode::OK if came == bytes => Ok(()),
        StatusCode::OK => Err(Failure::Never(anyhow!("{id} came back with other bytes"))),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Failure::Never(anyhow!(
            "{id} was acknowledged, and then {status}"
        ))),
        _ => {
            let text = String::from_utf8_lossy(&came);
            Err(Failure::Again(anyhow!("{status}: {text}")))
        }
    }
}

async fn delete(gateway: &Gateway, id: &str) -> Result<()> {
    let path = format!("/api/files/{id}");
    let status = gateway
        .request(Method::DELETE, &path)
        .send()
        .await?
        .status();
    // The second try finds what the first has done.
    ensure!(
        status.is_success() || status == StatusCode::NOT_FOUND,
        "{status}"
    );
    Ok(())
}

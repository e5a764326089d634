//! What all handlers share. Each piece of it has one owner: the cluster's view
//! its own task, the limits a semaphore each.

use std::sync::Arc;
use std::time::Duration;

use holdfast_cache::Cache;
use holdfast_client::{Cluster, MemoryBudget, ObjectPlace};
use holdfast_model::cluster::FILES_BUCKET;
use holdfast_model::{BucketId, ClusterState, GroupId, ObjectKey, Supported};
use holdfast_queue::Queue;
use holdfast_runtime::{Env, Shutdown};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dispatch::Dispatcher;
use crate::download::settle::{MAX_UNDER_WAY, Settlements};
use crate::error::ApiError;
use crate::password::Passwords;
use crate::settings::GatewaySettings;

/// The unit in which the memory budget is given out to transfers, in bytes.
const SLOT_BYTES: u64 = 64 << 10;
/// The most that one upload holds at a time: a stripe on its way in, the same
/// for each node it goes to, and what the connection buffers.
const UPLOAD_BYTES: u64 = 1 << 20;
/// The most that one download holds at a time: the stripe that is being sent
/// and the one that is being read.
const DOWNLOAD_BYTES: u64 = 512 << 10;
/// Requests that ask every group at once (lists, totals), at a time.
const MAX_FAN_OUTS: usize = 64;
/// Labels of limits in metrics.
const REQUESTS: &str = "requests";
const TRANSFERS: &str = "transfer_bytes";
const FAN_OUTS: &str = "fan_outs";

/// What a gateway works with; the binary makes it from settings, `holdfast dev`
/// from its own process.
#[derive(Clone)]
pub struct GatewayParts {
    /// The cluster.
    pub cluster: Cluster,
    /// Where hints of tasks go.
    pub queue: Arc<dyn Queue>,
    /// Heat and rate limits.
    pub cache: Arc<dyn Cache>,
    /// What `/metrics` shows; none where another part of the process shows it.
    pub metrics: Option<PrometheusHandle>,
    /// What the program can speak.
    pub supports: Supported,
}

/// A transfer that is to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// Bytes come in; how many, where it is known.
    Upload(Option<u64>),
    /// So many bytes go out.
    Download(u64),
}

/// The shared state of handlers.
pub struct App {
    /// What was set.
    pub settings: GatewaySettings,
    /// The cluster.
    pub cluster: Cluster,
    /// The world.
    pub env: Env,
    /// Heat and rate limits.
    pub cache: Arc<dyn Cache>,
    /// Puts tasks into the queue.
    pub dispatcher: Arc<Dispatcher>,
    /// Checks passwords, few at a time.
    pub passwords: Passwords,
    /// Bounds what transfers hold in the client crate.
    pub budget: Arc<MemoryBudget>,
    /// The end of the process.
    pub shutdown: Shutdown,
    /// Reports of downloads that are under way.
    pub settlements: Settlements,
    transfers: Arc<Semaphore>,
    fan_outs: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

/// One of this gateway's limits, for those who watch it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What it limits: the label of its metrics.
    pub of: &'static str,
    /// How much is allowed.
    pub most: u64,
    /// How much of it is taken now.
    pub used: u64,
}

impl App {
    /// Makes the state; nothing runs yet.
    pub fn new(settings: GatewaySettings, parts: &GatewayParts, shutdown: Shutdown) -> Arc<Self> {
        let env = parts.cluster.env().clone();
        let slots = (settings.memory_budget / SLOT_BYTES).max(1) as usize;
        Arc::new(Self {
            cluster: parts.cluster.clone(),
            cache: parts.cache.clone(),
            dispatcher: Dispatcher::new(parts.cluster.clone(), parts.queue.clone()),
            passwords: Passwords::new(env.clone(), parts.cache.clone()),
            budget: MemoryBudget::new(settings.memory_budget),
            shutdown,
            settlements: Settlements::default(),
            transfers: Arc::new(Semaphore::new(slots)),
            fan_outs: Arc::new(Semaphore::new(MAX_FAN_OUTS)),
            requests: Arc::new(Semaphore::new(settings.max_requests as usize)),
            env,
            settings,
        })
    }

    /// Takes a place among the requests that are served at once, until the
    /// permit is dropped.
    pub fn admit_request(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        try_take(&self.requests, 1, REQUESTS)
    }

    /// The limits, and how far they are used.
    pub fn limits(&self) -> [Limit; 5] {
        let limit = |of, most: u64, free: u64| Limit {
            of,
            most,
            used: most.saturating_sub(free),
        };
        let budget = self.settings.memory_budget;
        let requests = u64::from(self.settings.max_requests);
        let free = |semaphore: &Semaphore| semaphore.available_permits() as u64;
        let settlements = self.settlements.under_way() as u64;
        [
            limit(REQUESTS, requests, free(&self.requests)),
            limit(TRANSFERS, budget, self.transfer_bytes_free()),
            limit("budget_bytes", budget, self.budget.free()),
            limit(FAN_OUTS, MAX_FAN_OUTS as u64, free(&self.fan_outs)),
            Limit {
                of: "settlements",
                most: MAX_UNDER_WAY as u64,
                used: settlements,
            },
        ]
    }

    /// Takes room for a transfer out of the memory budget, until the permit is
    /// dropped. Does not wait: who finds none is told to come again, so that
    /// waiting clients do not pile up.
    pub fn admit(&self, transfer: Transfer) -> Result<OwnedSemaphorePermit, ApiError> {
        let bytes = match transfer {
            Transfer::Upload(size) => size.unwrap_or(UPLOAD_BYTES).min(UPLOAD_BYTES),
            Transfer::Download(size) => size.min(DOWNLOAD_BYTES),
        };
        let slots = bytes.div_ceil(SLOT_BYTES).max(1) as u32;
        try_take(&self.transfers, slots, TRANSFERS)
    }

    /// What the memory budget has left for transfers, in bytes.
    pub fn transfer_bytes_free(&self) -> u64 {
        self.transfers.available_permits() as u64 * SLOT_BYTES
    }

    /// Takes the right to ask every group at once.
    pub fn admit_fan_out(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        try_take(&self.fan_outs, 1, FAN_OUTS)
    }

    /// The cluster's state, unless it has not been confirmed for too long.
    pub fn state(&self) -> Result<Arc<ClusterState>, ApiError> {
        let state = self
            .cluster
            .state()
            .ok_or_else(|| ApiError::NotReady("no node has answered yet".into()))?;
        let age = self.cluster.freshness();
        if age == Duration::MAX {
            return Err(ApiError::NotReady(
                "its state has not been confirmed yet, so a revoked key could be taken".into(),
            ));
        }
        if age > self.settings.stale_limit {
            return Err(ApiError::NotReady(format!(
                "its state was last confirmed {} s ago, so a revoked key could still be taken",
                age.as_secs()
            )));
        }
        Ok(state)
    }

    /// The bucket of files.
    pub fn files_bucket(&self) -> Result<BucketId, ApiError> {
        self.state()?
            .bucket(FILES_BUCKET)
            .map(|bucket| bucket.id)
            .ok_or_else(|| ApiError::NotReady("it has no bucket of files".into()))
    }

    /// Where a file's record is.
    pub fn locate(&self, id: &str) -> Result<ObjectPlace, ApiError> {
        let bucket = self.files_bucket()?;
        let key = file_key(id)?;
        let group = self.cluster.group_of(bucket, &key)?;
        Ok(ObjectPlace { group, bucket, key })
    }

    /// Whether requests can be served, and if not, why.
    pub fn ready(&self) -> Result<(), String> {
        if self.shutdown.has_begun() {
            return Err("shutting down".into());
        }
        let state = self.state().map_err(|error| error.to_string())?;
        let leaders = self.cluster.leaders();
        let led = |group: &GroupId| leaders.get(group).is_some_and(|view| view.leader.is_some());
        // One group without a leader is no reason to take every gateway away.
        if state.layout.data_groups().iter().any(led) {
            Ok(())
        } else {
            Err("no metadata group has a leader".into())
        }
    }
}

/// Takes of a limit what is free, and never waits for it.
fn try_take(
    limit: &Arc<Semaphore>,
    count: u32,
    of: &'static str,
) -> Result<OwnedSemaphorePermit, ApiError> {
    limit.clone().try_acquire_many_owned(count).map_err(|_| {
        metrics::counter!("holdfast_refused_total", "limit" => of).increment(1);
        ApiError::Busy
    })
}

/// A file's id as an object key: 32 lower-case hexadecimal digits; anything
/// else is no file.
fn file_key(id: &str) -> Result<ObjectKey, ApiError> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if id.len() != 32 || !id.bytes().all(digit) {
        return Err(ApiError::NoSuchFile);
    }
    ObjectKey::new(id).map_err(|_| ApiError::NoSuchFile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_id_has_one_spelling() {
        assert!(file_key("0123456789abcdef0123456789abcdef").is_ok());
        for bad in [
            "",
            "..",
            "0123456789ABCDEF0123456789ABCDEF",
            &"0".repeat(33),
        ] {
            assert!(file_key(bad).is_err(), "{bad:?} was taken");
        }
    }
}

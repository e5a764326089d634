//! Clients that put, read back, list, delete and count downloads, some of it on
//! conditions, through the same crate as gateways do, and write down what they
//! were told.

mod condition;
mod download;
mod list;
mod read;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_client::{Cluster, ClusterError, MemoryBudget, ObjectPlace};
use holdfast_metadata::command::{Command, Outcome};
use holdfast_model::record::INLINE_LIMIT_BYTES;
use holdfast_model::{BucketId, GroupId, ObjectKey, ObjectRecord, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::history::Action;
use crate::journal::{Journal, Written};

/// How long a client waits for a command or a question.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a client waits for bytes before it gives up.
const BODY_LIMIT: Duration = Duration::from_secs(60);
/// Keys that all clients share: few, so that they meet.
const SHARED_KEYS: u64 = 14;
/// Keys with a download limit.
const LIMITED_KEYS: u64 = 5;
/// The largest object.
const MAX_CHUNKED_BYTES: u64 = 900 << 10;
/// Lifetime of objects that expire: longer than any run, and shorter than what
/// a wrong clock is off by.
const LIFETIME_MILLIS: u64 = 30 * 60 * 1_000;
/// Memory of a client's bodies.
const BUDGET_BYTES: u64 = 64 << 20;

/// How slow an upload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// The pause after each piece of 200 KiB.
    pub piece: Duration,
    /// The pause between the last byte and the commit.
    pub commit: Duration,
}

/// One client.
pub struct Client {
    /// Its number.
    pub number: usize,
    /// How slow its uploads are; drawn for each where it is not given.
    pub pace: Option<Pace>,
    cluster: Cluster,
    journal: Journal,
    budget: Arc<MemoryBudget>,
    bucket: BucketId,
}

/// A key of some kind.
fn key(kind: &str, number: u64) -> Option<ObjectKey> {
    ObjectKey::new(format!("{kind}-{number}")).ok()
}

impl Client {
    /// A client of a cluster that is ready.
    pub fn new(number: usize, cluster: Cluster, journal: Journal) -> Option<Self> {
        let bucket = cluster.state()?.bucket("files")?.id;
        Some(Self {
            number,
            pace: None,
            cluster,
            journal,
            budget: MemoryBudget::new(BUDGET_BYTES),
            bucket,
        })
    }

    /// Works until `stop` is cancelled, then sets `done`.
    pub async fn work(self, stop: CancellationToken, done: Arc<AtomicBool>, pause: Duration) {
        while !stop.is_cancelled() {
            self.one().await;
            let time = Duration::from_millis(self.below(pause.as_millis() as u64));
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.cluster.env().clock.sleep(time) => {}
            }
        }
        done.store(true, Ordering::Relaxed);
    }

    fn below(&self, bound: u64) -> u64 {
        self.cluster.env().entropy.below(bound)
    }

    async fn one(&self) {
        let Some(shared) = key("shared", self.below(SHARED_KEYS)) else {
            return;
        };
        match self.below(100) {
            0..20 => {
                let size = self.below(2_000);
                self.put_drawn(&shared, size).await;
            }
            20..38 => {
                let size = INLINE_LIMIT_BYTES + 1 + self.below(MAX_CHUNKED_BYTES);
                self.put_drawn(&shared, size).await;
            }
            38..68 => self.read(&shared).await,
            68..78 => self.delete_drawn(&shared).await,
            78..84 => self.list().await,
            kind => {
                if let Some(key) = key("limited", self.below(LIMITED_KEYS)) {
                    self.limited(&key, kind).await;
                }
            }
        }
    }

    /// Puts, deletes or downloads an object with a limit.
    async fn limited(&self, key: &ObjectKey, kind: u64) {
        match kind {
            84..87 => {
                let limit = 1 + self.below(3) as u32;
                let size = match self.below(4) {
                    0 => INLINE_LIMIT_BYTES + 1,
                    _ => 500,
                };
                self.put(key, size, Some(limit)).await;
            }
            87 => self.delete(key).await,
            _ => self.download(key).await,
        }
    }

    fn tell(&self, what: &str) {
        self.journal
            .trace()
            .tell(&format!("client {} {what}", self.number));
    }
    fn wrong(&self, what: String) {
        self.journal
            .trace()
            .wrong(format!("client {}: {what}", self.number));
    }

    /// Asks for an object and notes what was seen.
    async fn look(
        &self,
        key: &ObjectKey,
    ) -> Result<(GroupId, Option<(ObjectRecord, Written)>), ClusterError> {
        let called = self.journal.tick();
        let (group, record, now) = self.record(key).await?;
        let mut seen = None;
        let mut held = None;
        if let Some(record) = record.filter(|record| !record.expired(now)) {
            held = self.journal.held(&record);
            let Some(written) = self.journal.written(&record.version) else {
                let what = format!("{} has a version nobody wrote", key.as_str());
                self.wrong(what.clone());
                return Err(ClusterError::Internal(what));
            };
            seen = Some((record, written));
        }
        self.note(key, called, true, Action::Read(held));
        Ok((group, seen))
    }

    fn note(&self, key: &ObjectKey, called: u64, known: bool, action: Action) {
        self.journal.note(key, self.number, called, known, action);
    }

    async fn record(
        &self,
        key: &ObjectKey,
    ) -> Result<(GroupId, Option<ObjectRecord>, Timestamp), ClusterError> {
        let at = self.place(key)?;
        let found = self.cluster.look_up(&at, 0, DEADLINE, None).await?;
        Ok((at.group, found.record.map(|record| *record), found.now))
    }

    fn place(&self, key: &ObjectKey) -> Result<ObjectPlace, ClusterError> {
        Ok(ObjectPlace {
            group: self.cluster.group_of(self.bucket, key)?,
            bucket: self.bucket,
            key: key.clone(),
        })
    }

    /// Has a command done. Where its outcome is unknown, some clients ask again,
    /// later and with the same id: what they hear then is what came of it.
    async fn command(&self, group: GroupId, command: Command) -> Result<Outcome, ClusterError> {
        let env = self.cluster.env();
        let id = self.cluster.request_id();
        let propose = || {
            let command = command.clone();
            self.cluster.propose(group, id, command, DEADLINE, None)
        };
        let mut result = propose().await;
        let mut asked = 0;
        while asked < 3
            && matches!(result, Err(ClusterError::OutcomeUnknown { .. }))
            && self.below(3) > 0
        {
            asked += 1;
            env.clock
                .sleep(Duration::from_millis(self.below(8_000)))
                .await;
            let before = result;
            result = propose().await;
            match &result {
                Ok(_) | Err(ClusterError::Refused(_)) => {
                    self.journal.count(|counts| counts.again += 1);
                }
                // That this attempt was not taken says nothing of the first.
                Err(_) => result = before,
            }
        }
        result
    }
}

fn said<T>(result: &Result<T, ClusterError>) -> String {
    match result {
        Ok(_) => "done".into(),
        Err(error) => error.to_string(),
    }
}

//! One task, from its hint to its end: lock, claim, do, finish.
//!
//! The lock saves duplicate work and nothing else. The claim gives the
//! attempt's number, without which no result is taken. What the attempt comes
//! to is told to the group; where that fails the group takes the task back at
//! its deadline, and somebody tries again.

mod compress;
mod delete;
mod thumbnail;

use std::sync::Arc;
use std::time::Duration;

use holdfast_cache::Cache;
use holdfast_client::{Cluster, ClusterError, MemoryBudget, ObjectPlace, ObjectTarget, Written};
use holdfast_metadata::command::{
    AttemptResult, Command, Outcome, Refusal, TASK_DEADLINE_MILLIS, TaskAttempt,
};
use holdfast_metadata::protocol::FragmentIds;
use holdfast_metadata::query::UploadChunks;
use holdfast_model::{GroupId, ObjectRecord, Representation, Task, TaskKind, Timestamp};
use holdfast_queue::{Delivery, TaskHint};
use holdfast_runtime::clock::within;
use holdfast_runtime::{Clock, Shutdown};
use tokio::sync::Semaphore;

use crate::settings::WorkerSettings;
use crate::standing::{Standing, label};

/// How long a group may take over a claim, a query or a result.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// Of an attempt's time, what is kept for telling the group how it ended.
const FINISH_TIME: Duration = Duration::from_secs(30);
/// How long one worker keeps others from trying to claim the same task.
const LOCK_TIME: Duration = Duration::from_secs(60);
/// The first back-off; each further attempt waits four times as long.
const FIRST_BACK_OFF_MILLIS: u64 = 2_000;
/// When to come again for what cannot be deleted yet: downloads that are
/// still going on end within hours, not seconds.
const NOT_YET_BACK_OFF_MILLIS: u64 = 5 * 60 * 1_000;
/// Memory for the transfers of one task: a reader that decodes, and a writer.
/// Less than both need would let tasks wait for each other for ever.
const TRANSFER_BYTES_PER_TASK: u64 = 16 << 20;
/// Chunk rows that come with a record.
const FIRST_CHUNKS: u32 = 16;

/// Does tasks.
pub(crate) struct Worker {
    settings: WorkerSettings,
    cluster: Cluster,
    cache: Arc<dyn Cache>,
    standing: Arc<Standing>,
    transfers: Arc<MemoryBudget>,
    /// Large images are decoded one at a time.
    large_images: Arc<Semaphore>,
    /// Begins when what is not finished is to be given back.
    giving_back: Shutdown,
}

/// A task that is ours until its deadline.
struct Claim {
    group: GroupId,
    task: Task,
}

impl Claim {
    fn place(&self) -> ObjectPlace {
        ObjectPlace {
            group: self.group,
            bucket: self.task.bucket,
            key: self.task.key.clone(),
        }
    }

    fn attempt(&self) -> TaskAttempt {
        TaskAttempt {
            task: self.task.id,
            attempt: self.task.attempts,
        }
    }

    fn target(&self, record: &ObjectRecord) -> ObjectTarget {
        ObjectTarget {
            bucket: self.task.bucket,
            key: self.task.key.clone(),
            version: self.task.version,
            expires: record.expires,
        }
    }
}

/// The object of a claim.
struct Object {
    record: ObjectRecord,
    first_chunks: Vec<UploadChunks>,
    now: Timestamp,
}

/// How work ended well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Done {
    /// The group has taken the result, and the task has ended with it.
    Told,
    /// Done, and the group is yet to hear it.
    Finished,
    /// There was nothing to do.
    Unneeded,
}

/// How work ended otherwise.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    /// The input is at fault: it would end so again.
    #[error("{0}")]
    Final(String),
    /// It may work another time.
    #[error("{0}")]
    Retry(String),
    /// It cannot be done before something else has ended.
    #[error("not yet")]
    NotYet,
    /// The cluster did not do its part.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// It took longer than an attempt may.
    #[error("it was not done within {0:?}")]
    TooLong(Duration),
    /// The worker ends.
    #[error("the worker was stopped")]
    Stopped,
}

impl WorkError {
    /// What the group is told, and the label in metrics; nothing where the
    /// group has already said that this attempt no longer counts.
    fn report(&self, attempt: u32) -> (Option<AttemptResult>, &'static str) {
        let retry = |after_millis| {
            Some(AttemptResult::Retry {
                error: self.to_string(),
                after_millis,
            })
        };
        match self {
            Self::Final(error) => {
                let error = error.clone();
                (Some(AttemptResult::Final { error }), "failed")
            }
            Self::Cluster(ClusterError::Refused(Refusal::Fenced)) => (None, "overtaken"),
            Self::Cluster(ClusterError::Refused(Refusal::NoSuchObject)) => {
                (Some(AttemptResult::Done), "overtaken")
            }
            Self::NotYet => (retry(NOT_YET_BACK_OFF_MILLIS), "not_yet"),
            Self::Stopped => (retry(0), "stopped"),
            Self::Retry(_) | Self::Cluster(_) | Self::TooLong(_) => {
                (retry(back_off_millis(attempt)), "retry")
            }
        }
    }
}

/// The wait after an attempt, counted from 1.
fn back_off_millis(attempt: u32) -> u64 {
    4_u64
        .saturating_pow(attempt.saturating_sub(1))
        .saturating_mul(FIRST_BACK_OFF_MILLIS)
}

/// What became of a hint.
enum Served {
    /// It is of no further use.
    Settled,
    /// The cluster could not be reached.
    Unreachable,
}

impl Worker {
    pub(crate) fn new(
        settings: WorkerSettings,
        cluster: Cluster,
        cache: Arc<dyn Cache>,
        standing: Arc<Standing>,
    ) -> Self {
        let tasks = u64::from(settings.parallelism);
        Self {
            settings,
            cluster,
            cache,
            standing,
            transfers: MemoryBudget::new(tasks * TRANSFER_BYTES_PER_TASK),
            large_images: Arc::new(Semaphore::new(1)),
            giving_back: Shutdown::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Has what still runs stop and go back to its group.
    pub(crate) fn give_back(&self) {
        self.giving_back.begin();
    }

    /// Serves a hint of the queue.
    pub(crate) async fn serve(self: Arc<Self>, delivery: Delivery) {
        match self.handle(delivery.hint).await {
            Served::Settled => delivery.ack().await,
            Served::Unreachable => delivery.reject().await,
        }
    }

    /// Serves a hint that did not come by the queue. If it fails, the task is
    /// published again.
    pub(crate) async fn serve_directly(self: Arc<Self>, hint: TaskHint) {
        self.handle(hint).await;
    }

    async fn handle(&self, hint: TaskHint) -> Served {
        let name = format!("task-{}", hint.task);
        let Some(_lock) = self.cache.try_lock(&name, LOCK_TIME).await else {
            // Another worker has it. Should that one fail, its claim runs out
            // and the task is published again.
            return Served::Settled;
        };
        let clock = &*self.cluster.env().clock;
        let began = clock.monotonic();
        let claim = match self.claim(hint).await {
            Ok(claim) => claim,
            Err(ClusterError::Refused(refusal)) => {
                tracing::debug!(task = %hint.task, %refusal, "not claimed");
                return Served::Settled;
            }
            Err(error) => {
                tracing::debug!(task = %hint.task, %error, "the cluster cannot be reached");
                self.standing.failed(error.to_string());
                return Served::Unreachable;
            }
        };
        let (task, kind) = (claim.task.id, claim.task.kind);
        self.standing.began(task, kind, began);
        let result = self.attempt(&claim).await;
        let label = self.settle(&claim, result).await;
        self.standing.ended(task, kind, label);
        observe(clock, kind, label, began);
        Served::Settled
    }

    async fn claim(&self, hint: TaskHint) -> Result<Claim, ClusterError> {
        let command = Command::ClaimTask {
            task: hint.task,
            worker: self.settings.name.clone(),
        };
        match self.propose(hint.group, command).await? {
            Outcome::Claimed(task) => Ok(Claim {
                group: hint.group,
                task: *task,
            }),
            _ => Err(ClusterError::Internal(
                "a claim was answered otherwise".into(),
            )),
        }
    }

    /// Does the work, within the attempt's time.
    async fn attempt(&self, claim: &Claim) -> Result<Done, WorkError> {
        let limit = Duration::from_millis(TASK_DEADLINE_MILLIS).saturating_sub(FINISH_TIME);
        let work = async {
            match claim.task.kind {
                TaskKind::Thumbnail => thumbnail::make(self, claim).await,
                TaskKind::Compress => compress::compress(self, claim).await,
                TaskKind::Delete => delete::delete(self, claim).await,
            }
        };
        let timed = within(&*self.cluster.env().clock, limit, work);
        tokio::select! {
            biased;
            () = self.giving_back.begun() => Err(WorkError::Stopped),
            result = timed => result.unwrap_or(Err(WorkError::TooLong(limit))),
        }
    }

    /// Tells the group how an attempt ended; returns the label of that.
    async fn settle(&self, claim: &Claim, result: Result<Done, WorkError>) -> &'static str {
        let task = claim.attempt();
        let (report, label) = match &result {
            Ok(Done::Told) => (None, "done"),
            Ok(Done::Finished) => (Some(AttemptResult::Done), "done"),
            Ok(Done::Unneeded) => (Some(AttemptResult::Done), "unneeded"),
            Err(error) => {
                let id = claim.task.id;
                tracing::info!(task = %id, attempt = task.attempt, %error, "an attempt failed");
                self.standing.failed(error.to_string());
                error.report(task.attempt)
            }
        };
        if let Some(result) = report {
            let command = Command::FinishTask { task, result };
            match self.propose(claim.group, command).await {
                // An attempt that no longer counts needs no end.
                Ok(_) | Err(ClusterError::Refused(_)) => {}
                Err(error) => {
                    tracing::warn!(task = %claim.task.id, %error, "the group does not hear how it ended");
                }
            }
        }
        label
    }

    /// The object of a claim, if that version is still there.
    async fn fetch(&self, claim: &Claim) -> Result<Option<Object>, WorkError> {
        let at = claim.place();
        let looked_up = self
            .cluster
            .look_up(&at, FIRST_CHUNKS, COMMAND_DEADLINE, None)
            .await?;
        let record = looked_up
            .record
            .filter(|record| record.version == claim.task.version);
        Ok(record.map(|record| Object {
            record: *record,
            first_chunks: looked_up.chunks,
            now: looked_up.now,
        }))
    }

    async fn propose(&self, group: GroupId, command: Command) -> Result<Outcome, ClusterError> {
        let id = self.cluster.request_id();
        self.cluster
            .propose(group, id, command, COMMAND_DEADLINE, None)
            .await
    }

    /// Proposes the commit of what was written. If the group refuses it, the
    /// fragments are deleted; if its answer is not known they are left alone,
    /// since the group may refer to them.
    async fn commit(
        &self,
        group: GroupId,
        written: &Written,
        command: Command,
    ) -> Result<Done, WorkError> {
        match self.propose(group, command).await {
            Ok(_) => Ok(Done::Told),
            Err(error) => {
                if matches!(error, ClusterError::Refused(_)) {
                    self.discard(group, written).await;
                }
                Err(error.into())
            }
        }
    }

    /// Deletes what was written and not committed, as well as that goes; the
    /// clean-up finds the rest.
    async fn discard(&self, group: GroupId, written: &Written) {
        let Representation::Chunked { parts, .. } = &written.representation else {
            return;
        };
        let Some(upload) = parts.first().map(|part| part.upload) else {
            return;
        };
        for chunk in &written.chunks {
            for place in &chunk.fragments {
                let Some(node) = self.cluster.manager().node_of_disk(place.disk) else {
                    continue;
                };
                let request = FragmentIds {
                    below: None,
                    disk: place.disk,
                    ids: vec![place.id(group, upload, chunk.index)],
                };
                if let Err(error) = node.delete(&request).await {
                    tracing::debug!(%error, "a fragment stays for the clean-up");
                }
            }
        }
        // Of chunks that the group was told, it makes garbage itself.
        let abort = Command::AbortUpload { upload };
        if let Err(error) = self.propose(group, abort).await {
            tracing::debug!(%upload, %error, "an upload's intent runs out by itself");
        }
    }
}

fn observe(clock: &dyn Clock, kind: TaskKind, result: &'static str, began: Duration) {
    let kind = label(kind);
    let seconds = clock.monotonic().saturating_sub(began).as_secs_f64();
    metrics::counter!("holdfast_tasks_total", "kind" => kind, "result" => result).increment(1);
    metrics::histogram!("holdfast_task_duration_seconds", "kind" => kind).record(seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_waits_four_times_as_long() {
        let waits: Vec<_> = (1..=3).map(back_off_millis).collect();
        assert_eq!(waits, [2_000, 8_000, 32_000]);
        assert_eq!(back_off_millis(u32::MAX), u64::MAX);
    }

    #[test]
    fn what_the_group_is_told_follows_from_the_error() {
        let (told, label) = WorkError::Final("no image".into()).report(1);
        assert!(matches!(told, Some(AttemptResult::Final { error }) if error == "no image"));
        assert_eq!(label, "failed");
        let fenced = WorkError::Cluster(ClusterError::Refused(Refusal::Fenced));
        assert_eq!(fenced.report(1).0, None);
        let unreachable = WorkError::Cluster(ClusterError::NoQuorum { group: GroupId(1) });
        assert!(matches!(
            unreachable.report(2).0,
            Some(AttemptResult::Retry {
                after_millis: 8_000,
                ..
            })
        ));
        assert!(matches!(
            WorkError::Stopped.report(2).0,
            Some(AttemptResult::Retry {
                after_millis: 0,
                ..
            })
        ));
    }
}

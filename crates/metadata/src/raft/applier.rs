//! The owner of writing to the state store: applies what is committed, in
//! order, many entries in one batch, and has it written to the file now and then.
//!
//! State and applied index change in one batch. What is applied and not yet in
//! the file is in the Raft log, so that a crash only has it applied again.
//! Applying goes on while the file is written.

mod rows;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_model::{ClusterState, GroupId, Timestamp};
use holdfast_runtime::{Env, Fatal, TasksExt};
use tokio::sync::{mpsc, oneshot};

pub use self::rows::{durable_sequence, read_members, write_members};
use self::step::step;
use super::OnFatal;
use crate::command::Outcome;
use crate::log::{LogEnd, LogFiles};
use crate::query::Totals;
use crate::store::{Store, StoreError};
use crate::wire::Members;

/// After so many bytes of entries the state is made durable.
const DURABLE_AFTER_BYTES: usize = 16 << 20;
/// Bytes of rows that may gather in memory while the file is written; then
/// applying waits for it.
const MAX_GATHERED_BYTES: usize = 64 << 20;
/// After so long, if anything was applied.
const DURABLE_AFTER: Duration = Duration::from_secs(5);
/// Entries in one transaction.
const MAX_ENTRIES: usize = 1_024;
/// A group that does not exist, for rows of the node itself.
pub const NODE_ROWS: GroupId = GroupId(u16::MAX);
/// Sorts after every row of a group.
pub(super) const LAST_KEY: &[u8] = &[0xff; 16];
/// Rows of a snapshot wait under the group's number with this bit set.
pub const STAGED: u16 = 0x8000;

/// What is to be applied to a group.
pub enum Work {
    /// Committed entries, in order.
    Entries {
        /// The group.
        group: GroupId,
        /// The entries.
        entries: Vec<Committed>,
    },
    /// The staged rows of a snapshot.
    Install {
        /// The group.
        group: GroupId,
        /// What they are of.
        end: LogEnd,
        /// Its members.
        members: Members,
    },
    /// The group has left this disk, and the log knows it.
    Remove(GroupId),
    /// Tell how a group stands, at this time of the leader's clock.
    Look(GroupId, Timestamp),
}

/// A committed entry.
pub struct Committed {
    /// Where it is in the log.
    pub at: LogEnd,
    /// The commands; empty for the entry that opens a term.
    pub data: Bytes,
    /// The members after it, where it changes them.
    pub members: Option<Members>,
}

/// What the driver hears back.
pub enum Applied {
    /// Entries were applied.
    Entries {
        /// The group.
        group: GroupId,
        /// Up to where.
        to: LogEnd,
        /// The outcomes of each entry's commands.
        outcomes: Vec<(LogEnd, Vec<Outcome>)>,
        /// The group's counts.
        totals: Totals,
    },
    /// A snapshot was installed, durably.
    Installed {
        /// The group.
        group: GroupId,
        /// What it was of.
        end: LogEnd,
    },
    /// The rows of a group that has left are gone, durably.
    Removed(GroupId),
    /// How a group stands.
    Looked {
        /// The group.
        group: GroupId,
        /// Its counts.
        totals: Totals,
        /// Whether a tick would do something now.
        tick_due: bool,
        /// Tasks to publish now.
        tasks_due: u64,
    },
    /// All that was applied up to here is durable.
    Durable(BTreeMap<GroupId, u64>),
    /// Group 0's state has changed.
    Cluster(Arc<ClusterState>),
}

/// Why applying failed. The store is not to be used again.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry is not what was proposed.
    #[error("entry {index} of group {group} cannot be read: {source}")]
    Entry {
        /// The group.
        group: GroupId,
        /// The entry.
        index: u64,
        /// Why.
        source: minicbor::decode::Error,
    },
}

impl ApplyError {
    /// What it comes to. Of an entry that cannot be read every member says the
    /// same: their disks are as good as they were, and another program may read it.
    fn fatal(&self, store: &Store) -> Fatal {
        match self {
            Self::Store(error) => store.fatal(error),
            Self::Entry { .. } => Fatal::broken("the log", self),
        }
    }
}

/// The task that applies.
pub(super) struct Applier {
    pub env: Env,
    pub store: Arc<Store>,
    pub files: Arc<LogFiles>,
    pub work: mpsc::UnboundedReceiver<Work>,
    pub applied: mpsc::UnboundedSender<Applied>,
    pub on_fatal: OnFatal,
}

/// Kept between batches.
#[derive(Default)]
struct Progress {
    applied: BTreeMap<GroupId, u64>,
    dirty_bytes: usize,
    /// Whether all that was applied is durable, or being made so.
    durable: bool,
    durable_at: Duration,
}

/// A flush that runs, and what is durable once it has ended.
struct Flushing {
    done: oneshot::Receiver<Result<(), StoreError>>,
    applied: BTreeMap<GroupId, u64>,
}

/// How a batch is to be committed.
#[derive(Clone, Copy, PartialEq)]
enum Commit {
    /// It is seen; the log has it.
    Visible,
    /// It and all before it go to the next flush.
    Frozen,
    /// It is in the file when the step ends.
    Durable,
}

impl Applier {
    pub(super) async fn run(mut self) {
        let mut progress = Progress {
            durable: true,
            ..Progress::default()
        };
        let mut waiting = Vec::new();
        let mut flushing: Option<Flushing> = None;
        loop {
            let idle = if progress.durable {
                Duration::from_secs(3600)
            } else {
                DURABLE_AFTER
            };
            let sleep = self.env.clock.sleep(idle);
            let full = flushing.is_some() && self.store.gathered() >= MAX_GATHERED_BYTES;
            let received = tokio::select! {
                biased;
                done = wait_flushed(&mut flushing) => {
                    if !self.on_flushed(done) { return; }
                    continue;
                }
                count = self.work.recv_many(&mut waiting, MAX_ENTRIES), if !full => count,
                () = sleep => usize::MAX,
            };
            if received == 0 {
                return self.finish(progress).await;
            }
            let work = std::mem::take(&mut waiting);
            let now = self.env.clock.monotonic();
            let due = !progress.durable
                && flushing.is_none()
                && (received == usize::MAX
                    || progress.dirty_bytes >= DURABLE_AFTER_BYTES
                    || now.saturating_sub(progress.durable_at) >= DURABLE_AFTER);
            let commit = if due { Commit::Frozen } else { Commit::Visible };
            let (store, files) = (self.store.clone(), self.files.clone());
            let tasks = self.env.tasks.clone();
            let result = self
                .env
                .tasks
                .blocking(move || {
                    tasks.pass("commit.before_apply");
                    let result = step(&store, &files, work, commit, &mut progress);
                    tasks.pass("commit.applied");
                    (result, progress)
                })
                .await;
            let Some((result, kept)) = result else { return };
            progress = kept;
            match result {
                Ok(told) => {
                    if due {
                        progress.durable_at = now;
                        flushing = Some(self.flush(progress.applied.clone()));
                    }
                    for one in told {
                        if self.applied.send(one).is_err() {
                            return self.finish(progress).await;
                        }
                    }
                }
                Err(error) => {
                    (self.on_fatal)(error.fatal(&self.store));
                    return;
                }
            }
        }
    }

    /// Writes what is frozen, while applying goes on.
    fn flush(&self, applied: BTreeMap<GroupId, u64>) -> Flushing {
        let (sender, done) = oneshot::channel();
        let (store, tasks) = (self.store.clone(), self.env.tasks.clone());
        self.env.tasks.spawn(
            "flush",
            Box::pin(async move {
                let points = tasks.clone();
                let work = move || {
                    points.pass("commit.before_flush");
                    let result = store.flush();
                    points.pass("commit.state_durable");
                    result
                };
                if let Some(result) = tasks.blocking(work).await {
                    let _ = sender.send(result);
                }
            }),
        );
        Flushing { done, applied }
    }

    /// Says whether to go on.
    fn on_flushed(&self, done: Option<Result<BTreeMap<GroupId, u64>, StoreError>>) -> bool {
        match done {
            Some(Ok(applied)) => self.applied.send(Applied::Durable(applied)).is_ok(),
            Some(Err(error)) => {
                (self.on_fatal)(self.store.fatal(&error));
                false
            }
            None => false,
        }
    }

    /// Makes everything durable at an orderly end, so that the next start has
    /// nothing to apply again.
    async fn finish(self, mut progress: Progress) {
        let (store, files) = (self.store.clone(), self.files);
        let result = self
            .env
            .tasks
            .blocking(move || {
                step(&store, &files, Vec::new(), Commit::Durable, &mut progress).map(|_| ())
            })
            .await;
        if let Some(Err(error)) = result {
            (self.on_fatal)(error.fatal(&self.store));
        }
    }
}

/// The end of a flush that runs: what is durable now. None when the process ends.
async fn wait_flushed(
    flushing: &mut Option<Flushing>,
) -> Option<Result<BTreeMap<GroupId, u64>, StoreError>> {
    let Some(running) = flushing else {
        return std::future::pending().await;
    };
    let done = (&mut running.done).await.ok();
    let applied = flushing.take()?.applied;
    Some(done?.map(|()| applied))
}

#[cfg(test)]
#[path = "applier/tests.rs"]
mod tests;

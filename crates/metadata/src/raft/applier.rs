//! The owner of writing to the state store: applies what is committed, in
//! order, many entries in one batch, and has it written to the file now and then.
//!
//! State and applied index change in one batch. What is applied and not yet in
//! the file is in the Raft log, so that a crash only has it applied again.
//! Applying goes on while the file is written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_model::{ClusterState, GroupId, Timestamp};
use holdfast_runtime::{Env, Fatal, TasksExt};
use tokio::sync::{mpsc, oneshot};

use super::OnFatal;
use crate::command::{Batch, Outcome};
use crate::log::{LogEnd, LogFiles};
use crate::query::Totals;
use crate::state;
use crate::store::{GroupTxn, Rows, Store, StoreError};
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
/// The row with a group's members; no table of the state has this number.
const MEMBERS_KEY: &[u8] = &[0xff, 1];
/// The row, of a group that does not exist, with the last round of the log
/// that was durable when the state was.
const SEQUENCE_KEY: &[u8] = &[0xff, 2];
/// That group.
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
    /// The group has left this disk.
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
                    (self.on_fatal)(Fatal::of_disk("the state store", &error));
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
                (self.on_fatal)(Fatal::of_disk("the state store", &error));
                false
            }
            None => false,
        }
    }

    /// Makes everything durable at an orderly end, so that the next start has
    /// nothing to apply again.
    async fn finish(self, mut progress: Progress) {
        let (store, files) = (self.store, self.files);
        let result = self
            .env
            .tasks
            .blocking(move || {
                step(&store, &files, Vec::new(), Commit::Durable, &mut progress).map(|_| ())
            })
            .await;
        if let Some(Err(error)) = result {
            (self.on_fatal)(Fatal::of_disk("the state store", &error));
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

/// One batch.
fn step(
    store: &Store,
    files: &LogFiles,
    work: Vec<Work>,
    commit: Commit,
    progress: &mut Progress,
) -> Result<Vec<Applied>, ApplyError> {
    let mut told = Vec::new();
    let mut looks = Vec::new();
    let bulk = |one: &Work| matches!(one, Work::Install { .. } | Work::Remove(_));
    let bulk = work.iter().any(bulk);
    // The rows of a snapshot must be there before the log is begun anew.
    let commit = if bulk { Commit::Durable } else { commit };
    let writes = commit != Commit::Visible || work.iter().any(|one| !matches!(one, Work::Look(..)));
    if writes {
        // Read before the commit: rounds durable now, not those written meanwhile.
        let sequence = files.sequence();
        let mut batch = if bulk {
            store.begin_bulk()?
        } else {
            store.begin()?
        };
        let mut cluster_changed = false;
        for one in work {
            match one {
                Work::Entries { group, entries } => {
                    let mut txn = batch.group(group)?;
                    told.push(apply_entries(&mut txn, group, entries, progress)?);
                    cluster_changed |= group == GroupId::CLUSTER;
                }
                Work::Install {
                    group,
                    end,
                    members,
                } => {
                    install(&mut batch, group, end, &members)?;
                    progress.applied.insert(group, end.index);
                    cluster_changed |= group == GroupId::CLUSTER;
                    told.push(Applied::Installed { group, end });
                }
                Work::Remove(group) => {
                    batch.delete_group(group)?;
                    progress.applied.remove(&group);
                }
                Work::Look(group, now) => looks.push((group, now)),
            }
        }
        if cluster_changed {
            let txn = batch.group(GroupId::CLUSTER)?;
            if let Some(state) = state::read_cluster(&txn)? {
                told.push(Applied::Cluster(Arc::new(state)));
            }
        }
        if commit != Commit::Visible {
            batch
                .group(NODE_ROWS)?
                .put(SEQUENCE_KEY, &sequence.to_be_bytes())?;
        }
        batch.commit(commit == Commit::Durable)?;
        progress.durable = match commit {
            Commit::Visible => false,
            // The last flush has ended, or this would not be asked for.
            Commit::Frozen => store.freeze(),
            Commit::Durable => {
                told.push(Applied::Durable(progress.applied.clone()));
                true
            }
        };
        if progress.durable {
            progress.dirty_bytes = 0;
        }
    } else {
        looks.extend(work.into_iter().filter_map(|one| match one {
            Work::Look(group, now) => Some((group, now)),
            _ => None,
        }));
    }
    if !looks.is_empty() {
        let view = store.snapshot()?;
        for (group, now) in looks {
            let rows = view.group(group);
            told.push(Applied::Looked {
                group,
                totals: state::totals(&rows)?,
                tick_due: state::next_due(&rows)?.is_some_and(|due| due <= now),
                tasks_due: state::tasks_due(&rows, now)?,
            });
        }
    }
    Ok(told)
}

fn apply_entries(
    txn: &mut GroupTxn<'_>,
    group: GroupId,
    entries: Vec<Committed>,
    progress: &mut Progress,
) -> Result<Applied, ApplyError> {
    let mut outcomes = Vec::with_capacity(entries.len());
    let mut to = LogEnd::default();
    for entry in entries {
        let done = if entry.data.is_empty() {
            Vec::new()
        } else {
            let batch: Batch =
                minicbor::decode(&entry.data).map_err(|source| ApplyError::Entry {
                    group,
                    index: entry.at.index,
                    source,
                })?;
            state::apply(txn, &batch)?
        };
        if let Some(members) = &entry.members {
            txn.put(MEMBERS_KEY, &crate::protocol::encode(members))?;
        }
        progress.dirty_bytes += entry.data.len() + 64;
        to = entry.at;
        outcomes.push((entry.at, done));
    }
    txn.set_applied(to.index, to.term)?;
    progress.applied.insert(group, to.index);
    let totals = state::totals(&*txn)?;
    Ok(Applied::Entries {
        group,
        to,
        outcomes,
        totals,
    })
}

/// Moves the staged rows of a snapshot into place.
fn install(
    batch: &mut crate::store::WriteBatch<'_>,
    group: GroupId,
    end: LogEnd,
    members: &Members,
) -> Result<(), ApplyError> {
    let staged = GroupId(group.0 | STAGED);
    batch.delete_group(group)?;
    let mut rows = Vec::new();
    let mut from = Vec::new();
    loop {
        // In pieces, since a transaction lends its table to one group at a time.
        rows.clear();
        let mut bytes = 0;
        batch
            .group(staged)?
            .scan(&from, LAST_KEY, &mut |key, value| {
                bytes += key.len() + value.len();
                rows.push((key.to_vec(), value.to_vec()));
                Ok(bytes < (4 << 20))
            })?;
        let Some((last, _)) = rows.last() else { break };
        from = last.clone();
        from.push(0);
        let mut txn = batch.group(group)?;
        for (key, value) in &rows {
            txn.put(key, value)?;
        }
    }
    batch.delete_group(staged)?;
    write_members(&mut batch.group(group)?, end, members)?;
    Ok(())
}

/// Notes a group's members and how far its rows are.
pub fn write_members(
    txn: &mut GroupTxn<'_>,
    end: LogEnd,
    members: &Members,
) -> Result<(), StoreError> {
    let members = members.clone().sorted();
    txn.put(MEMBERS_KEY, &crate::protocol::encode(&members))?;
    txn.set_applied(end.index, end.term)
}

/// A group's members as of what is applied.
pub fn read_members(rows: &impl Rows) -> Result<Members, StoreError> {
    match rows.get(MEMBERS_KEY)? {
        None => Ok(Members::default()),
        Some(bytes) => minicbor::decode(&bytes)
            .map_err(|error| StoreError::Corrupt(format!("a group's members: {error}"))),
    }
}

/// The last round of the log that was durable when the state was.
pub fn durable_sequence(store: &Store) -> Result<u64, StoreError> {
    let view = store.snapshot()?;
    let bytes = view.group(NODE_ROWS).get(SEQUENCE_KEY)?;
    let number = bytes.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_slice()).ok());
    Ok(number.map_or(0, u64::from_be_bytes))
}

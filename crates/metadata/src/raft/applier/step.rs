//! One batch of the applier.

use std::sync::Arc;

use holdfast_model::GroupId;

use super::rows::{MEMBERS_KEY, SEQUENCE_KEY, install};
use super::{Applied, ApplyError, Commit, Committed, NODE_ROWS, Progress, Work};
use crate::command::Batch;
use crate::log::{LogEnd, LogFiles};
use crate::state;
use crate::store::{GroupTxn, Store};

/// Applies what waits, in one batch.
pub(super) fn step(
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
                    told.push(Applied::Removed(group));
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

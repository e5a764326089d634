//! Groups that stand still must not keep the log's files: what they hold of old
//! ones is written again (see [`LogFiles::write_again`](crate::log::LogFiles)).

use std::collections::BTreeMap;

use holdfast_model::GroupId;

use super::{Driver, Wrote};
use crate::log::{Again, Tail};

/// When the log is written again.
#[derive(Default)]
pub(super) struct WritingAgain {
    /// The file that was being written when it was looked last.
    pub looked_at: u64,
    /// Files that are read meanwhile must stay.
    pub running: bool,
}

impl Driver {
    /// Begins to write again what pins old files, if something does. Looked at
    /// once for each file that is begun. Says whether a round is being written.
    pub(super) fn write_again(&mut self) -> bool {
        let newest = self.files.newest();
        if newest <= self.again.looked_at {
            return false;
        }
        self.again.looked_at = newest;
        let applied = self.durably_applied();
        let pinned = self.files.pinned_by(&applied).into_iter();
        let tails: Vec<Tail> = pinned.filter_map(|id| self.tail(id, &applied)).collect();
        if tails.is_empty() {
            return false;
        }
        tracing::info!(
            groups = tails.len(),
            "groups that stand still keep old files of the log: what they hold is written again"
        );
        self.again.running = true;
        let (files, checkpoint) = (self.files.clone(), self.checkpoint());
        self.write_log(move || files.write_again(&tails, &checkpoint).map(Wrote::Again));
        true
    }

    /// All that the log must keep of a group; none while that changes, in which
    /// case it does not stand still.
    fn tail(&self, id: GroupId, applied: &BTreeMap<GroupId, u64>) -> Option<Tail> {
        let group = self.groups.get(&id)?;
        if group.installing.is_some() {
            return None;
        }
        group.node.store().tail(*applied.get(&id)?)
    }

    pub(super) fn on_written_again(&mut self, again: Option<Again>) {
        self.again.running = false;
        if let Some((round, written)) = again {
            for part in &round.groups {
                if let Some(group) = self.groups.get_mut(&part.group) {
                    group.node.mut_store().moved(part, written.place);
                }
            }
            // What did not fit comes next.
            self.again.looked_at = 0;
        }
        self.purge();
    }

    /// Up to where each group is in the state store's file.
    pub(super) fn durably_applied(&self) -> BTreeMap<GroupId, u64> {
        let groups = self.groups.iter().map(|(id, group)| {
            // What was not touched before the state was frozen is as durable as it
            // was found; what was applied since is in memory alone.
            let durable = self.durable.get(id).copied().unwrap_or(group.found);
            // Told of a group that has left and come back, it was of the earlier one.
            (*id, durable.min(group.applied.index))
        });
        // Until the log and the state know that a group has left, a crash brings it back.
        let leaving = self.leaving.iter().map(|id| (*id, 0));
        leaving.chain(groups).collect()
    }
}

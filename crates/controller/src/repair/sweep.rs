//! Chunks on disks that are to go, which no index names: all rows are gone
//! through, a part in each round, so that what is endangered comes first again.

use std::collections::VecDeque;
use std::time::Duration;

use holdfast_metadata::query::MAX_PAGE;
use holdfast_model::{Epoch, GroupId, UploadId};

use super::Working;
use super::queue::in_order;
use crate::error::WorkError;
use crate::spans::fetch_rows;

/// How often all rows are gone through.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// How far a walk through all rows has come.
#[derive(Default)]
pub(super) struct Sweep {
    /// The layout that it is for.
    epoch: Epoch,
    /// Groups that are not at their end yet, the one it is in first.
    groups: VecDeque<GroupId>,
    /// Behind which row of that group it goes on.
    after: Option<(UploadId, u32)>,
    /// When it was last at its end.
    ended: Option<Duration>,
}

impl Sweep {
    /// Begins anew where that is due.
    fn begin(&mut self, led: &[GroupId], epoch: Epoch, now: Duration) {
        let due = self
            .ended
            .is_none_or(|at| now.saturating_sub(at) >= SWEEP_EVERY);
        if epoch != self.epoch || (self.groups.is_empty() && due) {
            *self = Self {
                epoch,
                groups: led.iter().copied().collect(),
                ..Self::default()
            };
        }
    }

    /// Goes on for as long as the round lasts; returns whether it is at its end.
    /// A group that does not answer is left for the next walk.
    pub async fn go_on(
        &mut self,
        working: &mut Working<'_>,
        led: &[GroupId],
        epoch: Epoch,
        failures: &mut Vec<(GroupId, WorkError)>,
    ) -> bool {
        self.begin(led, epoch, working.shared.now());
        while let Some(group) = self.groups.front().copied() {
            let page = self.page(working, group).await;
            match page {
                Ok(Page::Cut) => return false,
                Ok(Page::Done { more: true }) => continue,
                Ok(Page::Done { more: false }) => {}
                Err(error) => failures.push((group, error)),
            }
            self.groups.pop_front();
            self.after = None;
            if self.groups.is_empty() {
                self.ended = Some(working.shared.now());
            }
        }
        true
    }

    /// Works on the next rows of a group.
    async fn page(&mut self, working: &mut Working<'_>, group: GroupId) -> Result<Page, WorkError> {
        if !(working.shared.leads)(group) {
            return Ok(Page::Done { more: false });
        }
        let rows = fetch_rows(working.shared, group, self.after, None).await?;
        let more = rows.len() >= MAX_PAGE as usize;
        let last = rows.last().map(|row| (row.upload, row.chunk.index));
        let chunks = working.sort_out(group, rows)?;
        if !working.work_on(in_order(chunks)).await {
            // The rows are read again: what was moved needs nothing any more.
            return Ok(Page::Cut);
        }
        self.after = last;
        Ok(Page::Done { more })
    }
}

/// What became of a page of rows.
enum Page {
    /// The round was over before all of them were begun.
    Cut,
    Done {
        /// Whether others follow.
        more: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_a_walk_end_before_the_next_one_begins_unless_the_layout_changes() {
        let mut sweep = Sweep::default();
        let led = [GroupId(1), GroupId(2)];
        let at = Duration::from_secs;
        sweep.begin(&led, Epoch(4), at(100));
        assert_eq!(sweep.groups.len(), 2);
        sweep.groups.pop_front();
        sweep.after = Some((UploadId::from_bytes([1; 16]), 7));
        sweep.begin(&led, Epoch(4), at(500));
        assert_eq!((sweep.groups.len(), sweep.after.is_some()), (1, true));
        sweep.groups.clear();
        sweep.ended = Some(at(500));
        sweep.begin(&led, Epoch(4), at(529));
        assert!(sweep.groups.is_empty());
        sweep.begin(&led, Epoch(4), at(530));
        assert_eq!((sweep.groups.len(), sweep.after), (2, None));
        sweep.groups.pop_front();
        sweep.begin(&led, Epoch(5), at(531));
        assert_eq!(sweep.groups.len(), 2);
    }
}

//! How far repair has come, for `/stats` and metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_model::Timestamp;

/// How far repair and drain have come in the groups that this node leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Chunks that were to be repaired or moved when this run of work was last
    /// looked at, with those done since it began.
    pub total: u64,
    /// Chunks done.
    pub done: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// When the run began; `None` while there is nothing to do.
    pub since: Option<Timestamp>,
}

impl Progress {
    /// What is still to be done.
    pub fn left(&self) -> u64 {
        self.total.saturating_sub(self.done)
    }

    fn look(&mut self, waiting: u64, now: Timestamp) {
        match (waiting, self.since) {
            (0, _) => {
                self.since = None;
                self.total = self.done;
            }
            (_, None) => {
                *self = Self {
                    total: waiting,
                    since: Some(now),
                    ..Self::default()
                };
            }
            (_, Some(_)) => self.total = self.done + waiting,
        }
    }
}

/// The counts, kept by the repairing worker.
#[derive(Default)]
pub(crate) struct ProgressKeeper {
    /// Held for single updates only.
    progress: Mutex<Progress>,
}

impl ProgressKeeper {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn view(&self) -> Progress {
        *self.lock()
    }

    /// So many chunks wait now.
    pub fn look(&self, waiting: u64, now: Timestamp) {
        self.lock().look(waiting, now);
        metrics::gauge!("holdfast_repair_waiting_chunks").set(waiting as f64);
    }

    pub fn done(&self, bytes: u64) {
        let mut progress = self.lock();
        progress.done += 1;
        progress.bytes += bytes;
        metrics::counter!("holdfast_repair_chunks_total", "result" => "done").increment(1);
        metrics::counter!("holdfast_repair_bytes_total").increment(bytes);
    }

    pub fn failed(&self) {
        self.lock().failed += 1;
        metrics::counter!("holdfast_repair_chunks_total", "result" => "failed").increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_with_work_and_ends_without() {
        let keeper = ProgressKeeper::default();
        keeper.look(3, Timestamp(5));
        keeper.done(100);
        keeper.failed();
        keeper.look(4, Timestamp(6));
        let view = keeper.view();
        assert_eq!(
            (view.total, view.done, view.failed, view.bytes),
            (5, 1, 1, 100)
        );
        assert_eq!((view.since, view.left()), (Some(Timestamp(5)), 4));
        keeper.look(0, Timestamp(7));
        assert_eq!((keeper.view().since, keeper.view().left()), (None, 0));
        keeper.look(1, Timestamp(8));
        assert_eq!(
            (keeper.view().since, keeper.view().done),
            (Some(Timestamp(8)), 0)
        );
    }
}

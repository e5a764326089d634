//! Compaction of the own disk: the engine knows how, here is when and how
//! fast.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::error::WorkError;
use crate::throttle::Throttle;
use crate::worker::{Round, Worker};

/// A step of compaction, as the disk engine did it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompactionStep {
    /// Fragments moved.
    pub moved: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Fragments found corrupt, which stay where they are.
    pub corrupt: u64,
    /// There is nothing to do for now.
    pub idle: bool,
}

/// What compacts the own disk.
pub trait CompactDisk: Send + 'static {
    /// Moves a few fragments. An error is what was in the way; the next call
    /// goes on.
    fn step(&mut self) -> BoxFuture<'_, Result<CompactionStep, String>>;
}

/// What compaction has done since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompactionTotals {
    /// Fragments moved.
    pub moved: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Fragments found corrupt on the way.
    pub corrupt: u64,
    /// Whether it is at work.
    pub active: bool,
}

/// The totals, kept by the worker.
pub(crate) type TotalsKeeper = Arc<Mutex<CompactionTotals>>;

/// Compacts the own disk.
pub(crate) struct Compaction {
    disk: Box<dyn CompactDisk>,
    throttle: Arc<Throttle>,
    totals: TotalsKeeper,
    /// The pause when no segment is nearly empty.
    pause: Duration,
}

impl Compaction {
    pub fn new(
        disk: Box<dyn CompactDisk>,
        throttle: Arc<Throttle>,
        totals: TotalsKeeper,
        pause: Duration,
    ) -> Self {
        Self {
            disk,
            throttle,
            totals,
            pause,
        }
    }

    async fn next(&mut self) -> Result<Round, WorkError> {
        let step = self.disk.step().await.map_err(WorkError::Compaction)?;
        metrics::counter!("holdfast_compaction_fragments_total").increment(step.moved);
        metrics::counter!("holdfast_compaction_bytes_total").increment(step.bytes);
        metrics::counter!("holdfast_compaction_corrupt_total").increment(step.corrupt);
        // Paid for afterwards: how much a step moves is known only then.
        self.throttle.take(step.bytes).await;
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.moved += step.moved;
        totals.bytes += step.bytes;
        totals.corrupt += step.corrupt;
        totals.active = !step.idle;
        let note = format!(
            "{} fragments of {} bytes moved, {} found corrupt",
            totals.moved, totals.bytes, totals.corrupt
        );
        Ok(if step.idle {
            Round::Idle(note)
        } else {
            Round::More(note)
        })
    }
}

impl Worker for Compaction {
    fn name(&self) -> &'static str {
        "compaction"
    }

    fn every(&self) -> Duration {
        self.pause
    }

    fn round(&mut self) -> BoxFuture<'_, Result<Round, WorkError>> {
        Box::pin(self.next())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use holdfast_runtime::host::system::SystemClock;

    use super::*;

    /// Moves once, then has nothing to do, then fails.
    struct Once(u32);

    impl CompactDisk for Once {
        fn step(&mut self) -> BoxFuture<'_, Result<CompactionStep, String>> {
            self.0 += 1;
            let step = match self.0 {
                1 => Ok(CompactionStep {
                    moved: 3,
                    bytes: 300,
                    ..CompactionStep::default()
                }),
                2 => Ok(CompactionStep {
                    idle: true,
                    ..CompactionStep::default()
                }),
                _ => Err("no room".into()),
            };
            std::future::ready(step).boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_more_until_the_disk_says_that_there_is_not() {
        let totals = TotalsKeeper::default();
        let clock = Arc::new(SystemClock::default());
        let throttle = Arc::new(Throttle::new(clock, 1 << 20));
        let pause = Duration::from_secs(30);
        let mut work = Compaction::new(Box::new(Once(0)), throttle, totals.clone(), pause);
        assert!(matches!(work.round().await, Ok(Round::More(_))));
        assert!(totals.lock().unwrap().active);
        assert!(matches!(work.round().await, Ok(Round::Idle(_))));
        let seen = *totals.lock().unwrap();
        assert_eq!((seen.moved, seen.bytes, seen.active), (3, 300, false));
        assert!(matches!(work.round().await, Err(WorkError::Compaction(_))));
    }
}

//! Whether a process moves: its long-lived loops, and its calls of the disk.
//!
//! A loop says that it has come round ([`Beat`]). A call of the disk counts from
//! when it begins to when it returns ([`WatchedDisk`]): a disk that hangs keeps
//! its caller in the operating system, where it can say nothing itself. Nothing
//! here looks at other processes.

mod disk;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use disk::{DiskCalls, WatchedDisk};

use crate::Clock;

/// How long a part may stand still. A disk that works takes a second for a sync,
/// and on a bad day ten; one that took longer than this will not come back by
/// itself.
pub const STILL_LIMIT: Duration = Duration::from_secs(30);

/// A part that has stood still for too long.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{part} has not moved for {} s", .since.as_secs())]
pub struct Still {
    /// Which.
    pub part: String,
    /// For how long.
    pub since: Duration,
}

impl Still {
    /// What stands still at `now` and moved at `at`, if that is too long ago.
    fn of(part: impl FnOnce() -> String, at: Duration, now: Duration) -> Option<Self> {
        let since = now.saturating_sub(at);
        (since > STILL_LIMIT).then(|| Self {
            part: part(),
            since,
        })
    }
}

/// The loops of a process that are to come round.
pub struct Pulse {
    clock: Arc<dyn Clock>,
    /// Held only briefly.
    parts: Mutex<Vec<(&'static str, Arc<AtomicU64>)>>,
}

impl Pulse {
    /// Of a process that has no such loop yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            parts: Mutex::default(),
        }
    }

    /// Adds a loop, which counts as having moved now. One that has ended stands
    /// still from then on.
    pub fn part(&self, name: &'static str) -> Beat {
        let beat = Beat {
            clock: self.clock.clone(),
            moved: Arc::default(),
        };
        beat.moved();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push((name, beat.moved.clone()));
        beat
    }

    /// The first loop that has stood still for longer than [`STILL_LIMIT`].
    pub fn still(&self) -> Option<Still> {
        let now = self.clock.monotonic();
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().find_map(|(name, moved)| {
            let at = Duration::from_millis(moved.load(Ordering::Relaxed));
            Still::of(|| (*name).to_owned(), at, now)
        })
    }
}

/// What a loop says that it moves with.
pub struct Beat {
    clock: Arc<dyn Clock>,
    /// When it last did, in milliseconds of the monotonic clock.
    moved: Arc<AtomicU64>,
}

impl Beat {
    /// For how long it has not come round.
    pub fn still_for(&self) -> Duration {
        let at = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        self.clock.monotonic().saturating_sub(at)
    }

    /// It has come round, now.
    pub fn moved(&self) {
        let now = self.clock.monotonic().as_millis() as u64;
        self.moved.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::disk::tests::Hand;
    use super::*;

    #[test]
    fn a_loop_that_does_not_come_round_is_named_after_thirty_seconds() {
        let hand = Hand::default();
        let pulse = Pulse::new(Arc::new(hand.clone()));
        hand.pass(3_600);
        let (first, second) = (pulse.part("the first"), pulse.part("the second"));
        assert_eq!(pulse.still(), None, "it begins with being added");
        hand.pass(30);
        assert_eq!(pulse.still(), None);
        first.moved();
        hand.pass(4);
        let still = pulse.still().unwrap().to_string();
        assert_eq!(still, "the second has not moved for 34 s");
        second.moved();
        assert_eq!(pulse.still(), None);
    }

    #[test]
    fn a_loop_that_has_ended_stands_still() {
        let hand = Hand::default();
        let pulse = Pulse::new(Arc::new(hand.clone()));
        drop(pulse.part("the loop"));
        hand.pass(31);
        assert_eq!(pulse.still().unwrap().part, "the loop");
    }
}

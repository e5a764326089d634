//! Whether those who serve clients wait for this node because of the copies
//! that repair and drain make here.
//!
//! What clients' reads and writes wait for on the disk is averaged twice: while
//! no copy is under way, and while some are. They are *pressed* when they take
//! far longer beside copies than alone, or when one of them had to wait for
//! memory. A node that is slow by itself, or under much load, is not pressed:
//! copying less would not make it faster.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_runtime::Clock;

/// How long it is remembered that somebody waited.
const FRESH: Duration = Duration::from_secs(1);
/// So many times as long as alone, and [`SLACK`] more, is too long: twice.
const TOO_LONG: u32 = 2;
/// What nobody notices.
const SLACK: Duration = Duration::from_millis(2);
/// What is taken for the time alone until there was one.
const UNKNOWN_ALONE: Duration = Duration::from_millis(10);
/// A new time alone counts for so much of the average.
const ALONE_PART: u32 = 32;
/// And one beside copies: it has to follow at once.
const BESIDE_PART: u32 = 8;

/// What waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// A fragment's bytes, to be durable.
    Write,
    /// The place of a fragment, to be found and read.
    Read,
}

/// The two averages of a kind of wait.
#[derive(Clone, Copy, Default)]
struct Averages {
    alone: Option<Duration>,
    beside: Option<Duration>,
    /// When the second last changed.
    at: Duration,
}

impl Averages {
    fn add(&mut self, now: Duration, took: Duration, beside: bool) {
        if !beside {
            self.alone = Some(average(self.alone, took, ALONE_PART));
            return;
        }
        // What was long ago says nothing of now.
        let before = self.beside.filter(|_| now.saturating_sub(self.at) < FRESH);
        self.beside = Some(average(before, took, BESIDE_PART));
        self.at = now;
    }

    fn pressed(&self, now: Duration) -> bool {
        let alone = self.alone.unwrap_or(UNKNOWN_ALONE);
        let most = alone.saturating_mul(TOO_LONG).saturating_add(SLACK);
        let fresh = now.saturating_sub(self.at) < FRESH;
        fresh && self.beside.is_some_and(|beside| beside > most)
    }
}

fn average(before: Option<Duration>, new: Duration, part: u32) -> Duration {
    let Some(before) = before else {
        return new;
    };
    (before.saturating_mul(part - 1).saturating_add(new)) / part
}

#[derive(Default)]
struct Seen {
    writes: Averages,
    reads: Averages,
    /// When somebody last had to wait for memory.
    waited: Option<Duration>,
}

/// What a node knows of its clients' waits.
pub struct Load {
    clock: Arc<dyn Clock>,
    copies: AtomicUsize,
    /// Held for the arithmetic only.
    seen: Mutex<Seen>,
}

/// A copy under way, until it is dropped.
pub struct Copying(Arc<Load>);

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.copies.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Load {
    /// Of a node that has just started.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            copies: AtomicUsize::new(0),
            seen: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy begins.
    pub fn copying(self: &Arc<Self>) -> Copying {
        self.copies.fetch_add(1, Ordering::Relaxed);
        Copying(self.clone())
    }

    fn beside_copies(&self) -> bool {
        self.copies.load(Ordering::Relaxed) > 0
    }

    /// Times a wait for the disk, unless it is a copy's own.
    pub async fn timed<F: Future>(&self, wait: Wait, copy: bool, work: F) -> F::Output {
        if copy {
            return work.await;
        }
        let (began, before) = (self.clock.monotonic(), self.beside_copies());
        let output = work.await;
        let now = self.clock.monotonic();
        let beside = before || self.beside_copies();
        let mut seen = self.lock();
        let averages = match wait {
            Wait::Write => &mut seen.writes,
            Wait::Read => &mut seen.reads,
        };
        averages.add(now, now.saturating_sub(began), beside);
        output
    }

    /// Somebody who serves a client had to wait for memory.
    pub fn waited(&self) {
        self.lock().waited = Some(self.clock.monotonic());
    }

    /// Whether copies should be made more slowly.
    pub fn pressed(&self) -> bool {
        let now = self.clock.monotonic();
        let seen = self.lock();
        let waited = seen.waited.is_some_and(|at| now.saturating_sub(at) < FRESH);
        waited || seen.writes.pressed(now) || seen.reads.pressed(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A disk whose clients have waited so long while nothing was copied.
    fn alone(took: u64) -> Averages {
        let mut averages = Averages::default();
        for at in 0..50 {
            averages.add(millis(at), millis(took), false);
        }
        averages
    }

    #[test]
    fn clients_are_pressed_when_they_wait_far_longer_beside_copies_than_alone() {
        for (took_alone, beside, expected) in [
            (1, 2, false),
            (1, 4, false),
            (1, 5, true),
            // A slow disk is slow with and without.
            (40, 60, false),
            (40, 90, true),
        ] {
            let mut averages = alone(took_alone);
            averages.add(millis(100), millis(beside), true);
            let pressed = averages.pressed(millis(110));
            assert_eq!(pressed, expected, "{took_alone} alone, {beside} beside");
        }
    }

    #[test]
    fn what_was_a_second_ago_presses_nobody() {
        let mut averages = alone(1);
        averages.add(millis(100), millis(500), true);
        assert!(averages.pressed(millis(1_099)) && !averages.pressed(millis(1_100)));
        // Nor does it count for what is now.
        averages.add(millis(5_000), millis(1), true);
        assert!(!averages.pressed(millis(5_001)));
    }

    #[test]
    fn one_slow_wait_among_many_is_no_pressure() {
        let mut averages = alone(2);
        for at in 0..20 {
            averages.add(millis(100 + at), millis(2), true);
        }
        averages.add(millis(121), millis(20), true);
        assert!(!averages.pressed(millis(122)));
    }

    #[test]
    fn without_a_time_alone_ten_milliseconds_are_taken_for_it() {
        let mut averages = Averages::default();
        averages.add(millis(1), millis(20), true);
        assert!(!averages.pressed(millis(2)));
        averages.add(millis(2_000), millis(30), true);
        assert!(averages.pressed(millis(2_001)));
    }
}

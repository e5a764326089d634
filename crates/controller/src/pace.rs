//! How fast repair copies: as fast as the machines can, while those who serve
//! clients do not wait for it.
//!
//! Every node that a copy is read from or written to says with its answer
//! whether its clients are pressed meanwhile (`pressed` in the protocol; the
//! node measures it, `load.rs` there). Said yes, the pace halves; said no, it
//! grows by a quarter, each at most once in a while, so between the least and
//! the most that is set. A node of an earlier release says nothing: with those,
//! repair goes no faster than those releases did.
//!
//! A chunk with no fragment to spare does not wait for any of that: it goes at
//! the most, and never slower than [`URGENT_BYTES_PER_SECOND`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_runtime::Clock;

use crate::throttle::Bucket;

/// What is left of the pace while clients wait without end: a full disk of 1 TB
/// is copied by five nodes within four hours.
const LEAST_BYTES_PER_SECOND: u64 = 16 << 20;
/// The pace to begin with, and with nodes that do not say how their clients fare.
const BLIND_BYTES_PER_SECOND: u64 = 64 << 20;
/// Chunks with no fragment to spare are copied at least so fast, whatever is
/// set: one more loss would be for ever.
const URGENT_BYTES_PER_SECOND: u64 = 64 << 20;
/// Between two steps up: a copy or two, so that the last one is felt.
const RISE_EVERY: Duration = Duration::from_millis(100);
/// Between two steps down: what was begun at the earlier pace must end first.
const FALL_EVERY: Duration = Duration::from_millis(250);

/// The arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rates {
    least: u64,
    most: u64,
    now: u64,
    risen: Duration,
    fallen: Duration,
}

impl Rates {
    fn new(most: u64) -> Self {
        Self {
            least: LEAST_BYTES_PER_SECOND.min(most),
            most,
            now: BLIND_BYTES_PER_SECOND.min(most),
            risen: Duration::ZERO,
            fallen: Duration::ZERO,
        }
    }

    /// A node has said whether its clients are pressed.
    fn heard(&mut self, now: Duration, pressed: Option<bool>) {
        if pressed == Some(true) {
            if now.saturating_sub(self.fallen) >= FALL_EVERY {
                self.now = (self.now / 2).max(self.least);
                self.fallen = now;
            }
            return;
        }
        let most = match pressed {
            None => BLIND_BYTES_PER_SECOND.min(self.most),
            Some(_) => self.most,
        };
        if self.now > most {
            self.now = most;
            return;
        }
        let rested = now.saturating_sub(self.fallen) >= FALL_EVERY;
        if rested && now.saturating_sub(self.risen) >= RISE_EVERY {
            self.now = (self.now + self.now / 4).min(most);
            self.risen = now;
        }
    }
}

struct State {
    rates: Rates,
    /// What all that is not urgent pays into.
    paced: Bucket,
    /// What everything pays into.
    all: Bucket,
}

/// The pace of a node's controller; all copies share it.
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    /// Held for the arithmetic only.
    state: Mutex<State>,
}

impl Pace {
    /// At most `most` bytes a second.
    pub fn new(clock: Arc<dyn Clock>, most: u64) -> Self {
        let rates = Rates::new(most);
        let state = Mutex::new(State {
            rates,
            paced: Bucket::new(rates.now),
            all: Bucket::new(most.max(URGENT_BYTES_PER_SECOND)),
        });
        Self { clock, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` may be copied; of a chunk with no fragment to spare
    /// they are `urgent`.
    pub async fn take(&self, bytes: u64, urgent: bool) {
        let wait = self.lock().take(self.clock.monotonic(), bytes, urgent);
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
    }

    /// A node has said whether its clients are pressed; `None` where it cannot.
    pub fn heard(&self, pressed: Option<bool>) {
        let now = self.clock.monotonic();
        let mut state = self.lock();
        state.rates.heard(now, pressed);
        let rate = state.rates.now;
        state.paced.set_rate(rate);
        metrics::gauge!("holdfast_repair_pace_bytes").set(rate as f64);
    }
}

impl State {
    fn take(&mut self, now: Duration, bytes: u64, urgent: bool) -> Duration {
        let least = self.all.take(now, bytes);
        if urgent {
            return least;
        }
        least.max(self.paced.take(now, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    /// The rate after a node has said so every 50 ms for some time.
    fn after(rates: &mut Rates, from: u64, seconds: u64, pressed: Option<bool>) -> u64 {
        for step in 0..seconds * 20 {
            let at = Duration::from_secs(from) + Duration::from_millis(50 * step);
            rates.heard(at, pressed);
        }
        rates.now
    }

    #[test]
    fn does_it_reach_what_is_set_within_seconds_where_no_client_waits() {
        let mut rates = Rates::new(GIB);
        assert_eq!(rates.now, 64 * MIB);
        assert_eq!(after(&mut rates, 10, 3, Some(false)), GIB);
    }

    #[test]
    fn does_it_yield_within_seconds_where_clients_wait_and_come_back_after_it() {
        let mut rates = Rates::new(GIB);
        after(&mut rates, 10, 3, Some(false));
        let mut once = rates;
        once.heard(Duration::from_secs(20), Some(true));
        once.heard(Duration::from_millis(20_100), Some(true));
        assert_eq!(
            once.now,
            GIB / 2,
            "one pressed moment is told by many copies"
        );
        assert_eq!(after(&mut rates, 20, 3, Some(true)), 16 * MIB);
        assert_eq!(after(&mut rates, 30, 5, Some(false)), GIB);
    }

    #[test]
    fn is_a_small_setting_never_exceeded() {
        let mut rates = Rates::new(MIB);
        assert_eq!(after(&mut rates, 10, 5, Some(false)), MIB);
        assert_eq!(after(&mut rates, 20, 5, Some(true)), MIB);
    }

    #[test]
    fn does_it_go_no_faster_than_before_with_nodes_that_do_not_say() {
        let mut rates = Rates::new(GIB);
        assert_eq!(after(&mut rates, 10, 5, None), 64 * MIB);
        after(&mut rates, 20, 5, Some(false));
        assert_eq!(after(&mut rates, 30, 1, None), 64 * MIB);
    }

    #[test]
    fn does_the_last_copy_of_something_wait_for_no_client_and_no_low_setting() {
        let clock = Arc::new(holdfast_runtime::host::system::SystemClock::default());
        let pace = Pace::new(clock, MIB);
        let now = Duration::from_secs(100);
        let mut state = pace.lock();
        // A minute of others that wait.
        state.take(now, 60 * MIB, false);
        let wait = state.take(now, 8 * MIB, true);
        assert!(wait < Duration::from_secs(1), "{wait:?}");
        let other = state.take(now, 8 * MIB, false);
        assert!(other > Duration::from_secs(50), "{other:?}");
    }
}

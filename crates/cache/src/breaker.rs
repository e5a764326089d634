//! A circuit breaker: stops asking a server that does not answer.
//!
//! Closed, it lets every call through and counts failures in a row. After
//! [`FAILURES_TO_OPEN`] it opens and lets none through. [`OPEN_FOR`] later it
//! is half open: one call at a time is let through, and its end decides.

use std::time::Duration;

/// Failures in a row after which nothing is asked any more.
pub const FAILURES_TO_OPEN: u32 = 5;
/// How long nothing is asked before one call tries again.
pub const OPEN_FOR: Duration = Duration::from_secs(1);

/// The breaker; times are those of one monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// When the next trial may be made, while open.
    next_trial: Option<Duration>,
}

impl Breaker {
    /// Whether a call may be made at `now`. Half open, the caller who is told
    /// yes is the trial, and the others wait for [`OPEN_FOR`] again: a trial
    /// whose end is never reported holds nobody up for longer.
    pub fn admits(&mut self, now: Duration) -> bool {
        match self.next_trial {
            None => true,
            Some(at) if now < at => false,
            Some(_) => {
                self.next_trial = Some(now + OPEN_FOR);
                true
            }
        }
    }

    /// A call was answered.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A call failed or took too long.
    pub fn failed(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_TO_OPEN {
            self.next_trial = Some(now + OPEN_FOR);
        }
    }

    /// Whether it lets every call through.
    pub fn closed(&self) -> bool {
        self.next_trial.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert!(breaker.admits(Duration::ZERO));
            breaker.failed(Duration::ZERO);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let mut breaker = Breaker::default();
        for _ in 0..3 * FAILURES_TO_OPEN {
            breaker.failed(Duration::ZERO);
            breaker.succeeded();
        }
        assert!(breaker.closed());
        let mut breaker = opened();
        assert!(!breaker.closed());
        assert!(!breaker.admits(OPEN_FOR - MS));
    }

    #[test]
    fn half_open_it_admits_one_trial_at_a_time() {
        let mut breaker = opened();
        assert!(breaker.admits(OPEN_FOR));
        assert!(!breaker.admits(OPEN_FOR));
        assert!(!breaker.admits(2 * OPEN_FOR - MS));
        assert!(
            breaker.admits(2 * OPEN_FOR),
            "a trial without end must not hold all up"
        );
    }

    #[test]
    fn a_trial_decides() {
        let mut breaker = opened();
        assert!(breaker.admits(OPEN_FOR));
        breaker.failed(OPEN_FOR + MS);
        assert!(!breaker.admits(2 * OPEN_FOR));
        assert!(breaker.admits(2 * OPEN_FOR + MS));
        breaker.succeeded();
        assert!(breaker.closed() && breaker.admits(2 * OPEN_FOR + MS));
    }
}

//! The cluster's time, as its nodes tell it: pure.
//!
//! A group remembers the outcome of a request by the time in the request's id,
//! and refuses what is older than its memory. A gateway stamps ids with the
//! nodes' time and never with its own clock, which may be off by any amount:
//! the nodes' clocks agree within seconds, or they do not lead.

use std::time::Duration;

use holdfast_model::Timestamp;

/// What a node's wall clock showed when it was heard, by our own two clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// The node's wall clock.
    pub told: Timestamp,
    /// Our monotonic clock.
    pub at: Duration,
    /// Our wall clock.
    pub wall: Timestamp,
}

impl Heard {
    /// What the node's clock shows now, as far as ours tell how much later it
    /// is. Where ours differ the longer time counts: a machine that slept has
    /// not counted it on the one, a wall clock that was set back not on the
    /// other.
    pub fn now(&self, monotonic: Duration, wall: Timestamp) -> Timestamp {
        let passed = monotonic.saturating_sub(self.at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.told.plus(passed.max(wall.since(self.wall)))
    }
}

/// The median of what nodes' clocks show; `None` where none was heard. Of two
/// that differ the later one: an outcome is then remembered for longer, while an
/// id from too early would be refused.
pub fn median_time(clocks: impl IntoIterator<Item = Timestamp>) -> Option<Timestamp> {
    let mut clocks: Vec<Timestamp> = clocks.into_iter().collect();
    clocks.sort_unstable();
    clocks.get(clocks.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const NOON: u64 = 12 * HOUR;

    fn median(clocks: &[u64]) -> Option<u64> {
        median_time(clocks.iter().map(|clock| Timestamp(*clock))).map(|time| time.0)
    }

    #[test]
    fn one_clock_that_is_off_moves_the_time_of_three_by_nothing() {
        assert_eq!(median(&[NOON, NOON - HOUR, NOON + 40]), Some(NOON));
        assert_eq!(median(&[NOON + HOUR, NOON, NOON + 40]), Some(NOON + 40));
    }

    #[test]
    fn of_two_clocks_the_later_one_counts_and_of_none_there_is_no_time() {
        assert_eq!(median(&[NOON, NOON - HOUR]), Some(NOON));
        assert_eq!(median(&[NOON]), Some(NOON));
        assert_eq!(median(&[]), None);
    }

    /// A node's clock that showed noon ten seconds after our start, when ours
    /// was an hour behind.
    fn heard(monotonic_seconds: u64, wall: u64) -> u64 {
        let heard = Heard {
            told: Timestamp(NOON),
            at: Duration::from_secs(10),
            wall: Timestamp(NOON - HOUR),
        };
        let now = Duration::from_secs(monotonic_seconds);
        heard.now(now, Timestamp(wall)).0
    }

    #[test]
    fn a_clock_that_was_heard_goes_on_whatever_ours_shows() {
        assert_eq!(heard(12, NOON - HOUR + 2_000), NOON + 2_000);
    }

    #[test]
    fn of_our_own_clocks_the_one_counts_that_says_that_more_time_has_passed() {
        assert_eq!(
            heard(12, NOON - 3 * HOUR),
            NOON + 2_000,
            "ours was set back"
        );
        assert_eq!(
            heard(12, NOON),
            NOON + HOUR,
            "the machine slept for an hour"
        );
        assert_eq!(heard(u64::MAX, NOON), u64::MAX);
    }
}

//! Whether this process gets to run in time.
//!
//! A leader that stands still again and again, for less than an election takes,
//! is never replaced and lets everybody wait: its machine swaps, is starved, or
//! is being paused. It notices by its own ticks that come late, and gives its
//! groups to others. Where all are late alike that gains nothing, so it happens
//! seldom.

use std::collections::VecDeque;
use std::time::Duration;

/// The time over which lateness is summed up.
const WINDOW: Duration = Duration::from_secs(6);
/// A leader that was late for so long in it is of no use. On a machine with far
/// too much to do all are late for a third of the time, and a new leader would
/// be no better.
const TOO_LATE: Duration = Duration::from_millis(3_600);
/// As what one stall counts at most: that one is the past, an election has
/// dealt with it. Three in a window are not.
const ONE_STALL: Duration = Duration::from_millis(1_500);
/// The least time between two times of giving leadership away.
const PAUSE: Duration = Duration::from_secs(30);

/// How long it is insisted on, once begun.
const INSIST: Duration = Duration::from_secs(5);

/// How late the ticks of the last [`WINDOW`] were.
#[derive(Default, Debug)]
pub(super) struct Stalls {
    late: VecDeque<(Duration, Duration)>,
    gave: Option<Duration>,
}

impl Stalls {
    /// A tick came at `now`, so late. True while leadership is to be given away.
    pub fn note(&mut self, now: Duration, late: Duration) -> bool {
        self.late.push_back((now, late));
        while self
            .late
            .front()
            .is_some_and(|(at, _)| now.saturating_sub(*at) > WINDOW)
        {
            self.late.pop_front();
        }
        let sum: Duration = self
            .late
            .iter()
            .map(|(_, late)| (*late).min(ONE_STALL))
            .sum();
        let rested = self
            .gave
            .is_none_or(|gave| now.saturating_sub(gave) >= PAUSE);
        if sum < TOO_LATE {
            return false;
        }
        if rested {
            self.gave = Some(now);
        }
        // A transfer that was overtaken by commands is tried again.
        self.gave
            .is_some_and(|gave| now.saturating_sub(gave) < INSIST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks at this interval for so long; how often leadership is given away.
    fn run(stalls: &mut Stalls, from: u64, to: u64, interval: u64) -> usize {
        (from..to)
            .step_by(interval as usize)
            .filter(|now| {
                let late = interval.saturating_sub(250);
                stalls.note(Duration::from_millis(*now), Duration::from_millis(late))
            })
            .count()
    }

    #[test]
    fn who_stands_still_most_of_the_time_leads_no_more() {
        let mut stalls = Stalls::default();
        assert_eq!(run(&mut stalls, 0, 10_000, 1_000), 5);
        assert_eq!(run(&mut stalls, 10_000, 34_000, 1_000), 0);
        assert_eq!(run(&mut stalls, 34_000, 48_000, 1_000), 5);
    }

    #[test]
    fn who_stands_still_for_two_seconds_again_and_again_leads_no_more() {
        // Less than the longest time-out of an election: nobody else stands.
        for interval in [1_500, 2_000, 2_400] {
            assert!(run(&mut Stalls::default(), 0, 12_000, interval) > 0);
        }
    }

    #[test]
    fn who_is_busy_or_was_stopped_once_goes_on() {
        let mut stalls = Stalls::default();
        assert_eq!(run(&mut stalls, 0, 60_000, 450), 0);
        let once = Duration::from_secs(90);
        assert!(!stalls.note(once, Duration::from_secs(30)));
    }
}

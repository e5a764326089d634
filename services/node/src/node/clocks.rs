//! Whether this machine's clock agrees with the others': whose does not, does
//! not lead, since leaders stamp time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use holdfast_model::DiskId;
use holdfast_runtime::Env;

/// How far a clock may be from the median of the nodes'.
pub const MAX_SKEW_MILLIS: i64 = 5_000;
/// What was seen longer ago says nothing.
const FRESH: Duration = Duration::from_secs(30);

/// What the others' clocks say.
pub struct Clocks {
    env: Env,
    /// Milliseconds that a peer's clock is ahead of ours, and when that was seen.
    seen: Mutex<BTreeMap<DiskId, (i64, Duration)>>,
}

impl Clocks {
    /// Nothing is known yet.
    pub fn new(env: Env) -> Self {
        Self {
            env,
            seen: Mutex::default(),
        }
    }

    /// A peer's clock was seen to be ahead by so many milliseconds.
    pub fn saw(&self, disk: DiskId, ahead_millis: i64) {
        let now = self.env.clock.monotonic();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(disk, (ahead_millis, now));
    }

    /// Whether ours is off.
    pub fn off(&self) -> bool {
        let now = self.env.clock.monotonic();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = seen
            .values()
            .filter(|(_, at)| now.saturating_sub(*at) <= FRESH);
        is_off(fresh.map(|(ahead, _)| *ahead).collect())
    }
}

/// Whether a clock is off, of which the others are so many milliseconds ahead.
/// With one other alone nobody can say who is right.
fn is_off(mut ahead: Vec<i64>) -> bool {
    if ahead.len() < 2 {
        return false;
    }
    ahead.push(0);
    ahead.sort_unstable();
    let median = ahead.get(ahead.len() / 2).copied().unwrap_or_default();
    median.abs() > MAX_SKEW_MILLIS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_differs_from_the_others_is_off() {
        assert!(
            is_off(vec![3_600_000, 3_600_010]),
            "ours is an hour behind both"
        );
        assert!(is_off(vec![-3_600_000, -3_600_010]));
        assert!(!is_off(vec![3_600_000, 5]), "another's is off");
        assert!(!is_off(vec![40, -12]));
        assert!(
            !is_off(vec![3_600_000]),
            "two clocks cannot say who is right"
        );
        assert!(!is_off(vec![]));
    }
}

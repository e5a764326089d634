//! Whether this machine's clock agrees with the others': whose does not, does
//! not lead, since leaders stamp time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use holdfast_model::{DiskId, Timestamp};
use holdfast_runtime::Env;

/// How far a clock may be from the median of the nodes', or from where it was a
/// moment ago.
pub const MAX_SKEW_MILLIS: i64 = 5_000;
/// What was seen longer ago says nothing.
const FRESH: Duration = Duration::from_secs(30);

/// What the others' clocks say.
pub struct Clocks {
    env: Env,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Milliseconds that a peer's clock is ahead of ours, and when that was seen.
    seen: BTreeMap<DiskId, (i64, Duration)>,
    /// Where our clock was when it was last looked at.
    reference: Option<(Timestamp, Duration)>,
    /// Ours has jumped, and no peer has confirmed it since.
    jumped: bool,
}

impl Clocks {
    /// Nothing is known yet.
    pub fn new(env: Env) -> Self {
        Self {
            env,
            inner: Mutex::default(),
        }
    }

    /// A peer's clock was seen to be ahead by so many milliseconds.
    pub fn saw(&self, disk: DiskId, ahead_millis: i64) {
        let now = self.env.clock.monotonic();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.seen.insert(disk, (ahead_millis, now));
        inner.jumped = false;
    }

    /// Whether ours is off. Asked before each stamp: a clock that has jumped
    /// since the last one is off until a peer has been heard.
    pub fn off(&self) -> bool {
        let (wall, now) = (self.env.clock.wall(), self.env.clock.monotonic());
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, at)) = inner.reference.replace((wall, now)) {
            let expected = then.plus(now.saturating_sub(at).as_millis() as u64);
            let jump = wall.0 as i64 - expected.0 as i64;
            // Without peers there is nobody to ask, and nobody else to lead.
            if jump.abs() > MAX_SKEW_MILLIS && !inner.seen.is_empty() {
                tracing::warn!(jump, "this machine's clock has jumped (milliseconds)");
                inner.seen.clear();
                inner.jumped = true;
            }
        }
        let fresh = inner
            .seen
            .values()
            .filter(|(_, at)| now.saturating_sub(*at) <= FRESH);
        inner.jumped || is_off(fresh.map(|(ahead, _)| *ahead).collect())
    }
}

/// Whether a clock is off, of which the others are so many milliseconds ahead.
/// With one other alone nobody can say who is right, so that the earlier one
/// may lead: it ends nothing too soon.
fn is_off(mut ahead: Vec<i64>) -> bool {
    match ahead.as_slice() {
        [] => false,
        [only] => *only < -MAX_SKEW_MILLIS,
        _ => {
            ahead.push(0);
            ahead.sort_unstable();
            let median = ahead.get(ahead.len() / 2).copied().unwrap_or_default();
            median.abs() > MAX_SKEW_MILLIS
        }
    }
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
        assert!(!is_off(vec![]));
    }

    #[test]
    fn of_two_that_differ_the_earlier_one_may_lead() {
        assert!(!is_off(vec![3_600_000]));
        assert!(is_off(vec![-3_600_000]));
    }
}

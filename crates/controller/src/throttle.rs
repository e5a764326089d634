//! So many bytes a second and no more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_runtime::Clock;

/// What may be saved up while nothing is asked for: a second's worth would let
/// short work run at twice the rate.
const BURST: Duration = Duration::from_millis(250);

/// The arithmetic: whoever comes is told how long to wait, in turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bucket {
    bytes_per_second: u64,
    /// When all that was taken is paid for.
    paid_at: Duration,
}

impl Bucket {
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid_at: Duration::ZERO,
        }
    }

    /// Goes on at another rate; what was taken stays paid as it was.
    pub fn set_rate(&mut self, bytes_per_second: u64) {
        self.bytes_per_second = bytes_per_second.max(1);
    }

    /// Takes `bytes` and returns how long to wait before using them.
    pub fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let from = self.paid_at.max(now.saturating_sub(BURST));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_at = from.saturating_add(cost);
        from.saturating_sub(now)
    }
}

/// A [`Bucket`] that many share.
pub(crate) struct Throttle {
    clock: Arc<dyn Clock>,
    /// Held for the arithmetic only.
    bucket: Mutex<Bucket>,
}

impl Throttle {
    pub fn new(clock: Arc<dyn Clock>, bytes_per_second: u64) -> Self {
        let bucket = Mutex::new(Bucket::new(bytes_per_second));
        Self { clock, bucket }
    }

    /// Waits until `bytes` may be moved.
    pub async fn take(&self, bytes: u64) {
        let now = self.clock.monotonic();
        let wait = self
            .bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(now, bytes);
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_minute_no_more_than_the_rate_is_taken() {
        let mut bucket = Bucket::new(1_000);
        let mut now = Duration::from_secs(100);
        let end = now + Duration::from_secs(60);
        let mut taken = 0;
        while now < end {
            now += bucket.take(now, 700);
            taken += 700;
        }
        let most = 60_000 + 250 + 2 * 700;
        assert!((59_000..=most).contains(&taken), "{taken}");
    }

    #[test]
    fn two_who_come_at_once_wait_in_turn() {
        let mut bucket = Bucket::new(1_000);
        let now = Duration::from_secs(9);
        assert_eq!(bucket.take(now, 1_250), Duration::ZERO);
        assert_eq!(bucket.take(now, 500), Duration::from_secs(1));
        assert_eq!(bucket.take(now, 500), Duration::from_millis(1_500));
    }

    #[test]
    fn an_idle_hour_saves_up_no_more_than_a_burst() {
        let mut bucket = Bucket::new(1_000);
        bucket.take(Duration::ZERO, 10);
        let now = Duration::from_secs(3_600);
        assert_eq!(bucket.take(now, 250), Duration::ZERO);
        assert_eq!(bucket.take(now, 100), Duration::ZERO);
        assert_eq!(bucket.take(now, 100), Duration::from_millis(100));
    }
}

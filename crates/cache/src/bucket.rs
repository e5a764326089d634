//! Token buckets: how often something may be done.
//!
//! A bucket holds up to `burst` tokens and gains `per_second` each second;
//! each allowed use takes one. The arithmetic here is also that of the
//! server's script ([`SCRIPT`]); a test compares the two.

use std::time::Duration;

/// How often something may be done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// Uses a second in the long run; may be less than one.
    pub per_second: f64,
    /// Uses at once after a rest; at least one.
    pub burst: u32,
}

/// Whether it may be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowance {
    /// Yes, and it is counted.
    Allowed,
    /// No.
    Refused {
        /// When the next token is there.
        retry_after: Duration,
    },
}

/// The slowest rate: one use a day. Slower buckets would be kept for ever.
const MIN_PER_SECOND: f64 = 1.0 / 86_400.0;

impl Rate {
    /// The rate with its nonsense taken out: what buckets compute with.
    pub(crate) fn sane(self) -> Self {
        // NaN becomes the slowest too.
        let per_second = if self.per_second > MIN_PER_SECOND {
            self.per_second.min(1e9)
        } else {
            MIN_PER_SECOND
        };
        Self {
            per_second,
            burst: self.burst.max(1),
        }
    }
}

/// A bucket at some moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TokenBucket {
    tokens: f64,
    at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(rate: Rate, now: Duration) -> Self {
        Self {
            tokens: f64::from(rate.sane().burst),
            at: now,
        }
    }

    /// Takes a token at `now`, if there is one.
    pub fn take(&mut self, rate: Rate, now: Duration) -> Allowance {
        let rate = rate.sane();
        let gained = now.saturating_sub(self.at).as_secs_f64() * rate.per_second;
        self.tokens = (self.tokens + gained).min(f64::from(rate.burst));
        self.at = self.at.max(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Allowance::Allowed;
        }
        let seconds = (1.0 - self.tokens) / rate.per_second;
        Allowance::Refused {
            retry_after: millis_up(seconds),
        }
    }
}

/// Whole milliseconds, rounded up: who waits so long finds a token.
fn millis_up(seconds: f64) -> Duration {
    Duration::from_millis((seconds * 1_000.0).ceil().max(1.0) as u64)
}

/// The same in the server, in one step and by the server's clock. Answers 0
/// when allowed, else the milliseconds to wait. A bucket that would be full
/// again is forgotten.
pub(crate) const SCRIPT: &str = r"
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local kept = redis.call('HMGET', KEYS[1], 't', 'at')
local tokens, at = tonumber(kept[1]) or burst, tonumber(kept[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local wait = 0
if tokens >= 1 then
  tokens = tokens - 1
else
  wait = math.max(1, math.ceil((1 - tokens) / rate * 1000))
end
redis.call('HSET', KEYS[1], 't', string.format('%.9f', tokens), 'at', string.format('%.6f', math.max(now, at)))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return wait
";

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 2.0,
        burst: 3,
    };

    fn refused_for(millis: u64) -> Allowance {
        Allowance::Refused {
            retry_after: Duration::from_millis(millis),
        }
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let start = Duration::from_secs(10);
        let mut bucket = TokenBucket::full(RATE, start);
        for _ in 0..3 {
            assert_eq!(bucket.take(RATE, start), Allowance::Allowed);
        }
        assert_eq!(bucket.take(RATE, start), refused_for(500));
        let later = start + Duration::from_millis(400);
        assert_eq!(bucket.take(RATE, later), refused_for(100));
        let then = start + Duration::from_millis(500);
        assert_eq!(bucket.take(RATE, then), Allowance::Allowed);
        assert_eq!(bucket.take(RATE, then), refused_for(500));
    }

    #[test]
    fn a_rest_fills_it_to_the_burst_and_no_further() {
        let mut bucket = TokenBucket::full(RATE, Duration::ZERO);
        let later = Duration::from_secs(3_600);
        let allowed = (0..10)
            .filter(|_| bucket.take(RATE, later) == Allowance::Allowed)
            .count();
        assert_eq!(allowed, 3);
    }

    #[test]
    fn a_rate_that_makes_no_sense_allows_little_and_never_divides_by_zero() {
        for per_second in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            let rate = Rate {
                per_second,
                burst: 0,
            };
            let mut bucket = TokenBucket::full(rate, Duration::ZERO);
            assert_eq!(bucket.take(rate, Duration::ZERO), Allowance::Allowed);
            assert_eq!(bucket.take(rate, Duration::ZERO), refused_for(86_400_000));
        }
    }
}

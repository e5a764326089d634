//! A world in which nothing happens but what a test does: no time passes,
//! nobody answers, and all runs in one thread, the same every time. For tests
//! of one part alone; the simulation has a world that moves.
//!
//! It needs a tokio runtime of one thread, as `#[tokio::test]` has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_model::Timestamp;

use crate::{Address, Call, Clock, Entropy, Env, Reply, Tasks, Transport, TransportError};

/// Such a world; `seed` decides its random numbers.
pub fn env(seed: u64) -> Env {
    Env {
        clock: Arc::new(NoClock),
        entropy: Arc::new(Seeded::new(seed)),
        tasks: Arc::new(InlineTasks),
        transport: Arc::new(NoTransport),
    }
}

/// Random numbers from a seed: SplitMix64 (Steele, Lea, Flood 2014).
pub struct Seeded(AtomicU64);

impl Seeded {
    /// The numbers that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number.
    pub fn number(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(step, Ordering::SeqCst).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below `bound`, or zero where that is zero.
    pub fn below(&self, bound: u64) -> u64 {
        self.number().checked_rem(bound).unwrap_or(0)
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.number() as u8;
        }
    }
}

/// Blocking work runs where it is asked for, after the other tasks had a turn.
struct InlineTasks;

impl Tasks for InlineTasks {
    #[allow(clippy::disallowed_methods, reason = "the tests' own executor")]
    fn spawn(&self, _: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        async move {
            tokio::task::yield_now().await;
            work();
        }
        .boxed()
    }
}

struct NoClock;

impl Clock for NoClock {
    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

/// Tokio's own time, from now on: for tests that start with it paused, in which
/// it passes when all wait. On the wall it is always the beginning.
pub fn paused_clock() -> Arc<dyn Clock> {
    Arc::new(Paused(tokio::time::Instant::now()))
}

struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

struct NoTransport;

impl Transport for NoTransport {
    fn call(&self, to: &Address, _: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let error = TransportError::Connect {
            to: to.clone(),
            reason: "there is nobody".into(),
        };
        std::future::ready(Err(error)).boxed()
    }
}

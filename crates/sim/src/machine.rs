//! One machine of the simulation: its clock, its randomness, its tasks, which
//! end when it loses power, and its disk, which does not.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_model::Timestamp;
use holdfast_runtime::{Clock, Entropy, Shutdown, Tasks};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::points::AtPoint;
use crate::trace::Trace;

/// The wall clock's reading when a run begins: 2026-01-01.
const EPOCH_MILLIS: u64 = 1_767_225_600_000;

/// A machine's clock: the simulation's time, and an offset of the wall clock.
pub struct MachineClock {
    start: tokio::time::Instant,
    /// Milliseconds that the wall clock is ahead.
    pub offset_millis: AtomicI64,
}

impl MachineClock {
    /// A clock that is right.
    pub fn new(start: tokio::time::Instant) -> Self {
        Self {
            start,
            offset_millis: AtomicI64::new(0),
        }
    }
}

impl Clock for MachineClock {
    fn wall(&self) -> Timestamp {
        let millis = EPOCH_MILLIS + self.monotonic().as_millis() as u64;
        Timestamp(millis.saturating_add_signed(self.offset_millis.load(Ordering::Relaxed)))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// Randomness from a seed.
pub struct SeededEntropy {
    inner: Mutex<ChaCha8Rng>,
}

impl SeededEntropy {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            inner: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
        }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(bytes);
    }
}

/// Tasks that end together.
#[derive(Clone)]
pub struct MachineTasks {
    power: CancellationToken,
    entropy: Arc<dyn Entropy>,
    /// The longest that work on the disk takes, in milliseconds.
    max_disk_millis: Arc<AtomicU64>,
    trace: Arc<Trace>,
    /// Told of named points; none for a machine without a disk.
    at_point: Option<AtPoint>,
}

impl MachineTasks {
    /// Tasks that end when `power` is cancelled.
    pub fn new(
        power: CancellationToken,
        entropy: Arc<dyn Entropy>,
        max_disk_millis: Arc<AtomicU64>,
        trace: Arc<Trace>,
        at_point: Option<AtPoint>,
    ) -> Self {
        Self {
            power,
            entropy,
            max_disk_millis,
            trace,
            at_point,
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the simulation's own executor"
)]
impl Tasks for MachineTasks {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        let power = self.power.clone();
        let trace = self.trace.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = power.cancelled() => {}
                ended = AssertUnwindSafe(task).catch_unwind() => {
                    if ended.is_err() {
                        // A real process would have ended.
                        trace.wrong(format!("the task {name} panicked"));
                    }
                }
            }
        });
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let delay = Duration::from_millis(
            self.entropy
                .below(self.max_disk_millis.load(Ordering::Relaxed) + 1),
        );
        let power = self.power.clone();
        async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            if power.is_cancelled() {
                // The machine has no power: nobody waits for this any more.
                std::future::pending::<()>().await;
            }
            work();
        }
        .boxed()
    }

    fn pass(&self, point: &'static str) {
        if let Some(at_point) = self
            .at_point
            .as_ref()
            .filter(|_| !self.power.is_cancelled())
        {
            at_point(point);
        }
    }
}

/// A machine that has power.
pub struct Machine {
    /// Ends all its tasks at once when cancelled.
    pub power: CancellationToken,
    /// Its clock.
    pub clock: Arc<MachineClock>,
    /// The longest that work on its disk takes, in milliseconds.
    pub disk_millis: Arc<AtomicU64>,
    /// Asks its node to end in order.
    pub shutdown: Shutdown,
}

//! The machine's clock, randomness and threads.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_model::Timestamp;

use crate::{Clock, Entropy, Tasks};

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(since.as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// The operating system's random numbers.
#[derive(Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            // Without randomness identities would repeat: nothing may go on.
            tracing::error!(%error, "the operating system gives no random numbers");
            std::process::abort();
        }
    }
}

/// Tokio's tasks, and its threads for work that blocks.
#[derive(Debug)]
pub struct TokioTasks;

impl Tasks for TokioTasks {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(async move {
            // A background task that ends by panic must not leave a process
            // that looks alive: the panic hook of `telemetry` ends it.
            task.await;
            tracing::trace!(task = name, "ended");
        });
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let handle = tokio::task::spawn_blocking(work);
        async move {
            // It fails only when the runtime ends.
            let _ = handle.await;
        }
        .boxed()
    }
}

//! Time, of two kinds: the wall's, which may jump, and one that only goes on.

use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_model::Timestamp;

/// A clock.
pub trait Clock: Send + Sync {
    /// Wall-clock time. It may jump either way and differ between machines:
    /// never order by it.
    fn wall(&self) -> Timestamp;

    /// Time since some moment in the past; never goes back.
    fn monotonic(&self) -> Duration;

    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Runs `future` for at most `limit`; `None` when it took longer.
pub async fn within<F: Future>(clock: &dyn Clock, limit: Duration, future: F) -> Option<F::Output> {
    let sleep = clock.sleep(limit);
    tokio::select! {
        biased;
        output = future => Some(output),
        () = sleep => None,
    }
}

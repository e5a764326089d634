//! The end of a process: said once, heard by all.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Tells everybody who holds a copy that the process is to end.
///
/// Not a `tokio::sync::watch`: that one wakes its listeners in an order of its
/// own randomness, and a seed would no longer replay a run.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

/// How long a process may take to finish what it has begun.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

impl Shutdown {
    /// Begins the end.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when it begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }
}

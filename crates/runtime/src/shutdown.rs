//! The end of a process: said once, heard by all.

use std::time::Duration;

use tokio::sync::watch;

/// Tells everybody who holds a copy that the process is to end.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            sender: watch::Sender::new(false),
        }
    }
}

/// How long a process may take to finish what it has begun.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

impl Shutdown {
    /// Begins the end.
    pub fn begin(&self) {
        self.sender.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.sender.borrow()
    }

    /// Resolves when it begins.
    pub async fn begun(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender is part of self, so it cannot have been dropped.
        let _ = receiver.wait_for(|begun| *begun).await;
    }
}

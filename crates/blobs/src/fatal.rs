//! The end of a disk: after one failed sync nothing on it can be trusted.

use std::sync::Arc;
use std::sync::OnceLock;

/// Told once, with the reason, when the disk has failed. In production it
/// leaves a marker and ends the process.
pub type OnFatal = Arc<dyn Fn(String) + Send + Sync>;

/// The disk has failed; nothing more may be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the disk has failed: {0}")]
pub struct Failed(pub String);

pub(crate) struct Fatal {
    reason: OnceLock<String>,
    hook: OnFatal,
}

impl Fatal {
    pub(crate) fn new(hook: OnFatal) -> Self {
        Self {
            reason: OnceLock::new(),
            hook,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Failed> {
        match self.reason.get() {
            Some(reason) => Err(Failed(reason.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn fail(&self, reason: String) -> Failed {
        if self.reason.set(reason.clone()).is_ok() {
            tracing::error!(reason, "the disk has failed");
            (self.hook)(reason.clone());
        }
        Failed(reason)
    }
}

//! What happened, folded into one number: two runs of a seed must agree.

use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// A running digest of events.
#[derive(Default)]
pub struct Trace {
    inner: Mutex<(Sha256, u64)>,
}

impl Trace {
    /// Adds an event.
    pub fn note(&self, event: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0.update(event.as_bytes());
        inner.0.update(b"\n");
        inner.1 += 1;
    }

    /// The digest so far, and of how many events.
    pub fn digest(&self) -> (String, u64) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let text = inner
            .0
            .clone()
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (text, inner.1)
    }
}

//! How much memory the bodies of all requests of a process may hold together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which memory is given out: small enough to waste little, large
/// enough that any budget fits a semaphore.
const GRAIN_BYTES: u64 = 1 << 10;

/// A number of bytes that requests share. Who waits gets it in turn.
#[derive(Debug)]
pub struct MemoryBudget {
    grains: Arc<Semaphore>,
    total: u32,
}

/// A share of a [`MemoryBudget`], given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _grains: Option<OwnedSemaphorePermit>,
}

impl MemoryBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Arc<Self> {
        let most = (Semaphore::MAX_PERMITS as u64).min(u64::from(u32::MAX));
        let total = bytes.div_ceil(GRAIN_BYTES).clamp(1, most) as u32;
        Arc::new(Self {
            grains: Arc::new(Semaphore::new(total as usize)),
            total,
        })
    }

    /// Waits until `bytes` are free and takes them. One request may take the
    /// whole budget and no more: what is larger than it gets it all.
    pub async fn take(&self, bytes: u64) -> Permit {
        let grains = bytes.div_ceil(GRAIN_BYTES).min(u64::from(self.total)) as u32;
        Permit {
            // Fails only when the semaphore is closed, which it never is.
            _grains: Arc::clone(&self.grains)
                .acquire_many_owned(grains)
                .await
                .ok(),
        }
    }

    /// Bytes that nobody holds.
    pub fn free(&self) -> u64 {
        self.grains.available_permits() as u64 * GRAIN_BYTES
    }
}

//! One at a time for each chunk: repair writes fragments, clean-up deletes
//! them, and both name them by the same ids.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_model::{GroupId, UploadId};

type ChunkName = (GroupId, UploadId, u32);

/// Chunks that somebody in this process works on.
#[derive(Clone, Default)]
pub(crate) struct Claims {
    /// Held for lookups only.
    held: Arc<Mutex<BTreeSet<ChunkName>>>,
}

/// A chunk that is worked on; given back when dropped.
pub(crate) struct Claim {
    claims: Claims,
    name: ChunkName,
}

impl Claims {
    /// Claims a chunk; `None` while another has it.
    pub fn claim(&self, group: GroupId, upload: UploadId, chunk: u32) -> Option<Claim> {
        let name = (group, upload, chunk);
        let claims = self.clone();
        // Only a new claim may be made: dropping one gives the chunk back.
        let new = self.lock().insert(name);
        new.then(|| Claim { claims, name })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<ChunkName>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_has_one_claim_at_a_time() {
        let claims = Claims::default();
        let upload = UploadId::from_bytes([1; 16]);
        let first = claims.claim(GroupId(1), upload, 0);
        assert!(first.is_some());
        assert!(claims.claim(GroupId(1), upload, 0).is_none());
        assert!(claims.claim(GroupId(1), upload, 1).is_some());
        drop(first);
        assert!(claims.claim(GroupId(1), upload, 0).is_some());
    }
}

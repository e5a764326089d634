//! Randomness.

use holdfast_model::{RequestId, Timestamp};

use crate::clock::Clock;

/// A source of random bytes, fit for identities and tokens.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Entropy + '_ {
    /// Sixteen random bytes, for an identity.
    pub fn id(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number.
    pub fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    /// A random number below `bound`, or zero where that is zero.
    pub fn below(&self, bound: u64) -> u64 {
        self.number().checked_rem(bound).unwrap_or(0)
    }

    /// A request id: the wall clock's milliseconds, then random bytes. Groups
    /// judge by their own time whether they still know a request's outcome, so
    /// that who calls them from another machine takes the nodes' time instead:
    /// [`request_id_at`](Self::request_id_at).
    pub fn request_id(&self, clock: &dyn Clock) -> RequestId {
        self.request_id_at(clock.wall())
    }

    /// A request id: a time's milliseconds, then random bytes.
    pub fn request_id_at(&self, time: Timestamp) -> RequestId {
        let mut bytes = self.id();
        let millis = time.0.to_be_bytes();
        for (to, from) in bytes.iter_mut().zip(millis.iter().skip(2)) {
            *to = *from;
        }
        RequestId::from_bytes(bytes)
    }
}

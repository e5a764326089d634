//! The cache: what makes the cluster faster and is allowed to vanish.
//!
//! It holds heat and never truth: values keyed by what cannot change (an
//! object's version and revision), rate limits, and a lock that only saves two
//! workers the same work. Every call ends within [`CALL_DEADLINE`] whatever
//! the server does, and costs nothing at all while the breaker is open: an
//! absent or slow cache costs at most the cache.
//!
//! [`RedisCache`] is shared by all gateways and workers; [`EmbeddedCache`]
//! lives in the process, for one on a laptop and for tests.

pub mod breaker;
pub mod bucket;
mod embedded;
mod lru;
mod redis_cache;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use bucket::{Allowance, Rate};
pub use embedded::EmbeddedCache;
pub use redis_cache::RedisCache;

/// How long a call may take: less than what it saves.
pub const CALL_DEADLINE: Duration = Duration::from_millis(50);
/// The largest value that is kept; larger ones are cheap to stream from the nodes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// What may vanish.
pub trait Cache: Send + Sync {
    /// The value of `key`, if it is there.
    fn get(&self, key: &str) -> BoxFuture<'_, Option<Bytes>>;

    /// Keeps `value` for at most `ttl`. Empty values and those above
    /// [`MAX_VALUE_BYTES`] are not kept.
    fn put(&self, key: &str, value: Bytes, ttl: Duration) -> BoxFuture<'_, ()>;

    /// Takes one from a token bucket that all who share this cache have in
    /// common. While the server is away each process has buckets of its own.
    fn allow(&self, bucket: &str, rate: Rate) -> BoxFuture<'_, Allowance>;

    /// Takes a lock for at most `ttl`: `None` when another has it. While the
    /// server is away everybody gets it, since it only saves work.
    fn try_lock(&self, name: &str, ttl: Duration) -> BoxFuture<'_, Option<CacheLock>>;

    /// Whether it answers.
    fn healthy(&self) -> bool;
}

/// What a lock's holder proves that it is still its own.
pub(crate) type LockToken = [u8; 16];

/// Gives locks back. Must not wait.
pub(crate) trait Unlock: Send + Sync {
    fn unlock(&self, name: &str, token: LockToken);
}

/// A lock that is held until it is dropped, or its time is over.
#[must_use = "a lock that is dropped is given back"]
pub struct CacheLock {
    held: Option<(Arc<dyn Unlock>, String, LockToken)>,
}

impl CacheLock {
    pub(crate) fn held(by: Arc<dyn Unlock>, name: String, token: LockToken) -> Self {
        Self {
            held: Some((by, name, token)),
        }
    }

    /// The lock of one who could not ask.
    pub(crate) fn unasked() -> Self {
        Self { held: None }
    }
}

impl Drop for CacheLock {
    fn drop(&mut self) {
        if let Some((by, name, token)) = self.held.take() {
            by.unlock(&name, token);
        }
    }
}

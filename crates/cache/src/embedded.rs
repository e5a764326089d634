//! A cache in the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_runtime::Env;

use crate::bucket::TokenBucket;
use crate::lru::Lru;
use crate::{Allowance, Cache, CacheLock, LockToken, MAX_VALUE_BYTES, Rate, Unlock};

/// What all values may take; a laptop has that to spare.
const MAX_CACHE_BYTES: usize = 64 << 20;
/// What an entry takes beside its value: key, indexes, bookkeeping.
const ENTRY_BYTES: usize = 256;
/// Buckets that are kept; the one used longest ago is full again soonest.
const MAX_BUCKETS: usize = 100_000;
/// Locks that are kept; more are held by nobody.
const MAX_LOCKS: usize = 100_000;

/// A bounded cache in memory.
pub struct EmbeddedCache {
    env: Env,
    state: Arc<State>,
}

/// What the cache and the locks it gave share. No lock is held across an await.
struct State {
    values: Mutex<Lru<(Bytes, Duration)>>,
    locks: Mutex<Lru<(LockToken, Duration)>>,
    buckets: LocalBuckets,
}

impl EmbeddedCache {
    /// An empty cache.
    pub fn start(env: Env) -> Arc<Self> {
        let state = State {
            values: Mutex::new(Lru::new(MAX_CACHE_BYTES)),
            locks: Mutex::new(Lru::new(MAX_LOCKS)),
            buckets: LocalBuckets::default(),
        };
        Arc::new(Self {
            env,
            state: Arc::new(state),
        })
    }

    fn lock(&self, name: &str, ttl: Duration) -> Option<CacheLock> {
        let now = self.env.clock.monotonic();
        let mut locks = held(&self.state.locks);
        if locks.get(name).is_some_and(|(_, until)| *until > now) {
            return None;
        }
        let token = self.env.entropy.id();
        locks.put(name, (token, now.saturating_add(ttl)), 1);
        Some(CacheLock::held(self.state.clone(), name.to_owned(), token))
    }

    fn find(&self, key: &str) -> Option<Bytes> {
        let now = self.env.clock.monotonic();
        let mut values = held(&self.state.values);
        let (value, until) = values.get(key)?;
        if *until > now {
            return Some(value.clone());
        }
        values.remove(key);
        None
    }
}

impl Unlock for State {
    fn unlock(&self, name: &str, token: LockToken) {
        let mut locks = held(&self.locks);
        if locks.get(name).is_some_and(|(holder, _)| *holder == token) {
            locks.remove(name);
        }
    }
}

impl Cache for EmbeddedCache {
    fn get(&self, key: &str) -> BoxFuture<'_, Option<Bytes>> {
        std::future::ready(self.find(key)).boxed()
    }

    fn put(&self, key: &str, value: Bytes, ttl: Duration) -> BoxFuture<'_, ()> {
        if !value.is_empty() && value.len() <= MAX_VALUE_BYTES {
            let until = self.env.clock.monotonic().saturating_add(ttl);
            let weight = value.len() + key.len() + ENTRY_BYTES;
            held(&self.state.values).put(key, (value, until), weight);
        }
        std::future::ready(()).boxed()
    }

    fn allow(&self, bucket: &str, rate: Rate) -> BoxFuture<'_, Allowance> {
        let now = self.env.clock.monotonic();
        std::future::ready(self.state.buckets.take(bucket, rate, now)).boxed()
    }

    fn try_lock(&self, name: &str, ttl: Duration) -> BoxFuture<'_, Option<CacheLock>> {
        std::future::ready(self.lock(name, ttl)).boxed()
    }

    fn healthy(&self) -> bool {
        true
    }
}

/// Token buckets of this process alone.
pub(crate) struct LocalBuckets {
    buckets: Mutex<Lru<TokenBucket>>,
}

impl Default for LocalBuckets {
    fn default() -> Self {
        Self {
            buckets: Mutex::new(Lru::new(MAX_BUCKETS)),
        }
    }
}

impl LocalBuckets {
    pub(crate) fn take(&self, name: &str, rate: Rate, now: Duration) -> Allowance {
        let mut buckets = held(&self.buckets);
        if let Some(bucket) = buckets.get(name) {
            return bucket.take(rate, now);
        }
        let mut bucket = TokenBucket::full(rate, now);
        let allowance = bucket.take(rate, now);
        buckets.put(name, bucket, 1);
        allowance
    }
}

/// The content of a mutex whose every state is a good one.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

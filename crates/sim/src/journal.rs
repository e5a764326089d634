//! What clients were told: the oracle of a run. Nothing of the cluster is asked
//! to judge the cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use holdfast_model::{ObjectKey, VersionId};

use crate::history::{self, Action, Op, Value};
use crate::trace::Trace;

/// The content of one write, known from its number alone.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Its number.
    pub value: Value,
    /// Bytes.
    pub size: usize,
}

impl Written {
    /// Its bytes: SplitMix64 (Steele, Lea, Flood 2014) from its number.
    pub fn bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.size + 8);
        let mut state = self.value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        while bytes.len() < self.size {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        bytes.truncate(self.size);
        bytes.freeze()
    }
}

/// How often an object with a limit was handed out.
#[derive(Clone, Copy, Debug, Default)]
struct Handed {
    limit: u32,
    delivered: u32,
}

/// How much was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Puts that were acknowledged.
    pub puts: u64,
    /// Deletes that were acknowledged.
    pub deletes: u64,
    /// Objects read whole and compared.
    pub reads: u64,
    /// Pages of listings.
    pub listings: u64,
    /// Downloads that were counted.
    pub downloads: u64,
    /// Outcomes that stayed unknown.
    pub unknown: u64,
    /// Requests asked again after an unknown outcome, and then answered.
    pub again: u64,
    /// What was refused or failed without effect.
    pub failed: u64,
}

/// The journal of all clients of a run; clones are the same.
#[derive(Clone)]
pub struct Journal {
    trace: Arc<Trace>,
    /// Held for single updates only.
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    clock: u64,
    next_value: Value,
    histories: BTreeMap<ObjectKey, Vec<Op>>,
    versions: BTreeMap<VersionId, Written>,
    handed: BTreeMap<ObjectKey, Handed>,
    counts: Counts,
}

impl Journal {
    /// An empty journal.
    pub fn new(trace: Arc<Trace>) -> Self {
        Self {
            trace,
            inner: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run's trace.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// A position in the order of events.
    pub fn tick(&self) -> u64 {
        let mut inner = self.lock();
        inner.clock += 1;
        inner.clock
    }

    /// A new write of `size` bytes, under a version's id.
    pub fn new_value(&self, version: VersionId, size: usize) -> Written {
        let mut inner = self.lock();
        inner.next_value += 1;
        let written = Written {
            value: inner.next_value,
            size,
        };
        inner.versions.insert(version, written);
        written
    }

    /// What was written under a version's id.
    pub fn written(&self, version: &VersionId) -> Option<Written> {
        self.lock().versions.get(version).copied()
    }

    /// Notes an operation on a key.
    pub fn note(&self, key: &ObjectKey, client: usize, called: u64, known: bool, action: Action) {
        let returned = known.then(|| self.tick());
        let mut inner = self.lock();
        inner.histories.entry(key.clone()).or_default().push(Op {
            client,
            called,
            returned,
            action,
        });
    }

    /// Changes the counts.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().counts);
    }

    /// How much was done.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Notes the limit of an object before it is put. False when one was put
    /// under the key before: one key counts for one object.
    pub fn claim_limited(&self, key: &ObjectKey, limit: u32) -> bool {
        let mut inner = self.lock();
        let new = !inner.handed.contains_key(key);
        inner.handed.entry(key.clone()).or_insert(Handed {
            limit,
            delivered: 0,
        });
        new
    }

    /// Notes that an object with a limit was handed out.
    pub fn delivered(&self, key: &ObjectKey) {
        let mut inner = self.lock();
        inner.counts.downloads += 1;
        let Some(handed) = inner.handed.get_mut(key) else {
            return;
        };
        handed.delivered += 1;
        let Handed { limit, delivered } = *handed;
        drop(inner);
        if delivered > limit {
            self.trace.wrong(format!(
                "{} was downloaded {delivered} times with a limit of {limit}",
                key.as_str()
            ));
        }
    }

    /// Keys with a history.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.lock().histories.keys().cloned().collect()
    }

    /// Checks every key's history; what is wrong goes into the trace.
    pub fn judge(&self) {
        let histories = self.lock().histories.clone();
        for (key, ops) in histories {
            if let Err(refused) = history::check(&ops) {
                let key = key.as_str();
                for op in &ops {
                    self.trace.tell(&format!("history of {key}: {op:?}"));
                }
                self.trace.wrong(format!("{key}: {refused}"));
            }
        }
    }
}

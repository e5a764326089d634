//! What clients were told: the oracle of a run. Nothing of the cluster is asked
//! to judge the cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_client::ClusterError;
use holdfast_model::{ObjectKey, ObjectRecord, Timestamp, VersionId};

use crate::history::{self, Action, Held, Op, Value};
use crate::trace::Trace;

/// The content of one write, known from its number alone.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Its number.
    pub value: Value,
    /// Bytes.
    pub size: usize,
    /// How often it may be downloaded, where that is limited.
    pub limit: Option<u32>,
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

/// A kind of request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// A put of so many bytes.
    Put(u64),
    /// A read of a whole object or a part of it.
    Read,
    /// A deletion.
    Delete,
    /// A page of a list.
    List,
    /// A reservation of a download.
    Reserve,
}

/// What a client did, and what came of it.
#[derive(Clone, Debug)]
pub struct Did {
    /// When, since the run began.
    pub begun: Duration,
    /// How long it took to the answer.
    pub took: Duration,
    /// What.
    pub work: Work,
    /// Why it was not done. A refusal by what an object is or has is an answer.
    pub error: Option<ClusterError>,
}

impl Did {
    /// Whether the cluster has done it or said why it is not to be done.
    pub fn answered(&self) -> bool {
        matches!(self.error, None | Some(ClusterError::Refused(_)))
    }
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
    /// Conditions that were not met.
    pub unmet: u64,
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
    /// Values by their keys, with the time at which their group took them,
    /// where a client was told.
    created: BTreeMap<ObjectKey, BTreeMap<Value, Timestamp>>,
    /// How often values with a limit were handed out.
    handed: BTreeMap<Value, u32>,
    did: Vec<Did>,
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
    pub fn new_value(&self, version: VersionId, size: usize, limit: Option<u32>) -> Written {
        let mut inner = self.lock();
        inner.next_value += 1;
        let written = Written {
            value: inner.next_value,
            size,
            limit,
        };
        inner.versions.insert(version, written);
        written
    }

    /// What was written under a version's id.
    pub fn written(&self, version: &VersionId) -> Option<Written> {
        self.lock().versions.get(version).copied()
    }

    /// What was written under an entity tag: the workload's are versions.
    pub fn tagged(&self, tag: &str) -> Option<Written> {
        self.written(&tag.parse().ok()?)
    }

    /// What a record says is there; `None` when nobody wrote it.
    pub fn held(&self, record: &ObjectRecord) -> Option<Held> {
        let value = self.written(&record.version)?.value;
        let mut inner = self.lock();
        let known = inner.created.entry(record.key.clone()).or_default();
        known.insert(value, record.created);
        let left = record.downloads.map(|limit| limit.left);
        Some(Held { value, left })
    }

    /// Values of a key whose time is known and is one of these.
    pub fn created(&self, key: &ObjectKey, within: impl Fn(Timestamp) -> bool) -> Vec<Value> {
        let inner = self.lock();
        let known = inner.created.get(key).into_iter().flatten();
        let known = known.filter(|(_, created)| within(**created));
        known.map(|(value, _)| *value).collect()
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

    /// Notes what came of a request that was begun then.
    pub fn did(&self, begun: Duration, work: Work, error: Option<&ClusterError>) {
        let did = Did {
            begun,
            took: self.trace.at().saturating_sub(begun),
            work,
            error: error.cloned(),
        };
        self.lock().did.push(did);
    }

    /// All that clients did, in the order of the answers.
    pub fn all_done(&self) -> Vec<Did> {
        self.lock().did.clone()
    }

    /// Notes that an object with a limit was handed out.
    pub fn delivered(&self, key: &ObjectKey, written: Written) {
        let mut inner = self.lock();
        inner.counts.downloads += 1;
        let delivered = inner.handed.entry(written.value).or_default();
        *delivered += 1;
        let (delivered, value) = (*delivered, written.value);
        drop(inner);
        if written.limit.is_none_or(|limit| delivered > limit) {
            self.trace.wrong(format!(
                "value {value} of {} was downloaded {delivered} times with a limit of {:?}",
                key.as_str(),
                written.limit
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

//! Named points: places in the disk engine, in the log, in a commit, in repair
//! and in a change of the layout at which a seed cuts a machine's power. The
//! code says that it passes one with
//! [`Tasks::pass`](holdfast_runtime::Tasks::pass), the disk engine with
//! [`Disk::reached`](holdfast_runtime::Disk::reached); both do nothing outside of tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Points that every busy cluster passes often.
pub const OFTEN: &[&str] = &[
    "log.written",
    "log.synced",
    "log.file_begun",
    "log.file_named",
    "log.purged",
    "commit.round_durable",
    "commit.before_apply",
    "commit.applied",
    "commit.before_flush",
    "commit.state_durable",
    "cleanup.deleted",
];

/// Points that are passed when fragments are made again.
pub const REPAIR: &[&str] = &["repair.read", "repair.copied", "repair.replaced"];

/// Points that are passed when members change.
pub const LAYOUT: &[&str] = &[
    "layout.set",
    "layout.learner_added",
    "layout.snapshot_staged",
    "layout.snapshot_installed",
    "layout.swapped",
    "layout.removed",
];

/// Points of the disk engine that every busy node passes often.
pub const WRITING: &[&str] = &[
    "write: header written",
    "write: closing record written",
    "write: synced",
    "delete: header overwritten",
    "delete: synced",
    "delete: no longer listed",
];

/// Points of the disk engine that are passed when its index is kept, and, once
/// there is one on disk, at every delete.
pub const KEEPING: &[&str] = &[
    "delete: noted",
    "delete: note synced",
    "line: written",
    "line: synced",
    "checkpoint: written",
    "checkpoint: synced",
    "checkpoint: journal begun",
    "checkpoint: renamed",
    "checkpoint: durable",
    "checkpoint: tidied",
];

/// Points of the disk engine that are passed when it compacts segments.
pub const COMPACTION: &[&str] = &[
    "compact: copied",
    "compact: synced",
    "compact: verified",
    "compact: switched",
    "compact: freed",
];

/// Points of the disk engine that are passed when its index has rotted.
pub const HEALING: &[&str] = &["heal: frozen"];

/// Every point.
pub fn all() -> impl Iterator<Item = &'static str> {
    let lists = [OFTEN, REPAIR, LAYOUT, WRITING, KEEPING, COMPACTION, HEALING];
    lists.into_iter().flatten().copied()
}

/// What is done when a machine passes a point.
pub type AtPoint = Arc<dyn Fn(&'static str) + Send + Sync>;

/// What is to happen at points, and what has happened; of a whole world.
#[derive(Default)]
pub struct Points {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The point at which power is cut, and how often it is passed before.
    armed: Option<(&'static str, u64)>,
    /// How often each point was passed, by whichever machine.
    passed: BTreeMap<&'static str, u64>,
    /// Points at which power was cut.
    cut: BTreeSet<&'static str>,
    /// Machines whose power was cut here, and whose disks have not seen it yet.
    dark: BTreeSet<usize>,
}

impl Points {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power of the machine that passes `point` after `before` others
    /// have.
    pub fn arm(&self, point: &'static str, before: u64) {
        self.lock().armed = Some((point, before));
    }

    /// Cuts nobody's power any more.
    pub fn disarm(&self) {
        self.lock().armed = None;
    }

    /// Notes that a machine passes a point; says whether its power is cut.
    pub fn pass(&self, machine: usize, point: &'static str) -> bool {
        let mut inner = self.lock();
        *inner.passed.entry(point).or_default() += 1;
        match &mut inner.armed {
            Some((armed, 0)) if *armed == point => {
                inner.armed = None;
                inner.cut.insert(point);
                inner.dark.insert(machine);
                true
            }
            Some((armed, before)) if *armed == point => {
                *before -= 1;
                false
            }
            _ => false,
        }
    }

    /// Whether a machine's power was cut at a point since the last time that
    /// this was asked.
    pub fn take_dark(&self, machine: usize) -> bool {
        self.lock().dark.remove(&machine)
    }

    /// How often each point was passed.
    pub fn passed(&self) -> BTreeMap<&'static str, u64> {
        self.lock().passed.clone()
    }

    /// Points at which power was cut.
    pub fn cut(&self) -> BTreeSet<&'static str> {
        self.lock().cut.clone()
    }
}

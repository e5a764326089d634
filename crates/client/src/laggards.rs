//! Disks that let others wait lately, and how often somebody may hedge.
//!
//! A node that answers, but much more slowly than the others, is worse than one
//! that is down: it passes for healthy, and everything waits for it. Who has
//! waited notes it here, and for a while the others are asked first. It is a
//! hint about speed and never about truth: where too few others are left, a
//! slow disk is used as any other.
//!
//! A hedged read asks a second node while the first is still silent. When all
//! are slow because of load, hedging would only add to it: each read earns a
//! tenth of a hedge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_model::DiskId;

/// How long a disk counts as slow when it is noted for the first time.
const FIRST_LIFE: Duration = Duration::from_secs(10);
/// And at most, when it is noted again and again: each time has cost somebody
/// a wait, and a disk that has recovered should not stand idle for long.
const LONGEST_LIFE: Duration = Duration::from_secs(60);
/// Hedges that may be saved up.
const MAX_HEDGES: u32 = 20;
/// What a hedge costs, in reads.
const READS_PER_HEDGE: u32 = 10;

/// Who is slow. A lock, held for look-ups only.
#[derive(Default, Debug)]
pub(crate) struct Laggards {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    slow: BTreeMap<DiskId, Slow>,
    /// Reads that pay for hedges.
    reads: u32,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            slow: BTreeMap::new(),
            reads: MAX_HEDGES * READS_PER_HEDGE,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Slow {
    until: Duration,
    life: Duration,
}

impl Laggards {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has waited for a disk in vain. Whether that is news.
    pub fn note(&self, disk: DiskId, now: Duration) -> bool {
        let mut inner = self.lock();
        inner
            .slow
            .retain(|_, slow| now < slow.until + 2 * slow.life);
        let before = inner.slow.get(&disk).copied();
        if before.is_some_and(|slow| now < slow.until) {
            return false;
        }
        let life = before.map_or(FIRST_LIFE, |slow| (slow.life * 2).min(LONGEST_LIFE));
        let until = now + life;
        inner.slow.insert(disk, Slow { until, life });
        true
    }

    /// Whether a disk counts as slow.
    pub fn is_slow(&self, disk: DiskId, now: Duration) -> bool {
        let inner = self.lock();
        inner.slow.get(&disk).is_some_and(|slow| now < slow.until)
    }

    /// All that do.
    pub fn all(&self, now: Duration) -> BTreeSet<DiskId> {
        let inner = self.lock();
        let slow = inner.slow.iter().filter(|(_, slow)| now < slow.until);
        slow.map(|(disk, _)| *disk).collect()
    }

    /// A fragment is read.
    pub fn earn(&self) {
        let mut inner = self.lock();
        inner.reads = (inner.reads + 1).min(MAX_HEDGES * READS_PER_HEDGE);
    }

    /// Whether a hedge may be made now; it is paid for.
    pub fn may_hedge(&self) -> bool {
        let mut inner = self.lock();
        match inner.reads.checked_sub(READS_PER_HEDGE) {
            Some(left) => {
                inner.reads = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_slow_again_is_left_alone_for_longer() {
        let laggards = Laggards::default();
        let disk = DiskId::from_bytes([1; 16]);
        let at = Duration::from_secs;
        assert!(laggards.note(disk, at(0)));
        assert!(!laggards.note(disk, at(1)));
        assert!(laggards.is_slow(disk, at(9)) && !laggards.is_slow(disk, at(10)));
        assert!(laggards.note(disk, at(12)));
        assert!(laggards.is_slow(disk, at(31)) && !laggards.is_slow(disk, at(32)));
        assert_eq!(laggards.all(at(20)).len(), 1);
        // After a long time without it is as new.
        assert!(laggards.note(disk, at(1_000)));
        assert!(!laggards.is_slow(disk, at(1_010)));
    }

    #[test]
    fn hedges_are_a_tenth_of_the_reads_in_the_long_run() {
        let laggards = Laggards::default();
        let mut hedged = 0;
        for _ in 0..1_000 {
            laggards.earn();
            hedged += u32::from(laggards.may_hedge());
        }
        // The first read finds the purse full.
        assert_eq!(hedged, MAX_HEDGES + 999 / READS_PER_HEDGE);
    }
}

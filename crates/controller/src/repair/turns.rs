//! Whose turn it is among degraded chunks, when some of them cannot be repaired.
//!
//! A group lists them with the fewest fragments left first, and that is the
//! order in which they are tried. One whose repair fails is put off for a while,
//! so that those behind it have their turn; and where a whole page cannot be
//! repaired, a further page is looked at each round, one after the other. The
//! first page is looked at in every round: what has just become urgent is there.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_metadata::query::{ChunkRow, MAX_PAGE, RepairPosition};
use holdfast_model::{GroupId, UploadId};

/// How long a chunk waits whose repair has failed: some rounds of the others.
/// It doubles with each failure.
const FIRST_PUT_OFF: Duration = Duration::from_secs(5);
/// The longest such wait, and for how long after it a failure is remembered.
const LAST_PUT_OFF: Duration = Duration::from_secs(5 * 60);
/// The most chunks that are put off: some MiB. Beyond them the failing ones are
/// tried again at once.
const MAX_PUT_OFF: usize = 10_000;

/// A chunk whose repair has failed.
#[derive(Clone, Copy)]
struct PutOff {
    wait: Duration,
    until: Duration,
}

/// What earlier rounds have found.
#[derive(Default)]
pub(crate) struct Turns {
    /// When the round began.
    now: Duration,
    put_off: BTreeMap<(GroupId, UploadId, u32), PutOff>,
    /// Behind which chunk the next further page of a group begins.
    further: BTreeMap<GroupId, RepairPosition>,
}

impl Turns {
    /// A round begins, over these groups.
    pub fn begin(&mut self, led: &[GroupId], now: Duration) {
        self.now = now;
        self.put_off.retain(|(group, ..), put_off| {
            put_off.until.saturating_add(LAST_PUT_OFF) > now && led.contains(group)
        });
        self.further.retain(|group, _| led.contains(group));
    }

    /// The repair of a chunk has failed.
    pub fn put_off(&mut self, group: GroupId, row: &ChunkRow, now: Duration) {
        let name = (group, row.upload, row.chunk.index);
        let before = self.put_off.get(&name);
        if before.is_none() && self.put_off.len() >= MAX_PUT_OFF {
            return;
        }
        let wait = before.map_or(FIRST_PUT_OFF, |before| {
            before.wait.saturating_mul(2).min(LAST_PUT_OFF)
        });
        let until = now.saturating_add(wait);
        self.put_off.insert(name, PutOff { wait, until });
    }

    /// Whether a chunk waits since its repair has failed.
    pub fn waits(&self, group: GroupId, row: &ChunkRow) -> bool {
        let name = (group, row.upload, row.chunk.index);
        let put_off = self.put_off.get(&name);
        put_off.is_some_and(|put_off| put_off.until > self.now)
    }

    /// Nothing of a group's first page could be tried: where the further page
    /// of this round begins, if there is one.
    pub fn further(&self, group: GroupId, first: &[ChunkRow]) -> Option<RepairPosition> {
        let behind = end_of(first)?;
        Some(self.further.get(&group).copied().unwrap_or(behind))
    }

    /// What was found on the further page: the next one follows it while
    /// nothing could be tried, else they begin anew.
    pub fn looked_further(&mut self, group: GroupId, page: &[ChunkRow], tried: usize) {
        match end_of(page).filter(|_| tried == 0) {
            Some(end) => self.further.insert(group, end),
            None => self.further.remove(&group),
        };
    }
}

/// The last chunk of a page that others may follow.
fn end_of(page: &[ChunkRow]) -> Option<RepairPosition> {
    let last = page.last().filter(|_| page.len() >= MAX_PAGE as usize)?;
    RepairPosition::of(last)
}

#[cfg(test)]
mod tests {
    use holdfast_model::{BucketId, Chunk, Generation, Redundancy};

    use super::*;

    const GROUP: GroupId = GroupId(3);

    /// Lost chunks, from a number on.
    fn page(from: u32, count: u32) -> Vec<ChunkRow> {
        let row = |index| ChunkRow {
            upload: UploadId::from_bytes([1; 16]),
            chunk: Chunk {
                index,
                size: 1,
                stored: 1,
                redundancy: Redundancy::copies(3),
                stripe_bytes: 1,
                generation: Generation(1),
                fragments: Vec::new(),
            },
            bucket: BucketId::from_bytes([0; 16]),
            committed: true,
        };
        (from..from + count).map(row).collect()
    }

    #[test]
    fn does_a_chunk_that_failed_wait_for_a_while_and_longer_when_it_fails_again() {
        let (mut turns, rows) = (Turns::default(), page(0, 2));
        let at = Duration::from_secs;
        turns.begin(&[GROUP], at(10));
        turns.put_off(GROUP, &rows[0], at(10));
        assert!(turns.waits(GROUP, &rows[0]));
        assert!(!turns.waits(GROUP, &rows[1]) && !turns.waits(GroupId(4), &rows[0]));
        let waits_at = |turns: &mut Turns, seconds| {
            turns.begin(&[GROUP], at(seconds));
            turns.waits(GROUP, &rows[0])
        };
        assert!(waits_at(&mut turns, 14) && !waits_at(&mut turns, 15));
        turns.put_off(GROUP, &rows[0], at(20));
        assert!(waits_at(&mut turns, 29) && !waits_at(&mut turns, 30));
        // Long after, it is as if nothing had been.
        assert!(!waits_at(&mut turns, 330));
        turns.put_off(GROUP, &rows[0], at(330));
        assert!(!waits_at(&mut turns, 335));
    }

    #[test]
    fn are_pages_behind_hopeless_ones_looked_at_one_after_the_other() {
        let mut turns = Turns::default();
        let full = |from| page(from, MAX_PAGE);
        let place = |turns: &Turns| turns.further(GROUP, &full(0)).map(|at| at.chunk);
        assert_eq!(turns.further(GROUP, &page(0, 9)), None);
        assert_eq!(place(&turns), Some(MAX_PAGE - 1));
        turns.looked_further(GROUP, &full(MAX_PAGE), 0);
        assert_eq!(place(&turns), Some(2 * MAX_PAGE - 1));
        // Something could be tried: those before it may be again, by then.
        turns.looked_further(GROUP, &full(2 * MAX_PAGE), 1);
        assert_eq!(place(&turns), Some(MAX_PAGE - 1));
        turns.looked_further(GROUP, &full(MAX_PAGE), 0);
        turns.looked_further(GROUP, &page(2 * MAX_PAGE, 3), 0);
        assert_eq!(place(&turns), Some(MAX_PAGE - 1));
        turns.looked_further(GROUP, &full(MAX_PAGE), 0);
        turns.begin(&[], Duration::ZERO);
        assert_eq!(place(&turns), Some(MAX_PAGE - 1));
    }
}

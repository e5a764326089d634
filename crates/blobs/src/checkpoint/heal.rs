//! Healing a base that has rotted under a running engine. The rows of its bad
//! blocks are found in the segments, which alone are the truth, and a new base
//! is made of them and of all other rows; meanwhile what the good blocks and
//! memory know of is read and written as ever.
//!
//! A row of a bad block has not changed since the base was made, or memory knew
//! it. So at the freeze its fragment is in a finished extent that no writer
//! holds and that is not on its way out: one of those that the [`Line`] of that
//! moment does not name. Only that a fragment was found corrupt by reading it
//! is forgotten, as at a start without an index.
//!
//! What had been listed in a bad block is known only now, so the sums over all
//! fragments are made anew, too.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{CheckpointError, Merging};
use crate::engine::{Engine, Shared};
use crate::index::base::{Base, Recovered};
use crate::index::delta::Delta;
use crate::index::journal::{ExtentPayload, Line};
use crate::index::{Index, IndexError, IndexSlice, Location, Place, Totals};
use crate::scan::rows_below;

/// Look-ups that fail after healing has failed, before it is tried again: it
/// reads the heads of all segments.
const HEAL_AGAIN_AFTER: u64 = 100;

/// The index at the freeze.
struct Frozen {
    frozen: Arc<Delta>,
    base: Arc<Base>,
    line: Line,
}

/// What a base was made of in place of one that was bad.
pub(super) struct Healed {
    frozen: Arc<Delta>,
    bad: Arc<Base>,
    recovered: Arc<Recovered>,
    /// Of the new base.
    totals: Totals,
}

impl Engine {
    async fn heal(&self) -> Result<(), CheckpointError> {
        // Whoever makes a base now fails over the same block, and comes here.
        let Some(_merging) = Merging::begin(&self.shared) else {
            return Ok(());
        };
        let shared = self.shared.clone();
        let Some(begun) = self.step(move || Ok(shared.freeze_to_heal())).await? else {
            return Ok(());
        };
        self.shared.disk.reached("heal: frozen");
        let (frozen, bad) = (begun.frozen.clone(), begun.base.clone());
        let shared = self.shared.clone();
        let recovered = self.step(move || shared.recover(&begun)).await?;
        if recovered.is_empty() {
            tracing::warn!("the index can be read again");
            return Ok(());
        }
        let recovered = Arc::new(recovered);
        let rows = IndexSlice::whole(frozen.clone(), Some(bad.clone()));
        let rows = rows.with(recovered.clone());
        let shared = self.shared.clone();
        let (base, number, totals) = self
            .step(move || {
                let mut totals = Totals::default();
                let (base, number) = shared.write_base(rows, |id, at| totals.add(id, at))?;
                Ok((base, number, totals))
            })
            .await?;
        let healed = Healed {
            frozen,
            bad,
            recovered,
            totals,
        };
        let shared = self.shared.clone();
        self.step(move || shared.switch_base(base, number, Some(healed)))
            .await
    }
}

impl Shared {
    /// Has the base made anew. Until that is done, who asks for what was in its
    /// bad blocks hears this error, and never that it is not here.
    pub(crate) fn index_is_bad(self: &Arc<Self>, error: IndexError) -> IndexError {
        let keeper = &self.keeper;
        let less = |left: u64| left.checked_sub(1);
        let pausing = keeper
            .heal_pause
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if pausing.is_ok() || keeper.healing.swap(true, Ordering::SeqCst) {
            return error;
        }
        tracing::error!(%error, "the index is bad: its base is made anew");
        let shared = self.clone();
        let heal = async move {
            let engine = Engine { shared };
            let healed = engine.heal().await;
            let keeper = &engine.shared.keeper;
            if let Err(error) = healed {
                tracing::error!(%error, "the index was not healed");
                keeper.heal_pause.store(HEAL_AGAIN_AFTER, Ordering::SeqCst);
            }
            keeper.healing.store(false, Ordering::SeqCst);
        };
        self.tasks.spawn("heal the index", Box::pin(heal));
        error
    }

    fn freeze_to_heal(&self) -> Option<Frozen> {
        let allocator = self.allocator();
        let mut index = self.index();
        let (frozen, base) = index.freeze();
        index.before = Some(Delta::default());
        let line = self.line(allocator.next_segment, &index);
        Some(Frozen {
            frozen,
            base: base?,
            line,
        })
    }

    /// Finds the rows of all blocks that are bad. Blocks.
    fn recover(&self, begun: &Frozen) -> Result<Recovered, CheckpointError> {
        let Frozen { frozen, base, line } = begun;
        let bad = base.bad_blocks().into_iter();
        let mut recovered: Recovered = bad.map(|number| (number, Vec::new())).collect();
        if recovered.is_empty() {
            return Ok(recovered);
        }
        let unlisted = line.held.iter().chain(&line.freeing);
        let unlisted: BTreeSet<Place> = unlisted.map(ExtentPayload::place).collect();
        let segments: Vec<_> = self.segments().values().cloned().collect();
        let older = segments.iter().filter(|s| s.number < line.next_segment);
        for segment in older {
            self.fatal.check()?;
            let open = line.open.iter().find(|open| open.number == segment.number);
            let end = open.map_or(segment.bytes, |open| open.end);
            for (id, at) in rows_below(segment, end) {
                if unlisted.contains(&at.place()) || frozen.get(&id).is_some() {
                    continue;
                }
                let block = base.block_of(&id);
                if let Some(rows) = block.and_then(|block| recovered.get_mut(&block)) {
                    rows.push((id, at));
                }
            }
        }
        for rows in recovered.values_mut() {
            // There is one extent of a name; of two the newer would count.
            rows.sort_unstable_by_key(|(id, at)| (*id, Reverse(at.place())));
            rows.dedup_by_key(|(id, _)| *id);
        }
        let found: usize = recovered.values().map(Vec::len).sum();
        tracing::warn!(
            blocks = recovered.len(),
            found,
            "rows of bad blocks are found"
        );
        Ok(recovered)
    }
}

impl Healed {
    /// Makes the sums anew: those of the new base, and what has changed since.
    pub(super) fn settle(self, index: &mut Index) {
        let mut totals = self.totals;
        let before = index.before.take().unwrap_or_default();
        for (id, at) in index.delta.iter() {
            let block = self.bad.block_of(&id);
            let recovered = block.and_then(|block| self.recovered.get(&block));
            let was: Option<Location> = match recovered {
                Some(rows) if self.frozen.get(&id).is_none() => {
                    let row = rows.iter().find(|(found, _)| *found == id);
                    row.map(|(_, at)| *at)
                }
                _ => before.get(&id).flatten(),
            };
            if let Some(was) = was {
                totals.remove(&id, &was);
            }
            if let Some(at) = at {
                totals.add(&id, &at);
            }
        }
        let lost = index.totals.fragments.saturating_sub(totals.fragments);
        if lost > 0 {
            tracing::error!(lost, "fragments of bad blocks are not in any segment");
        }
        index.totals = totals;
    }
}

//! Repair and drain: chunks below their redundancy, and chunks on disks that
//! are to go, in the groups that this node leads.
//!
//! ```text
//! row -> plan -> read a good copy -> write it elsewhere -> read it back ->
//! ReplaceFragments(seen, now)
//! ```
//!
//! The old fragments stay until the group has taken the new ones. Refused, the
//! new ones are orphans, which the census finds.

mod chunk;
mod queue;
mod sweep;
mod turns;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use holdfast_metadata::query::{Answer, ChunkRow, MAX_PAGE, Query, RepairPosition};
use holdfast_model::{ClusterState, DiskId, GroupId, NodeState};

pub(crate) use self::chunk::is_gone;
use self::chunk::{Done, plan, repair_chunk};
use self::queue::{Waiting, in_order, room_for};
use self::sweep::Sweep;
use self::turns::Turns;
use crate::chunk_plan::{Hindrance, spare};
use crate::error::{WorkError, some_groups};
use crate::shared::{Shared, is_refusal};
use crate::worker::{Round, Worker};

/// How often the worker asks its groups what is degraded.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a round begins further chunks before the groups are asked anew: so
/// long, and no longer, waits what has become urgent meanwhile.
const ROUND_LASTS: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Default)]
struct Counts {
    repaired: u64,
    hindered: u64,
    failed: u64,
    /// Why the last of those that are not possible is not.
    hindrance: Option<Hindrance>,
}

/// Repairs and moves chunks.
pub(crate) struct RepairWorker {
    shared: Shared,
    sweep: Sweep,
    turns: Turns,
}

/// What a round works with.
struct Working<'a> {
    shared: &'a Shared,
    turns: &'a mut Turns,
    readable: BTreeSet<DiskId>,
    /// No chunk is begun after this.
    until: Duration,
    counts: Counts,
}

impl RepairWorker {
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            sweep: Sweep::default(),
            turns: Turns::default(),
        }
    }

    async fn work(&mut self) -> Result<Round, WorkError> {
        let shared = self.shared.clone();
        let state = shared.state()?;
        if shared.excuses_silence(&state) {
            let note = "the cluster falls asleep or wakes up: nothing is missed yet";
            return Ok(Round::Idle(note.into()));
        }
        let led = shared.led_groups(&state);
        self.turns.begin(&led, shared.now());
        let mut working = Working {
            shared: &shared,
            turns: &mut self.turns,
            readable: shared.answering(),
            until: shared.now().saturating_add(ROUND_LASTS),
            counts: Counts::default(),
        };
        let (mut failures, mut found, mut degraded) = (Vec::new(), Vec::new(), 0);
        for group in shared.those_with(&led, |totals| totals.degraded + totals.lost) {
            match working.look(group).await {
                Ok((listed, waiting)) => {
                    degraded += listed;
                    found.extend(waiting);
                }
                Err(error) => failures.push((group, error)),
            }
        }
        let wall = || shared.env.clock.wall();
        shared.progress.look(degraded, wall());
        let all_begun = working.work_on(in_order(found)).await;
        let left = degraded.saturating_sub(working.counts.repaired);
        shared.progress.look(left, wall());
        // What only moves has time until what is endangered is done.
        let mut swept = true;
        if all_begun && is_left_by_some(&state) {
            let epoch = state.layout.epoch;
            swept = self
                .sweep
                .go_on(&mut working, &led, epoch, &mut failures)
                .await;
        }
        let all = working.counts;
        some_groups(failures, led.len())?;
        let note = format!(
            "{degraded} degraded chunks, {} repaired or moved, {} failed, {} not possible now{}",
            all.repaired,
            all.failed,
            all.hindered,
            all.hindrance
                .map_or(String::new(), |why| format!(" ({why:?})")),
        );
        Ok(if all.repaired > 0 || !swept {
            Round::More(note)
        } else {
            Round::Idle(note)
        })
    }
}

fn is_left_by_some(state: &ClusterState) -> bool {
    let mut nodes = state.layout.nodes.values();
    nodes.any(|node| node.state == NodeState::Draining)
}

impl Working<'_> {
    /// How many of a group's chunks its first page names, and which of them, or,
    /// where all of those are hopeless, of a further page, can be worked on.
    async fn look(&mut self, group: GroupId) -> Result<(u64, Vec<Waiting>), WorkError> {
        let first = fetch_degraded(self.shared, group, None).await?;
        let (listed, further) = (first.len() as u64, self.turns.further(group, &first));
        let waiting = self.sort_out(group, first)?;
        let Some(after) = further.filter(|_| waiting.is_empty()) else {
            return Ok((listed, waiting));
        };
        let page = fetch_degraded(self.shared, group, Some(after)).await?;
        let behind = self.sort_out(group, page.clone())?;
        self.turns.looked_further(group, &page, behind.len());
        Ok((listed, behind))
    }

    /// Those of some rows that need work and can have it.
    fn sort_out(&mut self, group: GroupId, rows: Vec<ChunkRow>) -> Result<Vec<Waiting>, WorkError> {
        let mut waiting = Vec::new();
        for row in rows.into_iter().filter(|row| row.committed) {
            match plan(self.shared, &row, &self.readable)? {
                Err(why) => self.counts.hinder(why),
                Ok(None) => {}
                Ok(Some(_)) if self.turns.waits(group, &row) => self.counts.failed += 1,
                Ok(Some(_)) => waiting.push(Waiting {
                    group,
                    spare: spare(&row.chunk, &self.readable),
                    row,
                }),
            }
        }
        Ok(waiting)
    }

    /// Works on chunks in this order, for as long as the round lasts. Returns
    /// whether all of them were begun.
    async fn work_on(&mut self, chunks: Vec<Waiting>) -> bool {
        let shared = self.shared;
        let mut next = chunks.into_iter().peekable();
        let mut under_way = FuturesUnordered::new();
        let mut held = 0;
        loop {
            let in_time = shared.now() < self.until;
            while let Some(chunk) =
                next.next_if(|chunk| in_time && room_for(chunk, under_way.len(), held))
            {
                held += u64::from(chunk.row.chunk.stored);
                under_way.push(async move {
                    (repair_chunk(shared, chunk.group, &chunk.row).await, chunk)
                });
            }
            let Some((result, chunk)) = under_way.next().await else {
                // Those that were not begun are listed anew.
                return next.peek().is_none();
            };
            held -= u64::from(chunk.row.chunk.stored);
            self.note(result, &chunk);
        }
    }

    fn note(&mut self, result: Result<Done, WorkError>, chunk: &Waiting) {
        let (group, row) = (chunk.group, &chunk.row);
        match result {
            Ok(Done::Repaired(bytes)) => {
                self.counts.repaired += 1;
                self.shared.progress.done(bytes);
            }
            Ok(Done::Nothing) => {}
            Ok(Done::Hindered(why)) => self.counts.hinder(why),
            Err(error) => {
                self.counts.failed += 1;
                // A row that has changed meanwhile is looked at anew.
                if !is_refusal(&error) {
                    self.turns.put_off(group, row, self.shared.now());
                }
                self.shared.progress.failed();
                tracing::warn!(%group, upload = %row.upload, chunk = row.chunk.index, %error,
                    "a chunk could not be repaired");
            }
        }
    }
}

impl Worker for RepairWorker {
    fn name(&self) -> &'static str {
        "repair"
    }

    fn every(&self) -> Duration {
        LOOK_EVERY
    }

    fn round(&mut self) -> BoxFuture<'_, Result<Round, WorkError>> {
        Box::pin(self.work())
    }
}

impl Counts {
    fn hinder(&mut self, why: Hindrance) {
        self.hindered += 1;
        self.hindrance = Some(why);
    }
}

async fn fetch_degraded(
    shared: &Shared,
    group: GroupId,
    after: Option<RepairPosition>,
) -> Result<Vec<ChunkRow>, WorkError> {
    let query = Query::Degraded {
        limit: MAX_PAGE,
        after,
    };
    match shared.query(group, "the degraded chunks", query).await? {
        Answer::Degraded(rows) => Ok(rows),
        _ => Err(WorkError::OtherAnswer {
            group,
            asked: "the degraded chunks",
        }),
    }
}

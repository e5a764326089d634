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
mod turns;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use holdfast_metadata::query::{Answer, ChunkRow, MAX_PAGE, Query, RepairPosition};
use holdfast_model::{Epoch, GroupId, NodeState};

pub(crate) use self::chunk::is_gone;
use self::chunk::{Done, plan, repair_chunk};
use self::turns::Turns;
use crate::chunk_plan::Hindrance;
use crate::error::{WorkError, some_groups};
use crate::shared::{Shared, is_refusal};
use crate::spans::fetch_rows;
use crate::worker::{Round, Worker};

/// How often the worker asks its groups what is degraded.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Chunks copied at a time: each holds up to 8 MiB of memory.
const CHUNKS_AT_ONCE: usize = 2;
/// Chunks tried in a group before the next group has its turn: those with the
/// fewest fragments left come first in every group.
const CHUNKS_A_TURN: usize = 16;
/// How often all rows are gone through for what no index names: fragments on
/// nodes that drain.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Default)]
struct Counts {
    /// Those of which it was not known that nothing can be done.
    tried: usize,
    repaired: u64,
    hindered: u64,
    failed: u64,
    /// Why the last of those that are not possible is not.
    hindrance: Option<Hindrance>,
}

/// Repairs and moves chunks.
pub(crate) struct RepairWorker {
    shared: Shared,
    /// When all rows were last gone through, and at which epoch.
    swept: Option<(Duration, Epoch)>,
    turns: Turns,
}

impl RepairWorker {
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            swept: None,
            turns: Turns::default(),
        }
    }

    async fn work(&mut self) -> Result<Round, WorkError> {
        let state = self.shared.state()?;
        let led = self.shared.led_groups(&state);
        let (mut all, mut failures, mut degraded) = (Counts::default(), Vec::new(), Vec::new());
        self.turns.begin(&led, self.shared.now());
        for group in self
            .shared
            .those_with(&led, |totals| totals.degraded + totals.lost)
        {
            match fetch_degraded(&self.shared, group, None).await {
                Ok(rows) => degraded.push((group, rows)),
                Err(error) => failures.push((group, error)),
            }
        }
        let waiting = degraded
            .iter()
            .map(|(_, rows)| rows.len() as u64)
            .sum::<u64>();
        self.shared
            .progress
            .look(waiting, self.shared.env.clock.wall());
        for (group, rows) in degraded {
            match self.take_turn(group, rows).await {
                Ok(counts) => all.add(counts),
                Err(error) => failures.push((group, error)),
            }
        }
        self.shared.progress.look(
            waiting.saturating_sub(all.repaired),
            self.shared.env.clock.wall(),
        );
        let leaving = state
            .layout
            .nodes
            .values()
            .any(|n| n.state == NodeState::Draining);
        let due = self.swept.is_none_or(|(at, epoch)| {
            epoch != state.layout.epoch || self.shared.now().saturating_sub(at) >= SWEEP_EVERY
        });
        if leaving && due && all.repaired == 0 {
            for group in led.iter().copied() {
                match sweep(&self.shared, group, &mut self.turns).await {
                    Ok(counts) => all.add(counts),
                    Err(error) => failures.push((group, error)),
                }
            }
            self.swept = Some((self.shared.now(), state.layout.epoch));
        }
        some_groups(failures, led.len())?;
        let note = format!(
            "{waiting} degraded chunks, {} repaired or moved, {} failed, {} not possible now{}",
            all.repaired,
            all.failed,
            all.hindered,
            all.hindrance
                .map_or(String::new(), |why| format!(" ({why:?})")),
        );
        Ok(if all.repaired > 0 {
            Round::More(note)
        } else {
            Round::Idle(note)
        })
    }

    /// Works on a group's first page of degraded chunks, or, where all of that
    /// is hopeless, on a further one.
    async fn take_turn(
        &mut self,
        group: GroupId,
        first: Vec<ChunkRow>,
    ) -> Result<Counts, WorkError> {
        let (shared, turns) = (&self.shared, &mut self.turns);
        let further = turns.further(group, &first);
        let mut counts = work_on(shared, group, first, CHUNKS_A_TURN, turns).await?;
        if let Some(after) = further.filter(|_| counts.tried == 0) {
            let page = fetch_degraded(shared, group, Some(after)).await?;
            let behind = work_on(shared, group, page.clone(), CHUNKS_A_TURN, turns).await?;
            turns.looked_further(group, &page, behind.tried);
            counts.add(behind);
        }
        Ok(counts)
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
    fn add(&mut self, other: Self) {
        self.tried += other.tried;
        self.repaired += other.repaired;
        self.hindered += other.hindered;
        self.failed += other.failed;
        self.hindrance = other.hindrance.or(self.hindrance);
    }

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

/// Goes through all rows of a group.
async fn sweep(shared: &Shared, group: GroupId, turns: &mut Turns) -> Result<Counts, WorkError> {
    let mut all = Counts::default();
    let mut after = None;
    loop {
        let rows = fetch_rows(shared, group, after, None).await?;
        let Some(last) = rows.last() else {
            return Ok(all);
        };
        after = Some((last.upload, last.chunk.index));
        let ended = rows.len() < MAX_PAGE as usize;
        all.add(work_on(shared, group, rows, usize::MAX, turns).await?);
        if ended || !(shared.leads)(group) {
            return Ok(all);
        }
    }
}

/// Works on the rows that need it and can have it, at most `most` of them.
async fn work_on(
    shared: &Shared,
    group: GroupId,
    rows: Vec<ChunkRow>,
    most: usize,
    turns: &mut Turns,
) -> Result<Counts, WorkError> {
    let readable = shared.answering();
    let mut counts = Counts::default();
    let mut planned = Vec::new();
    for row in rows.into_iter().filter(|row| row.committed) {
        match plan(shared, &row, &readable)? {
            Err(why) => counts.hinder(why),
            Ok(None) => {}
            Ok(Some(_)) if turns.waits(group, &row) => counts.failed += 1,
            Ok(Some(_)) if planned.len() >= most => break,
            Ok(Some(_)) => planned.push(row),
        }
    }
    counts.tried = planned.len();
    let mut working = stream::iter(planned)
        .map(|row| async move { (repair_chunk(shared, group, &row).await, row) })
        .buffer_unordered(CHUNKS_AT_ONCE);
    while let Some((result, row)) = working.next().await {
        match result {
            Ok(Done::Repaired(bytes)) => {
                counts.repaired += 1;
                shared.progress.done(bytes);
            }
            Ok(Done::Nothing) => {}
            Ok(Done::Hindered(why)) => counts.hinder(why),
            Err(error) => {
                counts.failed += 1;
                // A row that has changed meanwhile is looked at anew.
                if !is_refusal(&error) {
                    turns.put_off(group, &row, shared.now());
                }
                shared.progress.failed();
                tracing::warn!(%group, upload = %row.upload, chunk = row.chunk.index, %error,
                    "a chunk could not be repaired");
            }
        }
    }
    Ok(counts)
}

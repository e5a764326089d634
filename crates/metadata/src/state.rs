//! The state machine of a group: what each command does to the group's rows,
//! and how queries are answered from them.
//!
//! Promises:
//! 1. Determinism: rows after a batch follow from the rows before and the
//!    batch. There is no clock and no randomness; the group's time is the
//!    highest that a batch has carried, and never goes back.
//! 2. A command is done whole or refused without effect: each checks first and
//!    writes then.
//! 3. A repeated request gets the first outcome, refusals included: else a
//!    late copy of a command could take effect after its sender was told that
//!    it had none. See [`requests`].
//! 4. [`Totals`](crate::query::Totals) and all indexes change with the rows
//!    that they count; [`check_invariants`] says where they do not.
//!
//! Group 0 is the same machine with cluster commands alone; other groups
//! refuse those.

mod answers;
mod buckets;
mod by_key;
mod census;
mod cluster;
mod downloads;
mod facts;
mod invariants;
mod keys;
mod listing;
mod objects;
mod releases;
mod removal;
mod requests;
mod results;
mod rows;
mod spans;
mod stored;
mod tags;
mod tasks;
mod tick;
mod upkeep;
mod uploads;
mod versions;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use holdfast_model::layout::{SlotRange, slot_of};
use holdfast_model::{BucketId, ClusterState, Generation, GroupId, ObjectKey, Timestamp};
use minicbor::Encode;

pub use answers::{answer, intents, read_cluster, tasks_due, time, totals};
pub use invariants::check_invariants;
pub use stored::repair_rank;
pub use tick::next_due;

use crate::command::{Batch, Command, Outcome, Refusal, Request};
use crate::query::RangeSums;
use crate::store::{GroupTxn, Row, Rows, StoreError};
use results::{Made, WorkerResult};
use rows::{Head, KnownRow};

/// The generation of a new group's uploads.
const FIRST_GENERATION: Generation = Generation(1);

/// Applies an entry of the group's log. An error leaves the transaction good
/// for nothing but to be dropped.
pub fn apply(txn: &mut GroupTxn<'_>, batch: &Batch) -> Result<Vec<Outcome>, StoreError> {
    let mut machine = Machine::load(txn, batch.time)?;
    let mut outcomes = Vec::with_capacity(batch.commands.len());
    for request in &batch.commands {
        outcomes.push(machine.request(request)?);
    }
    // Twice as many as came, so that old outcomes are forgotten without ticks.
    machine.forget_outcomes(batch.commands.len() * 2 + 1)?;
    machine.save()?;
    Ok(outcomes)
}

/// The rows of a group at its birth.
pub fn initial_rows(group: GroupId, state: &ClusterState) -> Vec<Row> {
    let head = Head {
        current: FIRST_GENERATION,
        floor: FIRST_GENERATION,
        ..Head::default()
    };
    let mut rows = vec![(keys::head(), rows::encode(&head))];
    if group == GroupId::CLUSTER {
        rows.push((keys::cluster(), rows::encode(state)));
    } else {
        let owned: Vec<SlotRange> = state
            .layout
            .slots
            .iter()
            .filter(|range| range.group == group)
            .copied()
            .collect();
        rows.push((keys::owned_slots(), rows::encode(&owned)));
        rows.extend(facts::first_rows(state));
    }
    rows
}

/// How far the numbers of a restored cluster's state leap: further than any
/// cluster has come since its backup.
const RESTORE_LEAP: u64 = 1 << 32;

/// Makes the state of a restored cluster newer than any that is known of it:
/// gateways and groups go by what they have heard last, and would keep what was
/// decided after the backup. Does nothing in other groups than 0.
pub fn renew_restored(txn: &mut GroupTxn<'_>) -> Result<(), StoreError> {
    let Some(mut state) = read_cluster(txn)? else {
        return Ok(());
    };
    state.revision.0 += RESTORE_LEAP;
    state.layout.epoch.0 += RESTORE_LEAP;
    txn.put(&keys::cluster(), &rows::encode(&state))
}

/// Why a command was not done.
enum Stop {
    /// It is refused; nothing was changed.
    Refused(Refusal),
    /// The store failed; the batch is lost.
    Store(StoreError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a command comes to.
type Applied = Result<Outcome, Stop>;

fn invalid(why: impl Into<String>) -> Stop {
    Stop::Refused(Refusal::Invalid(why.into()))
}

/// A group's rows while a batch is applied.
struct Machine<'m, 'b> {
    rows: &'m mut GroupTxn<'b>,
    head: Head,
    owned: Vec<SlotRange>,
    known: KnownRow,
    /// The census's sums, of the ranges that this batch has changed.
    census: BTreeMap<u8, RangeSums>,
    /// Chunk rows that the command may still remove.
    removable: usize,
}

impl<'m, 'b> Machine<'m, 'b> {
    fn load(rows: &'m mut GroupTxn<'b>, time: Timestamp) -> Result<Self, StoreError> {
        let mut head = rows::read_head(rows)?;
        head.time = head.time.max(time);
        let owned = rows::read(rows, &keys::owned_slots())?.unwrap_or_default();
        let known = facts::read(rows)?;
        Ok(Self {
            rows,
            head,
            owned,
            known,
            census: BTreeMap::new(),
            removable: removal::ROWS_PER_COMMAND,
        })
    }

    fn save(mut self) -> Result<(), StoreError> {
        self.save_census()?;
        self.rows.put(&keys::head(), &rows::encode(&self.head))
    }

    fn request(&mut self, request: &Request) -> Result<Outcome, StoreError> {
        if let Some(outcome) = self.remembered(request)? {
            return Ok(outcome);
        }
        self.removable = removal::ROWS_PER_COMMAND;
        let outcome = match self.command(&request.command) {
            Ok(outcome) => outcome,
            Err(Stop::Refused(refusal)) => Outcome::Refused(refusal),
            Err(Stop::Store(error)) => return Err(error),
        };
        self.remember(request, &outcome)?;
        Ok(outcome)
    }

    fn command(&mut self, command: &Command) -> Applied {
        if self.rows.group() == GroupId::CLUSTER {
            return match command {
                Command::Cluster(change) => self.change_cluster(change),
                Command::Tick => self.tick(),
                _ => Err(Refusal::WrongGroup.into()),
            };
        }
        match command {
            Command::BeginUpload {
                upload,
                generation,
                bucket,
                key,
            } => self.begin_upload(*upload, *generation, *bucket, key),
            Command::AppendChunks { upload, chunks } => self.append_chunks(*upload, chunks),
            Command::AbortUpload { upload } => self.abort_upload(*upload),
            Command::PutObject(put) => self.put_object(put),
            Command::DeleteObject {
                bucket,
                key,
                version,
                cause,
            } => self.delete_object(*bucket, key, *version, *cause),
            Command::SwapRepresentation {
                bucket,
                key,
                version,
                representation,
                chunks,
                task,
                generation,
            } => self.take_result(&WorkerResult {
                bucket: *bucket,
                key,
                version: *version,
                made: Made::Representation(representation),
                chunks,
                task: *task,
                generation: *generation,
            }),
            Command::AttachDerived {
                bucket,
                key,
                version,
                derived,
                chunks,
                task,
                generation,
            } => self.take_result(&WorkerResult {
                bucket: *bucket,
                key,
                version: *version,
                made: Made::Derived(derived),
                chunks,
                task: *task,
                generation: *generation,
            }),
            Command::ReserveDownload {
                bucket,
                key,
                version,
                ticket,
                range,
            } => self.reserve_download(*bucket, key, *version, *ticket, *range),
            Command::UseTicket {
                bucket,
                key,
                ticket,
                range,
            } => self.use_ticket(*bucket, key, *ticket, *range),
            Command::EndRequest {
                bucket,
                key,
                ticket,
                range,
                end,
            } => self.end_request(*bucket, key, *ticket, *range, *end),
            Command::EndRequests { ends } => self.end_requests(ends),
            Command::PublishTasks { limit } => self.publish_tasks(*limit),
            Command::ClaimTask { task, worker } => self.claim_task(*task, worker),
            Command::FinishTask { task, result } => self.finish_task(*task, result),
            Command::Tick => self.tick(),
            Command::ReportMissing { fragments } => self.report_missing(fragments),
            Command::ReplaceFragments {
                upload,
                chunk,
                seen,
                now,
                generation,
            } => self.replace_fragments(*upload, *chunk, seen, now, *generation),
            Command::CollectedGarbage { items } => self.collected_garbage(items),
            Command::AdvanceGeneration => self.advance_generation(),
            Command::RaiseFloor { to } => self.raise_floor(*to),
            Command::DeleteVersion(delete) => self.delete_version(delete),
            Command::SetTags {
                bucket,
                key,
                version,
                tags,
            } => self.set_tags(*bucket, key, *version, tags),
            Command::Learn(facts) => self.learn(facts),
            Command::Cluster(_) => Err(Refusal::WrongGroup.into()),
        }
    }

    fn now(&self) -> Timestamp {
        self.head.time
    }

    fn next_sequence(&mut self) -> u64 {
        self.head.sequence += 1;
        self.head.sequence
    }

    fn check_slot(&self, bucket: BucketId, key: &ObjectKey) -> Result<(), Stop> {
        if owns(&self.owned, bucket, key) {
            Ok(())
        } else {
            Err(Refusal::WrongGroup.into())
        }
    }

    fn put<T: Encode<()>>(&mut self, key: &[u8], value: &T) -> Result<(), StoreError> {
        self.rows.put(key, &rows::encode(value))
    }

    fn mark(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.rows.put(key, &[])
    }
}

fn owns(owned: &[SlotRange], bucket: BucketId, key: &ObjectKey) -> bool {
    let slot = slot_of(bucket, key);
    owned
        .iter()
        .any(|range| range.first <= slot && slot <= range.last)
}

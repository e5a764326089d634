//! The loop that runs the Raft groups of a node, and the handle to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_model::GroupId;
use holdfast_runtime::pulse::DiskCalls;
use holdfast_runtime::{Beat, Disk, Env, Pulse, Shutdown};
use tokio::sync::{mpsc, oneshot};

use self::again::WritingAgain;
use self::reader::Reader;
use self::replies::Replies;
use self::stalls::Stalls;
use super::applier::{Applied, Applier, Committed, Work};
use super::group::{Command, Group, Reading};
use super::peers::{ClockOff, ClockSeen, Identity, Peer};
use super::rounds::{Released, Rounds};
use super::timing::TICK;
use super::{AddressBook, Answerer, Event, Inbox, MAX_INBOX, OnFatal, Shared, snapshot};
use crate::command::Outcome;
use crate::log::{Again, LogError, LogFiles, LogSettings, Written};
use crate::protocol::{NodeError, ProposeRequest, QueryRequest};
use crate::query::Answer;
use crate::state;
use crate::store::{Store, StoreError};
use crate::wire::{self, Members};

mod admin;
mod again;
#[cfg(test)]
mod again_tests;
mod applied;
mod events;
mod handle;
#[cfg(test)]
mod handle_tests;
mod open;
mod progress;
mod reader;
#[cfg(test)]
mod removed_tests;
mod replies;
mod stalls;
#[cfg(test)]
mod standing_tests;
#[cfg(test)]
mod tests;

pub use handle::Groups;

/// Ticks between two looks at what is due in a group that is led here.
const LOOK_TICKS: u64 = 4;
/// Ticks after a start during which preferred members stand for election at once.
const EAGER_TICKS: u64 = 12;
/// Ticks between two looks for groups that are to leave this disk.
const LEAVE_TICKS: u64 = 40;
/// Ticks that a member which the layout does not name is without a leader before
/// it counts as taken away: a learner that is to join hears from one.
const LEFT_TICKS: u64 = 240;
/// Events taken in before Raft is asked what follows from them.
const EVENTS_AT_ONCE: usize = 512;

/// What the groups of a node are made of.
pub struct GroupsParts {
    /// The world.
    pub env: Env,
    /// The disk that holds log and state.
    pub disk: Arc<dyn Disk>,
    /// Who we are.
    pub identity: Identity,
    /// The state store, open.
    pub store: Arc<Store>,
    /// How the log is kept.
    pub log: LogSettings,
    /// Who is where.
    pub book: Arc<AddressBook>,
    /// What others may look at.
    pub shared: Arc<Shared>,
    /// Told what peers' clocks say.
    pub clock_seen: ClockSeen,
    /// Whether this machine's clock is off now; asked before each stamp.
    pub clock_off: ClockOff,
    /// The calls of the disk that are open: who waits for one leads nothing.
    pub calls: Arc<DiskCalls>,
    /// Told that the loop and the log's writer move.
    pub pulse: Arc<Pulse>,
    /// Ends the process.
    pub on_fatal: OnFatal,
    /// Ends the peers' tasks; the loop itself is ended by [`Groups::stop`].
    pub shutdown: Shutdown,
}

/// Why the groups did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Raft refuses what it was given.
    #[error("starting group {group}: {source}")]
    Raft {
        /// The group.
        group: GroupId,
        /// Why.
        source: Box<raft::Error>,
    },
    /// The log begins after what the state has applied.
    #[error(
        "group {group} has applied {applied}, and its log begins after {begin}: the disk has lost data, replace it as if it were empty"
    )]
    Gap {
        /// The group.
        group: GroupId,
        /// What is applied.
        applied: u64,
        /// Where the log begins.
        begin: u64,
    },
}

/// The round that is being written.
type Writing = oneshot::Receiver<Result<Wrote, LogError>>;

/// What was written to the log.
enum Wrote {
    /// A round of what groups wanted written.
    Round(Written),
    /// A round of what was in the log already, if there was something to write.
    Again(Option<Again>),
}

/// The loop's own state.
pub(super) struct Driver {
    env: Env,
    identity: Identity,
    store: Arc<Store>,
    files: Arc<LogFiles>,
    book: Arc<AddressBook>,
    shared: Arc<Shared>,
    clock_seen: ClockSeen,
    on_fatal: OnFatal,
    shutdown: Shutdown,
    inbox: Inbox,
    work: mpsc::UnboundedSender<Work>,
    groups: BTreeMap<GroupId, Group>,
    peers: BTreeMap<u64, Peer>,
    rounds: Rounds,
    writing: Option<Writing>,
    /// What was durably applied when that was told last.
    durable: BTreeMap<GroupId, u64>,
    again: WritingAgain,
    ticks: u64,
    /// Groups that leave, until neither log nor state has anything of them: one
    /// that was begun anew before would take rows for its own that are to go.
    leaving: BTreeSet<GroupId>,
    /// The sum of what was known of starts when the others were told last.
    told: u64,
    clock_off: ClockOff,
    handing_over: Option<Answerer<()>>,
    stalls: Stalls,
    replies: Replies,
    reader: Reader,
    /// The loop comes round.
    turns: Beat,
    /// No round of the log is being written, or one was.
    writes: Beat,
    calls: Arc<DiskCalls>,
}

impl Driver {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut applied: mpsc::UnboundedReceiver<Applied>,
    ) {
        let mut batch = Vec::new();
        let mut next_tick = self.env.clock.monotonic() + TICK;
        loop {
            self.turns.moved();
            let now = self.env.clock.monotonic();
            let sleep = self.env.clock.sleep(next_tick.saturating_sub(now));
            tokio::select! {
                biased;
                written = wait_written(&mut self.writing) => {
                    if !self.on_written(written) { return; }
                }
                one = applied.recv() => {
                    let Some(one) = one else { return };
                    self.on_applied(one);
                    while let Ok(more) = applied.try_recv() { self.on_applied(more); }
                }
                () = sleep => {
                    let now = self.env.clock.monotonic();
                    if self.stalls.note(now, now.saturating_sub(next_tick)) {
                        self.lead_no_more_for_now();
                    }
                    self.on_tick();
                    // After a stall, ticks that were missed are not made up for.
                    next_tick = self.env.clock.monotonic() + TICK;
                }
                count = events.recv_many(&mut batch, EVENTS_AT_ONCE) => {
                    if count == 0 { return; }
                    for event in batch.drain(..) { self.on_event(event); }
                }
            }
            if !self.pump() {
                return;
            }
        }
    }
}

/// Roughly how many bytes a command has, encoded.
fn weight(command: &crate::command::Command) -> usize {
    use crate::command::Command;
    const FIXED: usize = 512;
    const CHUNK: usize = 128;
    match command {
        Command::PutObject(put) => {
            let inline = match &put.record.representation {
                holdfast_model::Representation::Inline { bytes, .. } => bytes.len(),
                holdfast_model::Representation::Chunked { .. } => 0,
            };
            FIXED + inline + put.chunks.len() * CHUNK
        }
        Command::AppendChunks { chunks, .. }
        | Command::SwapRepresentation { chunks, .. }
        | Command::AttachDerived { chunks, .. } => FIXED + (chunks.len() + 128) * CHUNK,
        Command::ReportMissing { fragments } => FIXED + fragments.len() * CHUNK,
        Command::EndRequests { ends } => FIXED + ends.len() * CHUNK,
        Command::CollectedGarbage { items } => FIXED + items.len() * CHUNK,
        _ => FIXED,
    }
}

fn apply_members(group: &mut Group, entry: &raft::eraftpb::Entry) -> Result<Members, String> {
    let change = wire::member_change(entry).map_err(|error| error.to_string())?;
    let change = wire::conf_change(&change).map_err(|error| error.to_string())?;
    let state = group
        .node
        .apply_conf_change(&change)
        .map_err(|error| error.to_string())?;
    let members = Members::from(&state);
    group.node.mut_store().set_members(members.clone());
    group.resign_if_removed();
    Ok(members)
}

async fn wait_written(writing: &mut Option<Writing>) -> Option<Result<Wrote, LogError>> {
    match writing {
        None => std::future::pending().await,
        Some(receiver) => {
            let written = receiver.await.ok();
            *writing = None;
            written
        }
    }
}

//! How much a node does at a time for others.
//!
//! Calls are of four kinds. Uploads and downloads of fragments, looks at the
//! index, and commands and queries have a limit each, and who comes past it is
//! told to come again, at once. What keeps the cluster itself (Raft's messages
//! and snapshots, statuses, births, changes of members, permits) has none here:
//! it must never wait behind data. All limits together leave connections of the
//! listener free for it.
//!
//! Fragments on their way in and out share a budget of memory, which is waited
//! for, as the sender then waits too; copies that repair makes have a small one
//! of their own, so that they never take the clients' share.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use holdfast_client::{MemoryBudget, Permit};
use holdfast_metadata::protocol::{self, NodeError};
use holdfast_metadata::raft::MAX_WAITING;
use holdfast_runtime::Clock;
use holdfast_runtime::clock::within;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Uploads and downloads at a time, unless told.
pub const DEFAULT_TRANSFERS: usize = 2_048;
/// Memory for fragments on their way, unless told, in bytes: 512 uploads.
pub const DEFAULT_MEMORY_BYTES: u64 = 256 << 20;
/// The least memory that can be set, in bytes: some uploads at a time.
pub const MIN_MEMORY_BYTES: u64 = 4 << 20;
/// Pages of the index, deletes and backups at a time: each holds up to a
/// megabyte, and repair, census and clean-up of 16 groups ask for fewer.
const LOOKS: usize = 128;
/// Memory for copies that repair makes, in bytes: twice what one controller
/// copies at a time.
const COPY_BYTES: u64 = 64 << 20;
/// How long memory is waited for: less than callers wait for an answer, and
/// enough for those before to send some stripes.
const ROOM_WAIT: Duration = Duration::from_secs(2);
/// When to come again who came past a limit.
const RETRY_AFTER_MILLIS: u64 = 1_000;

/// How much is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitSettings {
    /// Uploads and downloads of fragments at a time.
    pub transfers: usize,
    /// Commands and queries at a time.
    pub commands: usize,
    /// Pages of the index, deletes and backups at a time.
    pub looks: usize,
    /// Memory for fragments on their way, in bytes.
    pub memory_bytes: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            transfers: DEFAULT_TRANSFERS,
            commands: MAX_WAITING,
            looks: LOOKS,
            memory_bytes: DEFAULT_MEMORY_BYTES,
        }
    }
}

impl LimitSettings {
    /// The same, with a fifth of a listener's connections left for what must
    /// not wait.
    pub fn within(self, connections: usize) -> Self {
        let most = |part: usize| (connections * part / 100).max(1);
        Self {
            transfers: self.transfers.min(most(25)),
            commands: self.commands.min(most(50)),
            looks: self.looks.min(most(5)),
            ..self
        }
    }
}

/// What a call is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A fragment comes or goes.
    Transfer,
    /// A command or query.
    Command,
    /// The index is looked at, or what it names deleted.
    Look,
    /// The cluster itself.
    Vital,
}

/// What a call to a path of the protocol is for.
pub fn kind_of(path: &str) -> Kind {
    match path {
        protocol::UPLOAD | protocol::DOWNLOAD => Kind::Transfer,
        protocol::PROPOSE | protocol::QUERY => Kind::Command,
        protocol::DELETE | protocol::FILES | protocol::DIGESTS | protocol::BACKUP => Kind::Look,
        _ => Kind::Vital,
    }
}

/// A limit and what of it is taken, as metrics show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What it limits.
    pub of: &'static str,
    /// How much is allowed.
    pub most: u64,
    /// How much is taken.
    pub used: u64,
}

/// A call's place among those of its kind; given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Place(#[allow(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>);

/// Places for calls of one kind.
struct Places {
    of: &'static str,
    most: usize,
    free: Arc<Semaphore>,
}

impl Places {
    fn new(of: &'static str, most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(most));
        Self { of, most, free }
    }

    fn enter(&self) -> Result<Place, NodeError> {
        let place = self.free.clone().try_acquire_owned();
        place
            .map(|permit| Place(Some(permit)))
            .map_err(|_| refuse(self.of))
    }

    fn view(&self) -> Limit {
        let most = self.most as u64;
        Limit {
            of: self.of,
            most,
            used: most.saturating_sub(self.free.available_permits() as u64),
        }
    }
}

fn refuse(of: &'static str) -> NodeError {
    metrics::counter!("holdfast_refused_total", "limit" => of).increment(1);
    NodeError::Busy {
        retry_after_millis: RETRY_AFTER_MILLIS,
    }
}

/// Memory for fragments on their way.
struct Memory {
    of: &'static str,
    most: u64,
    budget: Arc<MemoryBudget>,
}

impl Memory {
    fn new(of: &'static str, bytes: u64) -> Self {
        let budget = MemoryBudget::new(bytes);
        // As it counts, in grains.
        let most = budget.free();
        Self { of, most, budget }
    }

    fn view(&self) -> Limit {
        Limit {
            of: self.of,
            most: self.most,
            used: self.most.saturating_sub(self.budget.free()),
        }
    }
}

/// The limits of a node.
pub struct Limits {
    clock: Arc<dyn Clock>,
    transfers: Places,
    commands: Places,
    looks: Places,
    memory: Memory,
    copies: Memory,
}

impl Limits {
    /// As they are set.
    pub fn new(clock: Arc<dyn Clock>, settings: LimitSettings) -> Self {
        Self {
            clock,
            transfers: Places::new("node_transfers", settings.transfers),
            commands: Places::new("node_commands", settings.commands),
            looks: Places::new("node_looks", settings.looks),
            memory: Memory::new("node_transfer_bytes", settings.memory_bytes),
            copies: Memory::new("node_copy_bytes", COPY_BYTES),
        }
    }

    /// A place for a call.
    ///
    /// # Errors
    /// [`NodeError::Busy`] past the limit.
    pub fn enter(&self, kind: Kind) -> Result<Place, NodeError> {
        match kind {
            Kind::Transfer => self.transfers.enter(),
            Kind::Command => self.commands.enter(),
            Kind::Look => self.looks.enter(),
            Kind::Vital => Ok(Place(None)),
        }
    }

    /// Memory for a fragment on its way, once there is some; `copy` where nobody
    /// waits for it. Also says whether it had to be waited for.
    ///
    /// # Errors
    /// [`NodeError::Busy`] when others hold it for too long.
    pub async fn room(&self, bytes: u64, copy: bool) -> Result<(Permit, bool), NodeError> {
        let memory = if copy { &self.copies } else { &self.memory };
        let mut taking = Box::pin(memory.budget.take(bytes));
        if let Some(permit) = taking.as_mut().now_or_never() {
            return Ok((permit, false));
        }
        let taken = within(&*self.clock, ROOM_WAIT, taking).await;
        let permit = taken.ok_or_else(|| refuse(memory.of))?;
        Ok((permit, true))
    }

    /// Every limit and what of it is taken.
    pub fn view(&self) -> [Limit; 5] {
        [
            self.transfers.view(),
            self.commands.view(),
            self.looks.view(),
            self.memory.view(),
            self.copies.view(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_with_few_connections_keeps_some_for_what_must_not_wait() {
        for connections in [8_192, 512, 20, 1] {
            let limits = LimitSettings::default().within(connections);
            let sum = limits.transfers + limits.commands + limits.looks;
            assert!(sum <= connections.max(3), "{limits:?} of {connections}");
            let left = connections.saturating_sub(sum);
            assert!(left * 6 >= connections || connections < 20, "{limits:?}");
        }
        let usual = LimitSettings::default().within(8_192);
        assert_eq!(usual, LimitSettings::default());
    }

    #[test]
    fn what_keeps_the_cluster_is_of_no_limited_kind() {
        for path in [
            protocol::RAFT,
            protocol::SNAPSHOT,
            protocol::STATUS,
            protocol::MEMBERS,
            protocol::TRANSFER,
            protocol::BOOTSTRAP,
            protocol::PERMIT,
            protocol::RELEASE,
            protocol::SEAL,
        ] {
            assert_eq!(kind_of(path), Kind::Vital, "{path}");
        }
    }
}

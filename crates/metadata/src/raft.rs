//! All metadata groups of a node, run by one loop.
//!
//! Three parts, each the only owner of what it keeps:
//! - the [`driver`] owns the Raft state of every group. It never waits for a
//!   disk: rounds of the log are written while it goes on, one at a time, and
//!   what waited meanwhile goes into the next (group commit);
//! - the [`applier`] owns writing to the state store, so that a long commit
//!   there delays no heartbeat;
//! - a [`peers`] task for each other disk carries the messages of all groups
//!   over one connection.
//!
//! Invariants, beyond Raft's own:
//! 1. An entry counts as persisted, a vote is answered, only after its round
//!    is synced.
//! 2. A command is answered only after it is applied; a query only from a
//!    state at least as new as the read index that a majority confirmed after
//!    the query came.
//! 3. The log is purged only up to what the state store has durably applied.

pub mod applier;
mod book;
pub mod driver;
mod group;
pub mod lag;
pub mod peers;
mod resign;
mod rounds;
pub mod snapshot;
mod timing;
mod waiting;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_model::{ClusterState, DiskId, GroupId};
use holdfast_runtime::OnFatal;
use tokio::sync::{mpsc, oneshot};

use crate::command::Outcome;
use crate::protocol::{
    GroupMessage, GroupStatus, MembersRequest, NodeError, ProposeRequest, QueryRequest, RaftBatch,
};
use crate::query::Answer;
use crate::wire;

use self::lag::Lag;
use self::peers::Identity;
pub use book::AddressBook;
pub use driver::{Groups, GroupsParts, StartError};
pub(crate) use waiting::Answerer;
pub use waiting::{MAX_WAITING, MAX_WAITING_BYTES};

/// The most events in the driver's inbox.
pub const MAX_INBOX: usize = 16_384;

/// What the driver is told.
pub(crate) enum Event {
    Messages(Incoming),
    Propose(ProposeRequest, Answerer<Outcome>),
    Query(QueryRequest, Answerer<Answer>),
    Members(MembersRequest, Answerer<()>),
    Transfer(GroupId, Option<DiskId>, Answerer<()>),
    Unreachable(u64),
    SnapshotSent {
        group: GroupId,
        to: u64,
        done: bool,
    },
    SnapshotStaged {
        message: Box<raft::eraftpb::Message>,
        group: GroupId,
        answer: Answerer<()>,
    },
    /// A leader has committed a group's log up to there.
    Announced(GroupId, u64),
    Create(Vec<GroupId>, Answerer<()>),
    HandOver(Answerer<()>),
}

/// Messages of one peer.
pub(crate) struct Incoming {
    /// Who sent them.
    from: u64,
    messages: Vec<(GroupId, raft::eraftpb::Message)>,
    /// Who takes along what there is to say at once.
    answer: Option<oneshot::Sender<Vec<GroupMessage>>>,
}

impl Incoming {
    /// Takes a batch in, if it is meant for this disk and comes from whom it names.
    fn of(book: &AddressBook, identity: &Identity, batch: RaftBatch) -> Result<Self, NodeError> {
        if batch.cluster != identity.cluster || batch.to != identity.disk {
            return Err(NodeError::Mistaken(format!(
                "this is disk {} of cluster {}",
                identity.disk, identity.cluster
            )));
        }
        book.admit(batch.from, batch.incarnation)?;
        book.hear(&batch.starts);
        if book.outdated(identity) {
            return Err(NodeError::Mistaken(format!(
                "this is an older copy of disk {}",
                identity.disk
            )));
        }
        let from = batch.from.raft_id();
        let mut messages = Vec::with_capacity(batch.messages.len());
        for one in batch.messages {
            let message = wire::decode_message(&one.message)
                .map_err(|error| NodeError::Invalid(error.to_string()))?;
            if message.from != from {
                return Err(NodeError::Mistaken("a message of another disk".into()));
            }
            messages.push((one.group, message));
        }
        Ok(Self {
            from,
            messages,
            answer: None,
        })
    }
}

/// What others may look at without asking the driver.
#[derive(Default)]
pub struct Shared {
    pub(crate) statuses: Mutex<BTreeMap<GroupId, GroupStatus>>,
    /// How far this member of each group is behind.
    lags: Mutex<BTreeMap<GroupId, Lag>>,
    state: Mutex<Option<Arc<ClusterState>>>,
    /// Whether this node's disk hangs.
    hangs: AtomicBool,
    /// Wakes who waits for a newer cluster state.
    pub changed: tokio::sync::Notify,
}

impl Shared {
    /// Each group as it stands.
    pub fn statuses(&self) -> Vec<GroupStatus> {
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.values().cloned().collect()
    }

    /// How far the members on this disk are behind what was announced to them.
    pub(crate) fn lags(&self) -> BTreeMap<GroupId, Lag> {
        let lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.clone()
    }

    fn publish(&self, statuses: BTreeMap<GroupId, GroupStatus>, lags: BTreeMap<GroupId, Lag>) {
        *self.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
        *self.lags.lock().unwrap_or_else(PoisonError::into_inner) = lags;
    }

    /// Whether calls of this node's disk begin and do not return.
    pub fn disk_hangs(&self) -> bool {
        self.hangs.load(Ordering::Relaxed)
    }

    /// Notes whether it hangs; whether it did before.
    fn note_hangs(&self, hangs: bool) -> bool {
        self.hangs.swap(hangs, Ordering::Relaxed)
    }

    /// The newest cluster state that is known here.
    pub fn state(&self) -> Option<Arc<ClusterState>> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes a cluster state if it is newer.
    pub fn learn(&self, new: Arc<ClusterState>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.as_ref().is_none_or(|old| old.revision < new.revision) {
            *state = Some(new);
            drop(state);
            self.changed.notify_waiters();
        }
    }
}

pub(crate) type Inbox = mpsc::Sender<Event>;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use holdfast_model::{ClusterId, Timestamp};

    use super::*;
    use crate::protocol::DiskStart;

    const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);
    const PEER: DiskId = DiskId::from_bytes([3; 16]);
    const OWN: DiskId = DiskId::from_bytes([4; 16]);
    const OTHER: DiskId = DiskId::from_bytes([9; 16]);

    fn message(from: DiskId) -> GroupMessage {
        let mut message = raft::eraftpb::Message::default();
        message.set_msg_type(raft::eraftpb::MessageType::MsgHeartbeat);
        message.from = from.raft_id();
        message.to = OWN.raft_id();
        GroupMessage {
            group: GroupId(1),
            message: wire::encode_message(&message).unwrap(),
        }
    }

    /// A heartbeat from [`PEER`] in its start of that number.
    fn batch(incarnation: u64) -> RaftBatch {
        RaftBatch {
            cluster: CLUSTER,
            from: PEER,
            to: OWN,
            incarnation,
            sent: Timestamp(0),
            messages: vec![message(PEER)],
            knows: None,
            starts: Vec::new(),
        }
    }

    fn start_of((disk, incarnation): (DiskId, u64)) -> DiskStart {
        DiskStart {
            member: disk.raft_id(),
            incarnation,
        }
    }

    /// What calls and what answers bring both goes through here.
    fn take(book: &AddressBook, batch: RaftBatch) -> Result<Incoming, NodeError> {
        let identity = Identity {
            cluster: CLUSTER,
            disk: OWN,
            incarnation: 1,
        };
        Incoming::of(book, &identity, batch)
    }

    fn refused(book: &AddressBook, batch: RaftBatch) -> bool {
        matches!(take(book, batch), Err(NodeError::Mistaken(_)))
    }

    /// Has the book know a disk by the Raft number of [`PEER`].
    fn know(book: &AddressBook, disk: DiskId, incarnation: u64) {
        book.know(PEER.raft_id(), disk, incarnation);
    }

    #[test]
    fn messages_of_an_older_start_or_of_another_disk_are_refused() {
        let book = AddressBook::default();
        let taken = take(&book, batch(1)).expect("the group decides on strangers");
        assert_eq!(taken.from, PEER.raft_id());
        assert_eq!(taken.messages.len(), 1);
        know(&book, PEER, 2);
        for newer in [2, 5] {
            assert!(take(&book, batch(newer)).is_ok(), "{newer}");
        }
        assert_eq!(book.incarnation(PEER.raft_id()), 5);
        for older in [2, 4] {
            assert!(refused(&book, batch(older)), "{older}");
        }
        know(&book, OTHER, 1);
        assert!(refused(&book, batch(6)), "the disk is no member");
    }

    #[test]
    fn who_hears_of_a_newer_start_admits_no_older_one_and_nobody_after_its_own() {
        let book = AddressBook::default();
        let mut told = batch(2);
        told.starts = [(OTHER, 3), (PEER, 7)].map(start_of).into();
        assert!(take(&book, told).is_ok());
        assert!(refused(&book, batch(6)), "start 7 is known");
        assert!(take(&book, batch(7)).is_ok());
        let mut copy = batch(2);
        copy.from = OTHER;
        copy.messages = vec![message(OTHER)];
        assert!(
            refused(&book, copy),
            "of a disk that no layout has named yet"
        );
        let mut outdated = batch(7);
        outdated.starts = vec![start_of((OWN, 2))];
        assert!(refused(&book, outdated), "this is start 1");
    }

    #[test]
    fn what_a_refused_sender_says_of_starts_is_not_heard() {
        let book = AddressBook::default();
        know(&book, PEER, 2);
        let mut copy = batch(1);
        copy.starts = vec![start_of((OTHER, 3))];
        assert!(refused(&book, copy));
        assert_eq!(book.incarnation(OTHER.raft_id()), 0);
    }

    #[test]
    fn messages_for_others_or_in_anothers_name_are_refused() {
        let book = AddressBook::default();
        know(&book, PEER, 2);
        let mut elsewhere = batch(3);
        elsewhere.cluster = ClusterId::from_bytes([2; 16]);
        assert!(refused(&book, elsewhere), "of another cluster");
        let mut astray = batch(3);
        astray.to = OTHER;
        assert!(refused(&book, astray), "for another disk");
        assert_eq!(book.incarnation(PEER.raft_id()), 2);
        let mut borrowed = batch(3);
        borrowed.messages.push(message(OTHER));
        assert!(refused(&book, borrowed), "in another disk's name");
        let mut cut = batch(3);
        cut.messages[0].message = Bytes::from_static(&[0x9f]);
        assert!(matches!(take(&book, cut), Err(NodeError::Invalid(_))));
        assert!(take(&book, batch(3)).is_ok());
    }
}

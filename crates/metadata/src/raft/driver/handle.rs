//! The handle to the loop.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_model::{DiskId, GroupId, Timestamp};
use holdfast_runtime::clock::within;
use holdfast_runtime::{Body, Env};
use raft::eraftpb::Message;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::protocol::{MembersRequest, RaftAnswer, RaftBatch, TransferRequest};
use crate::raft::Incoming;
use crate::raft::lag::{Lag, announced};
use crate::raft::waiting::{Seat, WaitingRoom};

/// How long a peer's call waits for what the loop says to it: turns take far less.
const ANSWER_LIMIT: Duration = Duration::from_millis(100);

/// What a query that waits counts for: a key, a prefix and a cursor.
const QUERY_BYTES: usize = 4 << 10;

/// The groups of a node. Cheap to copy; the loop ends with the last copy.
#[derive(Clone)]
pub struct Groups {
    env: Env,
    identity: Identity,
    store: Arc<Store>,
    book: Arc<AddressBook>,
    shared: Arc<Shared>,
    inbox: Inbox,
    room: WaitingRoom,
    on_fatal: OnFatal,
    /// Groups whose staged rows are in use: one snapshot at a time.
    staging: Arc<Mutex<BTreeSet<GroupId>>>,
}

/// A group's staged rows, for as long as this lives.
struct Staging {
    all: Arc<Mutex<BTreeSet<GroupId>>>,
    group: GroupId,
}

impl Staging {
    /// Takes them, unless somebody else has.
    fn take(all: &Arc<Mutex<BTreeSet<GroupId>>>, group: GroupId) -> Option<Self> {
        let free = all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(group);
        let all = all.clone();
        free.then(|| Self { all, group })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.group);
    }
}

impl Groups {
    /// Opens the groups that the disk holds and starts to run them. Blocks
    /// while the log is read.
    ///
    /// # Errors
    /// [`StartError`]: the disk has lost what it promised, or cannot be read.
    pub fn start(parts: GroupsParts) -> Result<Self, StartError> {
        let (inbox, events) = mpsc::channel(MAX_INBOX);
        let (work, work_receiver) = mpsc::unbounded_channel();
        let (applied_sender, applied) = mpsc::unbounded_channel();
        let env = parts.env.clone();
        let handle = Self {
            env: env.clone(),
            identity: parts.identity,
            store: parts.store.clone(),
            book: parts.book.clone(),
            shared: parts.shared.clone(),
            inbox: inbox.clone(),
            room: WaitingRoom::default(),
            on_fatal: parts.on_fatal.clone(),
            staging: Arc::default(),
        };
        parts.book.begin(&parts.identity);
        {
            let view = parts.store.snapshot()?;
            if let Some(state) = state::read_cluster(&view.group(GroupId::CLUSTER))? {
                parts.book.learn(&state);
                parts.shared.learn(Arc::new(state));
            }
        }
        let (store, on_fatal) = (parts.store.clone(), parts.on_fatal.clone());
        let shutdown = parts.shutdown.clone();
        let driver = Driver::open(parts, inbox, work)?;
        let applier = Applier {
            env: env.clone(),
            store,
            files: driver.files.clone(),
            work: work_receiver,
            applied: applied_sender,
            on_fatal,
        };
        env.tasks.spawn("applier", Box::pin(applier.run()));
        env.tasks.spawn(
            "raft",
            Box::pin(async move {
                tokio::select! {
                    biased;
                    () = shutdown.begun() => {}
                    () = driver.run(events, applied) => {}
                }
            }),
        );
        Ok(handle)
    }

    async fn ask<T>(&self, event: impl FnOnce(Answerer<T>) -> Event) -> Result<T, NodeError> {
        self.ask_seated(None, event).await
    }

    async fn ask_seated<T>(
        &self,
        seat: Option<Seat>,
        event: impl FnOnce(Answerer<T>) -> Event,
    ) -> Result<T, NodeError> {
        let (answer, receiver) = oneshot::channel();
        self.inbox
            .send(event(Answerer::new(answer, seat)))
            .await
            .map_err(|_| NodeError::ShuttingDown)?;
        // The loop drops an answer only when it ends: then nobody knows.
        receiver.await.unwrap_or(Err(NodeError::NoQuorum))
    }

    /// Proposes a command and waits until it is applied.
    pub async fn propose(&self, request: ProposeRequest) -> Result<Outcome, NodeError> {
        let seat = self.room.enter(weight(&request.command))?;
        self.ask_seated(Some(seat), |answer| Event::Propose(request, answer))
            .await
    }

    /// Answers a query, linearizably.
    pub async fn query(&self, request: QueryRequest) -> Result<Answer, NodeError> {
        let seat = self.room.enter(QUERY_BYTES)?;
        self.ask_seated(Some(seat), |answer| Event::Query(request, answer))
            .await
    }

    /// How many commands and queries wait, and their bytes: each limit's name,
    /// what is allowed, and what of it is taken.
    pub fn waiting(&self) -> [(&'static str, usize, usize); 2] {
        self.room.view()
    }

    /// Takes a peer's messages in. What there is to say to it at once goes back
    /// with the answer, which saves a call of our own; what waits for the disk
    /// comes later.
    pub async fn deliver(&self, batch: RaftBatch) -> Result<RaftAnswer, NodeError> {
        let theirs = batch.knows;
        let mut incoming = Incoming::of(&self.book, &self.identity, batch)?;
        let received = self.env.clock.wall();
        let (answer, receiver) = oneshot::channel();
        incoming.answer = Some(answer);
        self.inbox
            .send(Event::Messages(incoming))
            .await
            .map_err(|_| NodeError::ShuttingDown)?;
        // A loop that takes longer sends it in a call of its own.
        let said = within(&*self.env.clock, ANSWER_LIMIT, receiver).await;
        Ok(RaftAnswer {
            received,
            incarnation: self.identity.incarnation,
            messages: said.and_then(Result::ok).unwrap_or_default(),
            // An older release does not know what to do with them.
            starts: theirs.map_or_else(Vec::new, |_| self.book.starts_unless(theirs)),
        })
    }

    /// Takes the rows of a snapshot in. A caller that hangs up ends this, but not
    /// what was begun: rows that are being written or installed are not those of
    /// the next snapshot.
    pub async fn receive_snapshot(&self, head: &[u8], body: Body) -> Result<(), NodeError> {
        let (group, message) = snapshot::read_head(&self.identity, &self.book, head)?;
        // A snapshot that fails on its way leaves the member as far behind.
        let event = Event::Announced(group, announced(&message));
        self.inbox
            .send(event)
            .await
            .map_err(|_| NodeError::ShuttingDown)?;
        let staging = Staging::take(&self.staging, group).ok_or(NodeError::Busy {
            retry_after_millis: 1_000,
        })?;
        let (answer, receiver) = oneshot::channel();
        let groups = self.clone();
        self.env.tasks.spawn(
            "raft-staging",
            Box::pin(async move {
                let result = groups.install(group, message, body).await;
                drop(staging);
                // The caller may have gone.
                let _ = answer.send(result);
            }),
        );
        receiver.await.unwrap_or(Err(NodeError::ShuttingDown))
    }

    /// Stages rows, and returns when they are installed or not needed.
    async fn install(&self, group: GroupId, message: Message, body: Body) -> Result<(), NodeError> {
        let stage = snapshot::Stage {
            env: &self.env,
            store: &self.store,
            on_fatal: &self.on_fatal,
        };
        snapshot::stage(&stage, group, body).await?;
        self.env.tasks.pass("layout.snapshot_staged");
        let message = Box::new(message);
        self.ask(|answer| Event::SnapshotStaged {
            message,
            group,
            answer,
        })
        .await
    }

    /// Proposes a step of a change of members.
    pub async fn change_members(&self, request: MembersRequest) -> Result<(), NodeError> {
        self.ask(|answer| Event::Members(request, answer)).await
    }

    /// Hands a group's leadership over.
    pub async fn transfer(&self, request: TransferRequest) -> Result<(), NodeError> {
        self.ask(|answer| Event::Transfer(request.group, request.to, answer))
            .await
    }

    /// Begins groups whose first rows are in the store.
    pub async fn create(&self, groups: Vec<GroupId>) -> Result<(), NodeError> {
        self.ask(|answer| Event::Create(groups, answer)).await
    }

    /// Hands all leadership over; returns when it is done.
    pub async fn hand_over(&self) -> Result<(), NodeError> {
        self.ask(Event::HandOver).await
    }

    /// Who we are.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// How the groups stand.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// How far the members on this disk are behind; who receives a snapshot is.
    pub fn lags(&self) -> BTreeMap<GroupId, Lag> {
        let mut lags = self.shared.lags();
        let staging = self.staging.lock();
        for group in staging.unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(lag) = lags.get_mut(group) {
                *lag = lag.receiving();
            }
        }
        lags
    }

    /// The state store, for reading.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Takes a newer cluster state that another node has shown.
    pub fn learn(&self, state: Arc<holdfast_model::ClusterState>) {
        self.book.learn(&state);
        self.shared.learn(state);
    }

    /// How often a disk has been started, as far as is known here.
    pub fn known_start(&self, disk: DiskId) -> u64 {
        self.book.incarnation(disk.raft_id())
    }

    /// The leader of a group as far as it is known here.
    pub fn leader(&self, group: GroupId) -> Option<DiskId> {
        self.shared
            .statuses()
            .into_iter()
            .find(|status| status.group == group)?
            .leader
    }

    /// The wall clock that commands are stamped with.
    pub fn now(&self) -> Timestamp {
        self.env.clock.wall()
    }
}

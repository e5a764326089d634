//! The loop's own decisions: one node alone in a world that stands still, which
//! tests move step by step.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_model::layout::initial_slots;
use holdfast_model::{ClusterId, ClusterState, DiskId, Epoch, Layout, Redundancy, RequestId};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::pulse::WatchedDisk;
use holdfast_runtime::{Address, Call, Fatal, Reply, Transport, TransportError, still};

use super::*;
use crate::log::LogEnd;
use crate::protocol::{DiskStart, MemberStep, MembersRequest, RaftBatch};
use crate::raft::applier::write_members;

pub(super) const A: GroupId = GroupId(1);
pub(super) const B: GroupId = GroupId(2);
const OWN: DiskId = DiskId::from_bytes([1; 16]);
pub(super) const NEW: DiskId = DiskId::from_bytes([2; 16]);
const GONE: DiskId = DiskId::from_bytes([3; 16]);
pub(super) const IDENTITY: Identity = Identity {
    cluster: ClusterId::from_bytes([9; 16]),
    disk: OWN,
    incarnation: 1,
};
/// Small files, so that a few rounds fill one.
pub(super) const LOG: LogSettings = LogSettings {
    file_bytes: 16 << 10,
};

/// The loop of a node that is the only voter of two groups. Nobody applies: the
/// test says what is applied, and what of it is durable.
pub(super) struct Alone {
    pub driver: Driver,
    work: mpsc::UnboundedReceiver<Work>,
    _events: mpsc::Receiver<Event>,
}

pub(super) fn cluster(epoch: u64) -> ClusterState {
    ClusterState {
        cluster: ClusterId::from_bytes([9; 16]),
        revision: Epoch(epoch),
        layout: Layout {
            epoch: Epoch(epoch),
            redundancy: Redundancy::copies(1),
            metadata_replicas: 1,
            slots: initial_slots(2),
            nodes: Default::default(),
            groups: [(A, vec![OWN]), (B, vec![OWN])].into(),
        },
        buckets: Vec::new(),
        access_keys: Vec::new(),
        permit: None,
        next_permit: Epoch(1),
        times: Default::default(),
        active: Default::default(),
    }
}

/// A disk with the first rows of both groups.
pub(super) fn born() -> MemoryDisk {
    let disk = MemoryDisk::new(1 << 30, 1);
    let store = Store::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), "state").unwrap();
    let mut batch = store.begin_bulk().unwrap();
    for id in [A, B] {
        let mut txn = batch.group(id).unwrap();
        for (key, value) in state::initial_rows(id, &cluster(1)) {
            txn.put(&key, &value).unwrap();
        }
        let voters = vec![OWN.raft_id()];
        let members = Members {
            voters,
            ..Members::default()
        };
        write_members(&mut txn, LogEnd { index: 1, term: 1 }, &members).unwrap();
    }
    batch.commit(true).unwrap();
    disk
}

/// What the node is made of, in its first start.
pub(super) fn parts(disk: &MemoryDisk) -> GroupsParts {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let env = still::env(1);
    GroupsParts {
        store: Arc::new(Store::open(&disk, "state").unwrap()),
        pulse: Arc::new(Pulse::new(env.clock.clone())),
        calls: WatchedDisk::new(disk.clone(), env.clock.clone()).calls(),
        env,
        disk,
        identity: IDENTITY,
        log: LOG,
        book: Arc::default(),
        shared: Arc::default(),
        clock_seen: Arc::new(|_, _| {}),
        clock_off: Arc::new(|| false),
        on_fatal: Arc::new(|fatal| panic!("{fatal:?}")),
        shutdown: Shutdown::default(),
    }
}

impl Alone {
    /// Starts the node, has it lead both groups, and settles.
    pub async fn start(disk: &MemoryDisk) -> Result<Self, StartError> {
        Self::start_leading(disk, &[A, B]).await
    }

    /// Starts the node, has it lead these groups, and settles.
    pub async fn start_leading(disk: &MemoryDisk, led: &[GroupId]) -> Result<Self, StartError> {
        let (inbox, events) = mpsc::channel(MAX_INBOX);
        let (sender, work) = mpsc::unbounded_channel();
        let mut alone = Self {
            driver: Driver::open(parts(disk), inbox, sender)?,
            work,
            _events: events,
        };
        for id in led {
            alone.driver.groups.get_mut(id).unwrap().campaign();
        }
        alone.settle().await;
        Ok(alone)
    }

    /// Goes on until nothing is being written, and applies in memory alone what
    /// is committed.
    pub async fn settle(&mut self) {
        loop {
            assert!(self.driver.pump());
            if self.driver.writing.is_some() {
                let written = wait_written(&mut self.driver.writing).await;
                assert!(self.driver.on_written(written));
            } else if !self.apply() {
                return;
            }
        }
    }

    /// Applies what was handed over next; says whether there was something.
    pub fn apply(&mut self) -> bool {
        let Ok(work) = self.work.try_recv() else {
            return false;
        };
        if let Work::Entries { group, entries } = work {
            self.driver.on_applied(Applied::Entries {
                group,
                to: entries.last().unwrap().at,
                outcomes: entries.iter().map(|one| (one.at, Vec::new())).collect(),
                totals: Default::default(),
            });
        }
        true
    }

    /// Has a group commit and apply so many entries, each in a round of its own.
    pub async fn commit(&mut self, group: GroupId, entries: u64) {
        for number in 0..entries {
            self.propose(group, number);
            self.settle().await;
        }
    }

    /// Has a group asked for a command of that number.
    pub fn propose(&mut self, group: GroupId, number: u64) {
        let (answer, _) = oneshot::channel();
        let request = ProposeRequest {
            group,
            id: RequestId::from_bytes(u128::from(number).to_be_bytes()),
            command: crate::command::Command::Tick,
        };
        self.driver.on_propose(request, answer.into());
    }

    pub fn applied(&self, group: GroupId) -> u64 {
        self.driver.groups[&group].applied.index
    }

    /// Where a group's log begins.
    pub fn begin(&self, group: GroupId) -> u64 {
        self.driver.groups[&group].node.store().begin().index
    }

    /// What becomes of a step that was planned for these voters and this layout.
    async fn members(
        &mut self,
        step: MemberStep,
        voters: Option<&[DiskId]>,
        epoch: u64,
    ) -> Result<(), NodeError> {
        let numbers = |voters: &[DiskId]| {
            let mut numbers: Vec<_> = voters.iter().map(DiskId::raft_id).collect();
            numbers.sort_unstable();
            numbers
        };
        let request = MembersRequest {
            group: A,
            epoch: Epoch(epoch),
            step,
            voters: voters.map(numbers),
        };
        let (answer, mut answered) = oneshot::channel();
        self.driver.on_members(&request, answer.into());
        self.settle().await;
        answered.try_recv().unwrap()
    }

    /// The voters and the learners.
    fn carried_by(&self) -> (Vec<u64>, Vec<u64>) {
        let members = self.driver.groups[&A].node.store().members();
        (members.voters.clone(), members.learners.clone())
    }
}

/// What was applied after the state was frozen is in memory alone when the
/// flush ends. A group that has nothing in that flush keeps its log from what
/// its state was found with; else a power cut takes what was acknowledged.
#[tokio::test]
async fn a_flush_purges_nothing_of_a_group_that_has_applied_only_since() {
    let disk = born();
    let mut alone = Alone::start(&disk).await.unwrap();
    let found = alone.begin(B);
    alone.commit(A, 10).await;
    // Here the state is frozen, with A's entries and none of B's.
    let frozen = alone.applied(A);
    alone.commit(B, 200).await;
    assert!(disk.list("raft").unwrap().len() > 4, "too few files");
    let flushed = BTreeMap::from([(A, frozen)]);
    alone.driver.on_applied(Applied::Durable(flushed));
    assert_eq!(alone.begin(B), found);
    disk.power_cut();
    let mut alone = Alone::start(&disk).await.unwrap();
    assert!(alone.applied(B) > 200, "{}", alone.applied(B));
    // Once B's entries are in a flush, their log goes.
    let flushed = BTreeMap::from([(A, alone.applied(A)), (B, alone.applied(B))]);
    alone.driver.on_applied(Applied::Durable(flushed));
    assert!(alone.begin(B) > found);
}

/// A controller plans from a status some seconds old: what it plans for voters
/// that are no longer, or never were, would leave a group on a disk that is
/// gone, or with a voter too many.
#[tokio::test]
async fn a_step_planned_for_other_voters_or_an_older_layout_is_refused() {
    let mut alone = Alone::start(&born()).await.unwrap();
    let old = |result| matches!(result, Err(NodeError::Busy { .. }));
    let learn = MemberStep::AddLearner(NEW);
    let others: [&[DiskId]; 3] = [&[OWN, GONE], &[GONE], &[]];
    for voters in others {
        let asked = alone.members(learn, Some(voters), 1).await;
        assert!(old(asked), "{voters:?}");
    }
    let own = [OWN.raft_id()];
    assert_eq!(alone.carried_by(), (own.to_vec(), vec![]));
    alone.members(learn, Some(&[OWN]), 1).await.unwrap();
    let learns = (own.to_vec(), vec![NEW.raft_id()]);
    assert_eq!(alone.carried_by(), learns);
    let swap = |remove| MemberStep::Swap { add: NEW, remove };
    let steps = [swap(Some(GONE)), swap(None), MemberStep::Remove(NEW)];
    for step in steps {
        let asked = alone.members(step, Some(&[OWN, GONE]), 1).await;
        assert!(old(asked), "{step:?}");
        assert_eq!(alone.carried_by(), learns, "{step:?}");
    }
    alone.driver.shared.learn(Arc::new(cluster(2)));
    for step in steps {
        assert!(old(alone.members(step, Some(&[OWN]), 1).await), "{step:?}");
        assert_eq!(alone.carried_by(), learns, "{step:?}");
    }
    let forget = MemberStep::Remove(NEW);
    alone.members(forget, Some(&[OWN]), 2).await.unwrap();
    assert_eq!(alone.carried_by(), (own.to_vec(), vec![]));
}

/// A group that leaves goes from the log before its rows go, since a start that
/// finds a log without rows takes the disk for one that has lost data. Until
/// both are gone it is not begun again: it would take the rows for its own.
#[tokio::test]
async fn a_group_that_leaves_goes_from_the_log_first_and_comes_back_only_after_its_rows() {
    let mut alone = Alone::start(&born()).await.unwrap();
    let mut elsewhere = cluster(2);
    elsewhere.layout.groups.insert(B, vec![NEW]);
    alone.driver.shared.learn(Arc::new(elsewhere));
    let group = alone.driver.groups.get_mut(&B).unwrap();
    group.node.raft.become_follower(9, 0);
    alone.driver.ticks += LEFT_TICKS + 1;
    alone.driver.leave_groups();
    assert!(!alone.driver.groups.contains_key(&B));
    assert!(alone.driver.pump());
    let writing = alone.driver.writing.is_some();
    assert!(writing && alone.work.try_recv().is_err(), "rows go first");
    let written = wait_written(&mut alone.driver.writing).await;
    assert!(alone.driver.on_written(written));
    let Ok(Work::Remove(B)) = alone.work.try_recv() else {
        panic!("its rows stay");
    };
    let mut call = raft::eraftpb::Message::default();
    call.set_msg_type(raft::eraftpb::MessageType::MsgHeartbeat);
    (call.from, call.to, call.term) = (NEW.raft_id(), OWN.raft_id(), 9);
    alone.driver.on_message(B, call.clone());
    assert!(!alone.driver.groups.contains_key(&B), "begun over old rows");
    alone.driver.on_applied(Applied::Removed(B));
    alone.driver.on_message(B, call);
    assert!(alone.driver.groups.contains_key(&B));
}

/// Keeps the batches that leave; nobody takes them in.
#[derive(Default)]
struct Leaving(std::sync::Mutex<Vec<RaftBatch>>);

impl Transport for Leaving {
    fn call(&self, to: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let batch = crate::protocol::decode(&call.head).unwrap();
        self.0.lock().unwrap().push(batch);
        let error = TransportError::Connect {
            to: to.clone(),
            reason: "there is nobody".into(),
        };
        std::future::ready(Err(error)).boxed()
    }
}

fn started(disk: DiskId, incarnation: u64) -> DiskStart {
    DiskStart {
        member: disk.raft_id(),
        incarnation,
    }
}

/// Lets the peers' tasks come to rest.
async fn others_work() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_newer_start_of_a_disk_is_told_to_the_other_members_at_the_next_tick() {
    let mut alone = Alone::start(&born()).await.unwrap();
    let leaving = Arc::new(Leaving::default());
    alone.driver.env.transport = leaving.clone();
    alone.driver.book.know(NEW.raft_id(), NEW, 1);
    let step = MemberStep::AddLearner(NEW);
    alone.members(step, None, 1).await.unwrap();
    alone.settle().await;
    alone.driver.on_tick();
    // What is on its way by now goes first.
    alone.driver.peers.clear();
    others_work().await;
    leaving.0.lock().unwrap().clear();
    let told = |leaving: &Leaving| {
        let sent = leaving.0.lock().unwrap();
        sent.iter()
            .any(|batch| batch.to == NEW && batch.starts.contains(&started(GONE, 7)))
    };
    alone.driver.book.hear(&[started(GONE, 7)]);
    alone.driver.on_tick();
    others_work().await;
    assert!(told(&leaving));
}

#[tokio::test]
async fn an_older_copy_of_a_disk_ends_once_it_hears_of_the_newer_start() {
    let mut alone = Alone::start(&born()).await.unwrap();
    let ended = Arc::new(std::sync::Mutex::new(None));
    let end = ended.clone();
    alone.driver.on_fatal = Arc::new(move |fatal| *end.lock().unwrap() = Some(fatal));
    alone.driver.book.hear(&[started(OWN, 1)]);
    alone.driver.on_tick();
    assert_eq!(*ended.lock().unwrap(), None);
    alone.driver.book.hear(&[started(OWN, 2)]);
    alone.driver.on_tick();
    let ended = ended.lock().unwrap().take();
    assert!(matches!(ended, Some(Fatal::Outdated(_))), "{ended:?}");
}

#[tokio::test]
async fn who_delivers_a_batch_is_told_of_the_starts_that_it_does_not_know() {
    let groups = Groups::start(parts(&born())).unwrap();
    let same = AddressBook::default();
    same.begin(&IDENTITY);
    let batch = |knows| RaftBatch {
        cluster: IDENTITY.cluster,
        from: NEW,
        to: OWN,
        incarnation: 1,
        sent: holdfast_model::Timestamp(0),
        messages: Vec::new(),
        knows,
        starts: Vec::new(),
    };
    let cases = [
        (Some(0), vec![started(OWN, 1)]),
        (Some(same.sum()), vec![]),
        // An older release.
        (None, vec![]),
    ];
    for (knows, told) in cases {
        let answer = groups.deliver(batch(knows)).await.unwrap();
        assert_eq!(answer.starts, told, "{knows:?}");
    }
}

//! A view of the cluster that keeps itself up to date.
//!
//! One background task asks every known node for its status each second; a
//! node that does not answer delays no other. The newest state by revision
//! wins. That a state is fresh is known only from the leader of group 0, which
//! is asked every [`CONFIRM_EVERY`].

mod buckets;
mod census;
mod keys;
mod look_up;
mod newest;
mod poll;
mod release;
mod route;
mod shares;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_metadata::protocol::GroupStatus;
use holdfast_metadata::query::{Answer, Query, Totals};
use holdfast_model::{
    BucketId, ClusterState, DiskId, Generation, GroupId, ObjectKey, RequestId, Timestamp,
};
use holdfast_runtime::{Address, Env, Shutdown};
use tokio::sync::Notify;

use crate::error::ClusterError;
use crate::manager::{NodeView, StorageNodeManager, UP_LIMIT};

pub use census::{CENSUS_LIFE, Counted};
pub use look_up::{LookedUp, ObjectPlace};
pub use newest::{ListNewest, NewestPage};
pub use poll::CONFIRM_EVERY;

/// How long a group's generation is used for new uploads before it is asked
/// for again. An old one costs nothing but a refused commit, and only once the
/// floor has passed it, which takes longer.
const GENERATION_LIFE: Duration = Duration::from_secs(10);
/// How long a group may take to tell its generation.
const GENERATION_DEADLINE: Duration = Duration::from_secs(10);
/// How often [`Cluster::wait_ready`] looks.
const READY_EVERY: Duration = Duration::from_millis(50);

/// How a view is kept.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Where nodes may be found before the layout is known.
    pub seeds: Vec<Address>,
    /// How often nodes are asked.
    pub poll: Duration,
    /// How old the state may be before those who serve from it must say so;
    /// see [`Cluster::is_stale`].
    pub stale_limit: Duration,
}

impl ClusterSettings {
    /// The usual settings: a poll a second, stale after 15 minutes.
    pub fn new(seeds: Vec<Address>) -> Self {
        Self {
            seeds,
            poll: Duration::from_secs(1),
            stale_limit: Duration::from_secs(15 * 60),
        }
    }
}

/// A metadata group as its leader sees it.
#[derive(Clone, Debug, Default)]
pub struct GroupView {
    /// The disk that leads it and has heard from a majority lately.
    pub leader: Option<DiskId>,
    /// Its counts, as its leader, or else the member that is furthest, gives them.
    pub totals: Totals,
    /// Tasks that should be published now.
    pub tasks_due: u64,
    /// All that the same member says of it; `None` when no member answers.
    pub status: Option<GroupStatus>,
}

/// A handle on the view; clones share it.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    settings: ClusterSettings,
    manager: StorageNodeManager,
    /// Asks for a poll at once.
    kick: Notify,
    view: Mutex<View>,
    /// What the nodes last counted. Held while they are asked, so that who
    /// comes meanwhile waits for the same answers.
    counted: tokio::sync::Mutex<Option<Counted>>,
}

/// What is known beside the nodes' own words. Times are monotonic.
#[derive(Default)]
struct View {
    /// When a state was first known.
    state_since: Option<Duration>,
    /// When group 0's leader last confirmed the state.
    confirmed: Option<Duration>,
    /// When the last round of polls that has ended began.
    polled: Duration,
    /// Who last answered for a group, or was said to lead it.
    leaders: BTreeMap<GroupId, DiskId>,
    generations: BTreeMap<GroupId, (Generation, Duration)>,
}

impl Cluster {
    /// Starts to watch the cluster, until `shutdown`.
    pub fn start(env: Env, settings: ClusterSettings, shutdown: Shutdown) -> Self {
        let cluster = Self {
            shared: Arc::new(Shared {
                manager: StorageNodeManager::new(env.clone()),
                settings,
                kick: Notify::new(),
                view: Mutex::default(),
                counted: tokio::sync::Mutex::default(),
                env,
            }),
        };
        let watching = cluster.clone();
        cluster
            .env()
            .tasks
            .spawn("cluster-view", Box::pin(watching.watch(shutdown)));
        cluster
    }

    /// The world that this view lives in.
    pub fn env(&self) -> &Env {
        &self.shared.env
    }

    /// How it is kept.
    pub fn settings(&self) -> &ClusterSettings {
        &self.shared.settings
    }

    /// The newest state known.
    pub fn state(&self) -> Option<Arc<ClusterState>> {
        self.manager().state()
    }

    /// The newest state known, or the error that there is none.
    ///
    /// # Errors
    /// [`ClusterError::NotReady`] while no node has told one.
    pub fn require_state(&self) -> Result<Arc<ClusterState>, ClusterError> {
        self.state().ok_or_else(|| {
            ClusterError::NotReady("no storage node has told the cluster's state yet".into())
        })
    }

    /// Takes a state that was told otherwise than by a node's status, if it is
    /// newer than the one known.
    pub fn learn(&self, state: ClusterState) {
        self.manager().adopt(state);
        self.kick();
    }

    /// Waits until the state is known and confirmed, as whoever checks a key asks
    /// for, and every group has a leader.
    ///
    /// # Errors
    /// What is missing, when `limit` has passed.
    pub async fn wait_ready(&self, limit: Duration) -> Result<Arc<ClusterState>, ClusterError> {
        let end = self.now().saturating_add(limit);
        loop {
            let missing = match self.require_state() {
                Err(error) => error,
                Ok(state) => {
                    let views = self.leaders();
                    let led = |group: &&GroupId| {
                        views.get(group).is_some_and(|view| view.leader.is_some())
                    };
                    match state.layout.groups.keys().find(|group| !led(group)) {
                        None if self.freshness() == Duration::MAX => ClusterError::NotReady(
                            "the leader of group 0 has not confirmed the state yet".into(),
                        ),
                        None => return Ok(state),
                        Some(group) => {
                            ClusterError::NotReady(format!("metadata group {group} has no leader"))
                        }
                    }
                }
            };
            if self.now() >= end {
                return Err(missing);
            }
            self.env().clock.sleep(READY_EVERY).await;
        }
    }

    /// The layout's nodes, and how they are.
    pub fn nodes(&self) -> Vec<NodeView> {
        self.manager().nodes()
    }

    /// The nodes' clients.
    pub fn manager(&self) -> &StorageNodeManager {
        &self.shared.manager
    }

    /// The layout's groups, as the nodes that answer see them.
    pub fn leaders(&self) -> BTreeMap<GroupId, GroupView> {
        let mut views: BTreeMap<GroupId, GroupView> = BTreeMap::new();
        if let Some(state) = self.state() {
            views.extend(
                state
                    .layout
                    .groups
                    .keys()
                    .map(|g| (*g, GroupView::default())),
            );
        }
        for status in self.manager().statuses(self.now(), UP_LIMIT) {
            for group in &status.groups {
                let view = views.entry(group.group).or_default();
                let leads = group.leader == Some(status.disk) && group.active;
                let rank = |g: &GroupStatus, leads: bool| (leads, g.term, g.applied);
                let better = view
                    .status
                    .as_ref()
                    .is_none_or(|old| rank(group, leads) > rank(old, view.leader.is_some()));
                if better {
                    *view = GroupView {
                        leader: leads.then_some(status.disk),
                        totals: group.totals,
                        tasks_due: group.tasks_due,
                        status: Some(group.clone()),
                    };
                }
            }
        }
        views
    }

    /// How long ago group 0's leader confirmed the state; the longest time
    /// there is when it never has.
    pub fn freshness(&self) -> Duration {
        let confirmed = self.view().confirmed;
        confirmed.map_or(Duration::MAX, |at| self.now().saturating_sub(at))
    }

    /// Whether the state is older than the settings allow.
    pub fn is_stale(&self) -> bool {
        self.freshness() > self.settings().stale_limit
    }

    /// The time as the nodes tell it, which a group's is close to; by this
    /// machine's clock while none has told it.
    pub fn time(&self) -> Timestamp {
        let told = self.manager().time();
        told.unwrap_or_else(|| self.env().clock.wall())
    }

    /// The identity of a new request, the same on every attempt at it. By its
    /// time groups know for how long its outcome is remembered: the nodes' time,
    /// since this machine's clock may be off ([`crate::time`]).
    pub fn request_id(&self) -> RequestId {
        self.env().entropy.request_id_at(self.time())
    }

    /// The group that keeps an object.
    ///
    /// # Errors
    /// While the layout is not known.
    pub fn group_of(&self, bucket: BucketId, key: &ObjectKey) -> Result<GroupId, ClusterError> {
        let state = self.require_state()?;
        state
            .layout
            .group_of(bucket, key)
            .ok_or_else(|| ClusterError::NotReady("the object's slot has no group".into()))
    }

    /// The clean-up generation that a new upload to a group carries, at most
    /// 10 s old.
    ///
    /// # Errors
    /// As [`Cluster::query`].
    pub async fn generation(&self, group: GroupId) -> Result<Generation, ClusterError> {
        let known = self.view().generations.get(&group).copied();
        if let Some((generation, at)) = known
            && self.now().saturating_sub(at) < GENERATION_LIFE
        {
            return Ok(generation);
        }
        // Asked before the answer's age begins.
        let asked = self.now();
        match self
            .query(group, Query::Generation, GENERATION_DEADLINE, None)
            .await?
        {
            Answer::Generation { current, .. } => {
                self.view().generations.insert(group, (current, asked));
                Ok(current)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Forgets a generation, after a commit was refused for it.
    pub fn forget_generation(&self, group: GroupId) {
        self.view().generations.remove(&group);
    }

    fn now(&self) -> Duration {
        self.env().clock.monotonic()
    }

    /// The lock is held for lookups only, never across an await.
    fn view(&self) -> MutexGuard<'_, View> {
        self.shared
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer of another kind than the question asks for.
pub(crate) fn unexpected(answer: &Answer) -> ClusterError {
    let text = format!("{answer:?}");
    let kind: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
    ClusterError::Internal(format!("a group answers another question, with {kind}"))
}

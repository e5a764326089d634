//! What all workers of a controller share, and how they ask the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_client::{Cluster, ClusterError, Health, StorageNodeClient};
use holdfast_metadata::command::{Command, Outcome};
use holdfast_metadata::protocol::{
    Digests, DigestsRequest, Files, FilesRequest, FragmentIds, SealRequest,
};
use holdfast_metadata::query::{Answer, Query, Totals};
use holdfast_model::{BucketId, ClusterState, DiskId, Epoch, FragmentId, Generation, GroupId};
use holdfast_runtime::Env;
use holdfast_runtime::clock::within;
use tokio::sync::Notify;

use crate::census::Census;
use crate::claims::Claims;
use crate::error::WorkError;
use crate::pace::Pace;
use crate::progress::ProgressKeeper;
use crate::settings::ControllerSettings;
use crate::throttle::Throttle;

/// How long a group may take over a command or a question of ours: more than
/// an election.
const GROUP_DEADLINE: Duration = Duration::from_secs(15);
/// How long a node may take over a page of its index or a delete.
const NODE_DEADLINE: Duration = Duration::from_secs(15);
/// How long one that is being written is waited for before other work goes on;
/// the next count waits again.
const SEAL_DEADLINE: Duration = Duration::from_secs(5);
/// The most fragments that one delete may name.
pub(crate) const DELETE_AT_ONCE: usize = 1_000;
/// Fragments of a page of a disk's index.
pub(crate) const FILES_PAGE: u32 = 1_000;

/// Whether this node leads a group now.
pub(crate) type Leads = Arc<dyn Fn(GroupId) -> bool + Send + Sync>;

/// What all workers share; clones are the same.
#[derive(Clone)]
pub(crate) struct Shared {
    pub env: Env,
    pub cluster: Cluster,
    /// This node's own disk.
    pub disk: DiskId,
    pub leads: Leads,
    pub settings: Arc<ControllerSettings>,
    pub claims: Claims,
    pub repair_pace: Arc<Pace>,
    pub scrub_throttle: Arc<Throttle>,
    pub compaction_throttle: Arc<Throttle>,
    pub progress: Arc<ProgressKeeper>,
    /// Begins a census at once.
    pub kick_census: Arc<Notify>,
    /// Begins a round of repair at once.
    pub kick_repair: Arc<Notify>,
    /// The last census of each group led. Held for lookups only.
    censuses: Arc<Mutex<BTreeMap<GroupId, Census>>>,
    /// When this controller began.
    began: Duration,
}

impl Shared {
    pub fn new(
        env: Env,
        cluster: Cluster,
        disk: DiskId,
        leads: Leads,
        settings: ControllerSettings,
    ) -> Self {
        let throttle = |rate| Arc::new(Throttle::new(Arc::clone(&env.clock), rate));
        Self {
            repair_pace: Arc::new(Pace::new(
                Arc::clone(&env.clock),
                settings.repair_bytes_per_second,
            )),
            scrub_throttle: throttle(settings.scrub_bytes_per_second),
            compaction_throttle: throttle(settings.compaction_bytes_per_second),
            cluster,
            disk,
            leads,
            settings: Arc::new(settings),
            claims: Claims::default(),
            progress: Arc::default(),
            kick_census: Arc::default(),
            kick_repair: Arc::default(),
            censuses: Arc::default(),
            began: env.clock.monotonic(),
            env,
        }
    }

    /// Whether nodes that are silent are not to be missed: the cluster is being
    /// put to sleep, or wakes up.
    pub fn excuses_silence(&self, state: &ClusterState) -> bool {
        let running = self.now().saturating_sub(self.began);
        let permit = state.permit.as_ref();
        permit.is_some_and(|permit| permit.excuses(self.env.clock.wall(), running))
    }

    pub fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    pub fn state(&self) -> Result<Arc<ClusterState>, WorkError> {
        self.cluster.state().ok_or(WorkError::NoState)
    }

    /// The groups with objects that this node leads.
    pub fn led_groups(&self, state: &ClusterState) -> Vec<GroupId> {
        let mut groups = state.layout.data_groups();
        groups.retain(|group| (self.leads)(*group));
        groups
    }

    /// The groups of which this node's own counts do not say that they have none
    /// of something, so that nobody is asked for what is not there. Counts are
    /// up to a second old: what is new waits for the next look.
    pub fn those_with(&self, led: &[GroupId], count: impl Fn(&Totals) -> u64) -> Vec<GroupId> {
        let views = self.cluster.leaders();
        let none = |group: &GroupId| {
            let view = views.get(group);
            view.is_some_and(|view| view.leader == Some(self.disk) && count(&view.totals) == 0)
        };
        led.iter().filter(|group| !none(group)).copied().collect()
    }

    pub fn censuses(&self) -> MutexGuard<'_, BTreeMap<GroupId, Census>> {
        self.censuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disks whose nodes answer.
    pub fn answering(&self) -> BTreeSet<DiskId> {
        self.cluster
            .nodes()
            .into_iter()
            .filter(|view| view.health == Health::Up)
            .map(|view| view.node.disk)
            .collect()
    }

    pub async fn propose(
        &self,
        group: GroupId,
        attempted: &'static str,
        command: Command,
    ) -> Result<Outcome, WorkError> {
        let id = self.cluster.request_id();
        self.cluster
            .propose(group, id, command, GROUP_DEADLINE, None)
            .await
            .map_err(|source| WorkError::AskGroup {
                attempted,
                group,
                source,
            })
    }

    /// Takes the deletion of a bucket to its end.
    pub async fn settle_bucket(&self, bucket: BucketId) -> Result<(), WorkError> {
        let settled = self.cluster.settle_bucket(bucket, GROUP_DEADLINE).await;
        settled.map(|_| ()).map_err(|source| WorkError::AskGroup {
            attempted: "the deletion of a bucket",
            group: GroupId::CLUSTER,
            source,
        })
    }

    pub async fn query(
        &self,
        group: GroupId,
        attempted: &'static str,
        query: Query,
    ) -> Result<Answer, WorkError> {
        self.cluster
            .query(group, query, GROUP_DEADLINE, None)
            .await
            .map_err(|source| WorkError::AskGroup {
                attempted,
                group,
                source,
            })
    }

    /// The generation of new fragments and the floor, as of now.
    pub async fn generations(&self, group: GroupId) -> Result<(Generation, Generation), WorkError> {
        match self
            .query(group, "the generation", Query::Generation)
            .await?
        {
            Answer::Generation { current, floor } => Ok((current, floor)),
            _ => Err(WorkError::OtherAnswer {
                group,
                asked: "the generation",
            }),
        }
    }

    pub fn node(&self, disk: DiskId) -> Result<StorageNodeClient, WorkError> {
        self.cluster
            .manager()
            .node_of_disk(disk)
            .ok_or(WorkError::UnknownDisk(disk))
    }

    /// Lets a disk that is being emptied take nothing more.
    pub async fn seal(&self, disk: DiskId, epoch: Epoch) -> Result<(), WorkError> {
        let node = self.node(disk)?;
        let request = SealRequest { disk, epoch };
        let limit = SEAL_DEADLINE;
        let sealed = within(&*self.env.clock, limit, node.seal(&request)).await;
        let sealed = sealed
            .unwrap_or_else(|| Err(holdfast_runtime::TransportError::Deadline { limit }.into()));
        sealed.map_err(|source| WorkError::AskNode {
            attempted: "to take nothing more",
            disk,
            source,
        })
    }

    /// A page of a disk's fragments.
    pub async fn files(
        &self,
        disk: DiskId,
        after: Option<FragmentId>,
        before: Option<FragmentId>,
    ) -> Result<Files, WorkError> {
        let node = self.node(disk)?;
        let request = FilesRequest {
            disk: Some(disk),
            after,
            before,
            limit: FILES_PAGE,
        };
        let limit = NODE_DEADLINE;
        within(&*self.env.clock, limit, node.files(&request))
            .await
            .unwrap_or_else(|| Err(holdfast_runtime::TransportError::Deadline { limit }.into()))
            .map_err(|source| WorkError::AskNode {
                attempted: "a list of fragments",
                disk,
                source,
            })
    }

    /// What a disk holds of a group, summed up.
    pub async fn digests(&self, disk: DiskId, group: GroupId) -> Result<Digests, WorkError> {
        let node = self.node(disk)?;
        let request = DigestsRequest { disk, group };
        let limit = NODE_DEADLINE;
        within(&*self.env.clock, limit, node.digests(&request))
            .await
            .unwrap_or_else(|| Err(holdfast_runtime::TransportError::Deadline { limit }.into()))
            .map_err(|source| WorkError::AskNode {
                attempted: "the sums of its fragments",
                disk,
                source,
            })
    }

    /// Deletes fragments from a disk, only those of a generation below `below`
    /// where that is given.
    pub async fn delete(
        &self,
        disk: DiskId,
        ids: &[FragmentId],
        below: Option<Generation>,
    ) -> Result<(), WorkError> {
        let node = self.node(disk)?;
        let limit = NODE_DEADLINE;
        for ids in ids.chunks(DELETE_AT_ONCE) {
            let request = FragmentIds {
                disk,
                ids: ids.to_vec(),
                below,
            };
            within(&*self.env.clock, limit, node.delete(&request))
                .await
                .unwrap_or_else(|| Err(holdfast_runtime::TransportError::Deadline { limit }.into()))
                .map_err(|source| WorkError::AskNode {
                    attempted: "a delete",
                    disk,
                    source,
                })?;
        }
        Ok(())
    }
}

/// Whether an error says that the group has moved on since it was looked at.
pub(crate) fn is_refusal(error: &WorkError) -> bool {
    matches!(
        error,
        WorkError::AskGroup {
            source: ClusterError::Refused(_),
            ..
        }
    )
}

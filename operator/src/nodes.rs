//! What the storage nodes themselves say, asked over the cluster's own protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_client::StorageNodeClient;
use holdfast_client::census::{Counts, GroupCensuses, sum_up, take_report};
use holdfast_client::error::CallError;
use holdfast_client::time::median_time;
use holdfast_metadata::command::{ClusterCommand, Command, Outcome};
use holdfast_metadata::protocol::{FinalizeRequest, PermitRequest, ProposeRequest, Status};
use holdfast_model::{
    ActiveRelease, ClusterId, ClusterState, DiskId, Epoch, GroupId, LayoutNode, NodeId, NodeState,
    Permit, Release, RequestId,
};
use holdfast_runtime::{Address, Env};

/// How long group 0 may take over a command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

/// What the nodes of one cluster say at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// What each node says that answers, by its ordinal.
    pub nodes: BTreeMap<u32, Status>,
    /// The newest state that any of them knows.
    pub state: Option<ClusterState>,
    /// The newest count of each group.
    pub censuses: GroupCensuses,
    /// Who leads each group and has heard from a majority lately.
    pub leaders: BTreeMap<GroupId, DiskId>,
    /// Tasks that wait or run.
    pub tasks: u64,
    /// Chunks that repair and drain have still to copy.
    pub chunks_to_copy: u64,
}

impl Sight {
    /// The identity of the cluster, once a node has one.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.nodes.values().find_map(|status| status.cluster)
    }

    /// The layout's node that is called at `address` and was not given up.
    pub fn node_at(&self, address: &str) -> Option<&LayoutNode> {
        let layout = &self.state.as_ref()?.layout;
        let here = layout.nodes.values().filter(|node| node.address == address);
        // A node that was replaced has the same address as the one before.
        here.min_by_key(|node| (node.state == NodeState::Lost, node.state == NodeState::Down))
    }

    /// A node of the layout.
    pub fn node(&self, id: NodeId) -> Option<&LayoutNode> {
        self.state.as_ref()?.layout.nodes.get(&id)
    }

    /// Whether a node answers now.
    pub fn answers(&self, id: NodeId) -> bool {
        self.nodes.values().any(|status| status.node == id)
    }

    /// The permit that is held.
    pub fn permit(&self) -> Option<&Permit> {
        self.state.as_ref()?.permit.as_ref()
    }

    /// Whether group 0 and every other group have a leader.
    pub fn all_led(&self) -> bool {
        self.state.as_ref().is_some_and(|state| {
            let groups = &state.layout.groups;
            groups.keys().all(|group| self.leaders.contains_key(group))
        })
    }

    /// The counts of all groups, of the layout that is; `None` while one of
    /// them has not been counted in it.
    pub fn counts(&self) -> Option<Counts> {
        let layout = &self.state.as_ref()?.layout;
        sum_up(&self.censuses, layout).complete()
    }

    /// Objects whose bytes are in fragments, by the newest count of each group that
    /// keeps objects.
    pub fn counted_objects(&self) -> u64 {
        let groups = self
            .state
            .iter()
            .flat_map(|state| state.layout.data_groups());
        let counted = groups.filter_map(|group| self.censuses.get(&group));
        counted.map(|census| census.objects).sum()
    }
}

/// Calls the nodes of one cluster.
#[derive(Clone)]
pub struct Nodes {
    env: Env,
    addresses: BTreeMap<u32, Address>,
}

impl Nodes {
    /// The nodes at these addresses, by ordinal.
    pub fn new(env: Env, addresses: BTreeMap<u32, Address>) -> Self {
        Self { env, addresses }
    }

    /// The world that calls go through.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Where a node is called.
    pub fn address(&self, ordinal: u32) -> Option<&Address> {
        self.addresses.get(&ordinal)
    }

    /// The identity of a new request: by the nodes' time, since groups tell by
    /// it for how long they remember it, and this machine's clock may be off.
    fn request_id(&self, sight: &Sight) -> RequestId {
        let told = median_time(sight.nodes.values().map(|status| status.now));
        let time = told.unwrap_or_else(|| self.env.clock.wall());
        self.env.entropy.request_id_at(time)
    }

    fn client(&self, address: &Address) -> StorageNodeClient {
        StorageNodeClient::new(self.env.transport.clone(), address.clone())
    }

    /// Asks all nodes at once; those that do not answer within a second are
    /// left out.
    pub async fn look(&self) -> Sight {
        let asked = self.addresses.iter().map(|(ordinal, address)| async move {
            let client = self.client(address);
            let (status, census) = tokio::join!(client.status(), client.census());
            (*ordinal, status.ok(), census.ok())
        });
        let mut sight = Sight::default();
        let mut furthest: BTreeMap<GroupId, (bool, u64, u64)> = BTreeMap::new();
        for (ordinal, status, census) in join_all(asked).await {
            if let Some(report) = census {
                take_report(&mut sight.censuses, &report);
                sight.chunks_to_copy += report.chunks_to_copy;
            }
            let Some(mut status) = status else { continue };
            take_newer(&mut sight.state, status.state.take());
            for group in &status.groups {
                let leads = group.active && group.leader == Some(status.disk);
                if leads {
                    sight.leaders.insert(group.group, status.disk);
                }
                let totals = &group.totals;
                let tasks = totals.tasks_pending + totals.tasks_running;
                let known = furthest.entry(group.group).or_default();
                if (leads, group.applied) > (known.0, known.1) {
                    *known = (leads, group.applied, tasks);
                }
            }
            sight.nodes.insert(ordinal, status);
        }
        sight.tasks = furthest.values().map(|group| group.2).sum();
        sight
    }

    /// Has group 0 change the cluster's state.
    ///
    /// # Errors
    /// When it refuses, has no leader, or does not answer in time.
    pub async fn command(
        &self,
        sight: &Sight,
        command: ClusterCommand,
    ) -> Result<Outcome, CallError> {
        let leader = sight.leaders.get(&GroupId::CLUSTER);
        let at = sight
            .nodes
            .iter()
            .find(|(_, status)| Some(&status.disk) == leader)
            .and_then(|(ordinal, _)| self.addresses.get(ordinal));
        let Some(address) = at else {
            return Err(CallError::Node(
                holdfast_metadata::protocol::NodeError::NoQuorum,
            ));
        };
        let request = ProposeRequest {
            group: GroupId::CLUSTER,
            id: self.request_id(sight),
            command: Command::Cluster(Box::new(command)),
        };
        self.client(address)
            .propose(&request, COMMAND_DEADLINE, None)
            .await
    }

    /// Takes the maintenance permit for a node, through any other that answers.
    ///
    /// # Errors
    /// Why it is not granted.
    pub async fn take_permit(
        &self,
        sight: &Sight,
        node: NodeId,
        reason: &str,
    ) -> Result<Permit, CallError> {
        self.ask_for_permit(sight, node, reason, false).await
    }

    /// The same although objects lack copies, or are not counted.
    ///
    /// # Errors
    /// Why it is not granted all the same.
    pub async fn take_permit_degraded(
        &self,
        sight: &Sight,
        node: NodeId,
        reason: &str,
    ) -> Result<Permit, CallError> {
        self.ask_for_permit(sight, node, reason, true).await
    }

    async fn ask_for_permit(
        &self,
        sight: &Sight,
        node: NodeId,
        reason: &str,
        degraded: bool,
    ) -> Result<Permit, CallError> {
        let request = PermitRequest {
            node,
            reason: reason.to_owned(),
            degraded,
        };
        self.any(sight, Some(node))?.take_permit(&request).await
    }

    /// Gives the permit back.
    ///
    /// # Errors
    /// When it is another one by now, or nobody answers.
    pub async fn release_permit(
        &self,
        sight: &Sight,
        node: NodeId,
        epoch: Epoch,
    ) -> Result<(), CallError> {
        self.any(sight, Some(node))?.release_permit(epoch).await
    }

    /// Lets the cluster write the formats of a release.
    ///
    /// # Errors
    /// Why not, or when nobody answers.
    pub async fn finalize(&self, sight: &Sight, to: Release) -> Result<ActiveRelease, CallError> {
        let id = self.request_id(sight);
        self.any(sight, None)?
            .finalize(&FinalizeRequest { to, id })
            .await
    }

    /// A node that answers, rather not the one that it is about.
    fn any(&self, sight: &Sight, about: Option<NodeId>) -> Result<StorageNodeClient, CallError> {
        let mut answering: Vec<_> = sight.nodes.iter().collect();
        answering.sort_by_key(|(_, status)| Some(status.node) == about);
        answering
            .into_iter()
            .find_map(|(ordinal, _)| self.addresses.get(ordinal))
            .map(|address| self.client(address))
            .ok_or(CallError::Node(
                holdfast_metadata::protocol::NodeError::NoQuorum,
            ))
    }
}

fn take_newer(known: &mut Option<ClusterState>, other: Option<Box<ClusterState>>) {
    let Some(other) = other else { return };
    if known
        .as_ref()
        .is_none_or(|known| other.revision > known.revision)
    {
        *known = Some(*other);
    }
}

//! How a cluster begins: exactly one party, told by a setting, founds it.
//!
//! It asks every first member who it is. If one of them holds a cluster id, that
//! cluster is adopted, never a new one founded. Otherwise it writes the first
//! state down before it sends it, so that a crash in between goes on with the
//! same cluster and not with a second one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_client::StorageNodeClient;
use holdfast_metadata::protocol::{self, Bootstrap, Status};
use holdfast_model::cluster::FILES_BUCKET;
use holdfast_model::layout::{DEFAULT_GROUPS, initial_slots};
use holdfast_model::{
    AccessKey, AccessKeyId, Bucket, BucketId, BucketName, ClusterId, ClusterState, DiskId, Epoch,
    GroupId, Layout, LayoutNode, NodeState, ObjectTimes, Redundancy, Role, Timestamp,
};
use holdfast_runtime::disk::{read_file, replace_file};
use holdfast_runtime::{Address, Disk, Env};
use sha2::{Digest, Sha256};

/// The file that holds the first state of a cluster being founded.
const PLAN_FILE: &str = "founding";
/// Between two rounds of asking.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Why no cluster was founded.
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// The first members belong to more than one cluster.
    #[error("the first members belong to different clusters ({}): give those that are to join an empty data directory", .0.join(", "))]
    DifferentClusters(Vec<String>),
    /// Two members are the same node.
    #[error("{0} and {1} are the same node: every member needs a data directory of its own")]
    SameNode(Address, Address),
    /// The plan could not be kept.
    #[error("keeping the first state of the cluster: {0}")]
    Disk(#[from] std::io::Error),
    /// The plan on disk is damaged.
    #[error("the file {PLAN_FILE} in the data directory is damaged: {0}")]
    Damaged(String),
    /// A member refused.
    #[error("{member} refuses to be founded: {reason}")]
    Refused {
        /// Who.
        member: Address,
        /// Why.
        reason: String,
    },
}

/// The first credential of a cluster.
#[derive(Clone, Debug)]
pub struct FirstKey {
    /// SHA-256 of its token.
    pub token_sha256: [u8; 32],
}

impl FirstKey {
    /// The key of a token.
    pub fn of(token: &str) -> Self {
        Self {
            token_sha256: Sha256::digest(token.as_bytes()).into(),
        }
    }

    /// Its public half: a hash of the hash, so that it says nothing of the token.
    pub fn id(&self) -> AccessKeyId {
        let digest = Sha256::digest(self.token_sha256);
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
        AccessKeyId::from_bytes(id)
    }
}

/// Founds the cluster of `members`, or finds that it is founded. Waits until
/// all of them answer. `disk` is where the plan is kept; `key` and `times` are
/// those of a cluster that is founded now.
///
/// # Errors
/// [`BirthError`]: a person has to decide.
pub async fn found_cluster(
    env: &Env,
    disk: &dyn Disk,
    members: &[Address],
    key: &FirstKey,
    times: ObjectTimes,
) -> Result<ClusterId, BirthError> {
    let statuses = ask_all(env, members).await;
    check_distinct(members, &statuses)?;
    let clusters: BTreeSet<_> = statuses
        .iter()
        .filter_map(|status| status.cluster)
        .collect();
    if clusters.len() > 1 {
        let named = members
            .iter()
            .zip(&statuses)
            .map(|(at, status)| {
                status
                    .cluster
                    .map_or_else(|| format!("{at}: none"), |id| format!("{at}: {id}"))
            })
            .collect();
        return Err(BirthError::DifferentClusters(named));
    }
    let kept = read_plan(disk)?;
    let plan = match (clusters.first(), kept) {
        // Founded, or being founded by an earlier start of ours.
        (Some(cluster), Some(kept)) if kept.cluster == *cluster => kept,
        (Some(cluster), _) => return Ok(*cluster),
        (None, Some(kept)) if same_members(&kept, &statuses) => kept,
        (None, _) => {
            let plan = plan_birth(env, &statuses, key, times);
            replace_file(disk, PLAN_FILE, &protocol::encode(&plan))?;
            plan
        }
    };
    for member in members {
        let client = StorageNodeClient::new(env.transport.clone(), member.clone());
        client
            .bootstrap(&Bootstrap {
                state: plan.clone(),
            })
            .await
            .map_err(|error| BirthError::Refused {
                member: member.clone(),
                reason: error.to_string(),
            })?;
    }
    Ok(plan.cluster)
}

fn read_plan(disk: &dyn Disk) -> Result<Option<ClusterState>, BirthError> {
    match read_file(disk, PLAN_FILE)? {
        None => Ok(None),
        Some(bytes) => minicbor::decode(&bytes)
            .map(Some)
            .map_err(|error| BirthError::Damaged(error.to_string())),
    }
}

fn same_members(plan: &ClusterState, statuses: &[Status]) -> bool {
    let planned: BTreeSet<_> = plan.layout.nodes.keys().copied().collect();
    planned == statuses.iter().map(|status| status.node).collect()
}

async fn ask_all(env: &Env, members: &[Address]) -> Vec<Status> {
    let mut statuses = Vec::with_capacity(members.len());
    for member in members {
        let client = StorageNodeClient::new(env.transport.clone(), member.clone());
        loop {
            match client.status().await {
                Ok(status) => {
                    statuses.push(status);
                    break;
                }
                Err(error) => {
                    tracing::debug!(%member, %error, "a first member does not answer yet");
                    env.clock.sleep(ASK_AGAIN).await;
                }
            }
        }
    }
    statuses
}

fn check_distinct(members: &[Address], statuses: &[Status]) -> Result<(), BirthError> {
    let mut seen = BTreeMap::new();
    for (at, status) in members.iter().zip(statuses) {
        if let Some(other) = seen.insert(status.node, at) {
            return Err(BirthError::SameNode(Address::clone(other), at.clone()));
        }
    }
    Ok(())
}

/// The first state of a cluster of these nodes.
fn plan_birth(env: &Env, statuses: &[Status], key: &FirstKey, times: ObjectTimes) -> ClusterState {
    let now = env.clock.wall();
    let entropy = env.entropy.as_ref();
    let metadata_replicas = if statuses.len() < 3 { 1 } else { 3 };
    let copies = statuses.len().clamp(1, 3) as u8;
    let nodes: BTreeMap<_, _> = statuses
        .iter()
        .map(|status| (status.node, first_node(status)))
        .collect();
    let disks: Vec<DiskId> = nodes.values().map(|node| node.disk).collect();
    let groups = (0..=DEFAULT_GROUPS)
        .map(|group| (GroupId(group), members_of(group, &disks, metadata_replicas)))
        .collect();
    ClusterState {
        cluster: ClusterId::from_bytes(entropy.id()),
        revision: Epoch(1),
        layout: Layout {
            epoch: Epoch(1),
            redundancy: Redundancy::copies(copies),
            metadata_replicas,
            slots: initial_slots(DEFAULT_GROUPS),
            nodes,
            groups,
        },
        buckets: files_bucket(BucketId::from_bytes(entropy.id()), now),
        access_keys: vec![AccessKey {
            id: key.id(),
            token_sha256: key.token_sha256,
            role: Role::Admin,
            name: "admin".into(),
            created: now,
        }],
        permit: None,
        next_permit: Epoch(1),
        times,
    }
}

fn files_bucket(id: BucketId, created: Timestamp) -> Vec<Bucket> {
    BucketName::new(FILES_BUCKET)
        .map(|name| Bucket::new(id, name, created))
        .into_iter()
        .collect()
}

fn first_node(status: &Status) -> LayoutNode {
    let own_place = || {
        status
            .address
            .rsplit_once(':')
            .map_or(status.address.clone(), |(host, _)| host.to_owned())
    };
    // Nodes of one machine, as under `holdfast dev`, have one host name: the
    // node's id keeps their places apart.
    let zone = status
        .zone
        .clone()
        .unwrap_or_else(|| format!("{}-{}", own_place(), status.node));
    LayoutNode {
        id: status.node,
        disk: status.disk,
        address: status.address.clone(),
        zone: Some(zone.clone()),
        host: status.host.clone().or(Some(zone)),
        weight: 100,
        state: NodeState::Active,
        incarnation: status.incarnation,
    }
}

/// A group's first members: as many as asked for, another first one for each group.
fn members_of(group: u16, disks: &[DiskId], replicas: u8) -> Vec<DiskId> {
    let count = usize::from(replicas).min(disks.len());
    disks
        .iter()
        .cycle()
        .skip(usize::from(group) % disks.len().max(1))
        .take(count)
        .copied()
        .collect()
}

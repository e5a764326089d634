//! How a cluster begins: what its founder asks, decides and sends.
//!
//! There is exactly one founder: the node that is told so by a setting, or the
//! operator. It asks every first member who it is. If one of them holds a
//! cluster id, that cluster is adopted, never a new one founded. Otherwise it
//! makes the first state, keeps it where a crash does not reach it, and only
//! then sends it; a founder that comes back goes on with what it kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_metadata::protocol::{Bootstrap, Status};
use holdfast_model::cluster::FILES_BUCKET;
use holdfast_model::layout::{DEFAULT_GROUPS, initial_slots};
use holdfast_model::{
    AccessKey, AccessKeyId, ActiveRelease, Bucket, BucketId, BucketName, ClusterId, ClusterState,
    DiskId, Epoch, GroupId, Layout, LayoutNode, NodeId, NodeState, ObjectTimes, Redundancy,
    Release, Role, Timestamp,
};
use holdfast_runtime::{Address, Env};
use sha2::{Digest, Sha256};

use crate::node::StorageNodeClient;

/// Between two rounds of asking.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The weight of every first node.
const USUAL_WEIGHT: u32 = 100;

/// Why no cluster was founded: a person has to decide.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BirthError {
    /// The first members belong to more than one cluster.
    #[error("the first members belong to different clusters ({}): give those that are to join an empty data directory", .0.join(", "))]
    DifferentClusters(Vec<String>),
    /// Two members are the same node.
    #[error("{0} and {1} are the same node: every member needs a data directory of its own")]
    SameNode(Address, Address),
    /// No format is known to all members.
    #[error("the first members have no format in common: {} cannot read release {release}: give all members the same image", .lacking.join(", "))]
    Releases {
        /// The newest that the oldest of them writes.
        release: Release,
        /// Those that cannot read it.
        lacking: Vec<String>,
    },
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

/// Where a node is, as its founder knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its failure domain.
    pub zone: String,
    /// Its machine.
    pub host: String,
}

/// What the first state of a cluster is made of.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The first credential.
    pub key: FirstKey,
    /// The times that objects live by.
    pub times: ObjectTimes,
    /// Copies of everything; those of the usual three that there are nodes for
    /// where it is not given.
    pub copies: Option<u8>,
    /// Members of each metadata group; likewise.
    pub metadata_replicas: Option<u8>,
    /// Where nodes are that do not say it themselves.
    pub places: BTreeMap<NodeId, Place>,
}

impl Beginning {
    /// The usual redundancy, with nodes that know where they are.
    pub fn usual(key: FirstKey, times: ObjectTimes) -> Self {
        Self {
            key,
            times,
            copies: None,
            metadata_replicas: None,
            places: BTreeMap::new(),
        }
    }
}

/// What a founder has to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Birth {
    /// The members have a cluster already.
    Adopt(ClusterId),
    /// Send this state, which was kept before.
    GoOn(Box<ClusterState>),
    /// Make a state, keep it, send it.
    Begin,
}

/// Decides what a founder does with what the members say and with what it has
/// kept of an earlier attempt.
///
/// # Errors
/// [`BirthError`]: nothing may be founded.
pub fn decide_birth(
    members: &[Address],
    statuses: &[Status],
    kept: Option<ClusterState>,
) -> Result<Birth, BirthError> {
    check_distinct(members, statuses)?;
    check_releases(members, statuses)?;
    let clusters: BTreeSet<_> = statuses
        .iter()
        .filter_map(|status| status.cluster)
        .collect();
    if clusters.len() > 1 {
        let named = members
            .iter()
            .zip(statuses)
            .map(|(at, status)| {
                status
                    .cluster
                    .map_or_else(|| format!("{at}: none"), |id| format!("{at}: {id}"))
            })
            .collect();
        return Err(BirthError::DifferentClusters(named));
    }
    Ok(match (clusters.first(), kept) {
        // Founded, or being founded by an earlier start of the founder.
        (Some(cluster), Some(kept)) if kept.cluster == *cluster => Birth::GoOn(Box::new(kept)),
        (Some(cluster), _) => Birth::Adopt(*cluster),
        (None, Some(kept)) if same_members(&kept, statuses) => Birth::GoOn(Box::new(kept)),
        (None, _) => Birth::Begin,
    })
}

/// Asks every member who it is, until all have answered.
pub async fn ask_members(env: &Env, members: &[Address]) -> Vec<Status> {
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

/// Sends the first state to every member; those that have it take it again.
///
/// # Errors
/// [`BirthError::Refused`]: a member belongs to another cluster, or does not answer.
pub async fn send_birth(
    env: &Env,
    members: &[Address],
    state: &ClusterState,
) -> Result<(), BirthError> {
    for member in members {
        let client = StorageNodeClient::new(env.transport.clone(), member.clone());
        let request = Bootstrap {
            state: state.clone(),
        };
        client
            .bootstrap(&request)
            .await
            .map_err(|error| BirthError::Refused {
                member: member.clone(),
                reason: error.to_string(),
            })?;
    }
    Ok(())
}

fn same_members(plan: &ClusterState, statuses: &[Status]) -> bool {
    let planned: BTreeSet<_> = plan.layout.nodes.keys().copied().collect();
    planned == statuses.iter().map(|status| status.node).collect()
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

/// What all members can write: the oldest of them says.
fn first_formats(statuses: &[Status]) -> ActiveRelease {
    let newest = statuses.iter().map(|status| status.supports.newest());
    newest
        .min_by_key(|newest| (newest.wire, newest.disk))
        .unwrap_or_default()
}

fn check_releases(members: &[Address], statuses: &[Status]) -> Result<(), BirthError> {
    let formats = first_formats(statuses);
    let lacking: Vec<String> = members
        .iter()
        .zip(statuses)
        .filter(|(_, status)| status.cluster.is_none() && !status.supports.reads(formats))
        .map(|(at, _)| at.to_string())
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    Err(BirthError::Releases {
        release: formats.release,
        lacking,
    })
}

/// The first state of a cluster of these nodes.
pub fn plan_birth(env: &Env, statuses: &[Status], beginning: &Beginning) -> ClusterState {
    let now = env.clock.wall();
    let entropy = env.entropy.as_ref();
    let usual_replicas = if statuses.len() < 3 { 1 } else { 3 };
    let metadata_replicas = beginning.metadata_replicas.unwrap_or(usual_replicas);
    let usual_copies = statuses.len().clamp(1, 3) as u8;
    let copies = beginning.copies.unwrap_or(usual_copies);
    let nodes: BTreeMap<_, _> = statuses
        .iter()
        .map(|status| (status.node, first_node(status, &beginning.places)))
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
            id: beginning.key.id(),
            token_sha256: beginning.key.token_sha256,
            role: Role::Admin,
            name: "admin".into(),
            created: now,
        }],
        permit: None,
        next_permit: Epoch(1),
        times: beginning.times,
        active: first_formats(statuses),
    }
}

fn files_bucket(id: BucketId, created: Timestamp) -> Vec<Bucket> {
    BucketName::new(FILES_BUCKET)
        .map(|name| Bucket::new(id, name, created))
        .into_iter()
        .collect()
}

fn first_node(status: &Status, places: &BTreeMap<NodeId, Place>) -> LayoutNode {
    let own_place = || {
        status
            .address
            .rsplit_once(':')
            .map_or(status.address.clone(), |(host, _)| host.to_owned())
    };
    let assigned = places.get(&status.node);
    // Nodes of one machine, as under `holdfast dev`, have one host name: the
    // node's id keeps their places apart.
    let zone = status
        .zone
        .clone()
        .or_else(|| assigned.map(|place| place.zone.clone()))
        .unwrap_or_else(|| format!("{}-{}", own_place(), status.node));
    let host = status
        .host
        .clone()
        .or_else(|| assigned.map(|place| place.host.clone()));
    LayoutNode {
        id: status.node,
        disk: status.disk,
        address: status.address.clone(),
        host: host.or(Some(zone.clone())),
        zone: Some(zone),
        weight: USUAL_WEIGHT,
        state: NodeState::Active,
        incarnation: status.incarnation,
        supports: status.supports,
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

#[cfg(test)]
#[path = "birth_tests.rs"]
mod tests;

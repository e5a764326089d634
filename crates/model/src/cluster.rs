//! The cluster's own state, which group 0 keeps and everybody else caches.

use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::bucket::Bucket;
use crate::ids::{AccessKeyId, ClusterId, DiskId, Epoch, NodeId, Timestamp};
use crate::layout::Layout;
use crate::release::ActiveRelease;
use crate::times::ObjectTimes;

pub use crate::bucket::FILES_BUCKET;

/// Everything group 0 knows, numbered by its layout's epoch and by `revision`.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct ClusterState {
    /// The cluster.
    #[n(0)]
    pub cluster: ClusterId,
    /// Counts every change of this state.
    #[n(1)]
    pub revision: Epoch,
    /// Nodes, groups and slots.
    #[n(2)]
    pub layout: Layout,
    /// Buckets, by name.
    #[n(3)]
    pub buckets: Vec<Bucket>,
    /// Credentials.
    #[n(4)]
    pub access_keys: Vec<AccessKey>,
    /// Who may be doing maintenance now.
    #[n(5)]
    pub permit: Option<Permit>,
    /// The epoch that the next permit gets.
    #[n(6)]
    pub next_permit: Epoch,
    /// What every group is to go by.
    #[n(7)]
    #[cbor(default)]
    pub times: ObjectTimes,
    /// The formats that may be written.
    #[n(8)]
    #[cbor(default)]
    pub active: ActiveRelease,
}

impl ClusterState {
    /// The bucket of that name.
    pub fn bucket(&self, name: &str) -> Option<&Bucket> {
        self.buckets
            .iter()
            .find(|bucket| bucket.name.as_str() == name)
    }

    /// The credential whose token has this SHA-256.
    pub fn access_key(&self, token_sha256: &[u8; 32]) -> Option<&AccessKey> {
        self.access_keys
            .iter()
            .find(|key| &key.token_sha256 == token_sha256)
    }
}

/// What a credential may do.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, serde::Serialize, serde::Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, and sees every owner's files.
    #[n(0)]
    Admin,
    /// Upload, and list, describe and delete its own files.
    #[n(1)]
    User,
}

/// A credential. The token itself is never kept.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct AccessKey {
    /// Its public half, which owns objects.
    #[n(0)]
    pub id: AccessKeyId,
    /// SHA-256 of the token. Tokens carry at least 128 bits, so a fast hash is enough.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub token_sha256: [u8; 32],
    /// What it may do.
    #[n(2)]
    pub role: Role,
    /// What people call it.
    #[n(3)]
    pub name: String,
    /// When it was made.
    #[n(4)]
    pub created: Timestamp,
}

/// Why the permit is taken before all nodes are stopped together. Who has it for
/// this reason takes nobody's redundancy away: it is granted whatever the census.
pub const HIBERNATE: &str = "the operator puts the cluster to sleep";

/// For how long nobody is missed while a cluster falls asleep, and again while it
/// wakes up: as long as a node may take to start and to replay its logs.
pub const WAKE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The right to take one node away for a while, or all of them together
/// ([`HIBERNATE`]). There is one in a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Permit {
    /// Its number; who holds an older one holds none.
    #[n(0)]
    pub epoch: Epoch,
    /// The node.
    #[n(1)]
    pub node: NodeId,
    /// The node's disk.
    #[n(2)]
    pub disk: DiskId,
    /// Why.
    #[n(3)]
    pub reason: String,
    /// Since when.
    #[n(4)]
    pub granted: Timestamp,
}

impl Permit {
    /// Whether all nodes are stopped under it.
    pub fn is_for_sleep(&self) -> bool {
        self.reason == HIBERNATE
    }

    /// Whether nodes that are silent are excused, as seen by one that has been
    /// running for so long: the cluster falls asleep, or has not been awake for
    /// longer than its nodes may take to come. Whoever gives the permit back ends
    /// it sooner; one that nobody gives back excuses nobody for ever.
    pub fn excuses(&self, now: Timestamp, running: Duration) -> bool {
        let granted = Duration::from_millis(now.since(self.granted));
        self.is_for_sleep() && granted.min(running) < WAKE_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_excused_while_a_cluster_falls_asleep_and_for_a_while_when_it_wakes() {
        let granted = Timestamp(1_000_000);
        let permit = |reason: &str| Permit {
            epoch: Epoch(1),
            node: NodeId::from_bytes([1; 16]),
            disk: DiskId::from_bytes([2; 16]),
            reason: reason.into(),
            granted,
        };
        let asleep = permit(HIBERNATE);
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let after = |n: u64| granted.plus(n * 60_000);
        // It falls asleep: its nodes have been running for long.
        assert!(asleep.excuses(after(1), minutes(5_000)));
        // It wakes up after a month.
        assert!(asleep.excuses(after(43_200), minutes(29)));
        assert!(!asleep.excuses(after(43_200), minutes(30)));
        // It never fell asleep, and nobody gave the permit back.
        assert!(!asleep.excuses(after(30), minutes(5_000)));
        // A clock that is behind the one that granted it.
        assert!(asleep.excuses(Timestamp(0), minutes(5_000)));
        assert!(!permit("a person works on it").excuses(after(1), minutes(1)));
    }
}

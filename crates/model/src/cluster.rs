//! The cluster's own state, which group 0 keeps and everybody else caches.

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

/// The right to take one node away for a while. There is one in a cluster.
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

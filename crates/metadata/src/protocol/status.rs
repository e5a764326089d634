//! What a node says of itself and of its groups.

use std::collections::BTreeMap;

use holdfast_model::{
    ActiveRelease, ClusterId, ClusterState, DiskId, GroupId, NodeId, Supported, Timestamp,
};
use minicbor::{Decode, Encode};

use crate::query::Totals;

/// What a node says of itself. It costs no IO.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Status {
    /// The node.
    #[n(0)]
    pub node: NodeId,
    /// Its disk.
    #[n(1)]
    pub disk: DiskId,
    /// Its cluster, once it is born.
    #[n(2)]
    pub cluster: Option<ClusterId>,
    /// How often it has been started.
    #[n(3)]
    pub incarnation: u64,
    /// The wire format it writes.
    #[n(4)]
    pub wire_version: u32,
    /// Its wall clock.
    #[n(5)]
    pub now: Timestamp,
    /// What it knows of the cluster's state, perhaps an older one.
    #[n(6)]
    pub state: Option<Box<ClusterState>>,
    /// Its disk's room.
    #[n(7)]
    pub space: DiskStatus,
    /// The groups it carries.
    #[n(8)]
    pub groups: Vec<GroupStatus>,
    /// Whether it is shutting down.
    #[n(9)]
    pub draining: bool,
    /// Since when this process runs.
    #[n(10)]
    pub started: Timestamp,
    /// Where it wants to be called, as `host:port`.
    #[n(11)]
    pub address: String,
    /// Its zone, when it was told.
    #[n(12)]
    pub zone: Option<String>,
    /// Its machine, when it was told.
    #[n(13)]
    pub host: Option<String>,
    /// What its program can read and write.
    #[n(14)]
    #[cbor(default)]
    pub supports: Supported,
    /// The formats that its volume may hold, once it belongs to a cluster.
    #[n(15)]
    pub recorded: Option<ActiveRelease>,
    /// Whether calls of its disk begin and do not return: it leads nothing.
    #[n(16)]
    #[cbor(default)]
    pub disk_hangs: bool,
}

/// A disk's room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct DiskStatus {
    /// Bytes it can hold.
    #[n(0)]
    pub capacity: u64,
    /// Bytes that may still be written, the reserve not counted.
    #[n(1)]
    pub free: u64,
    /// Fragments.
    #[n(2)]
    pub fragments: u64,
    /// Their bytes.
    #[n(3)]
    pub fragment_bytes: u64,
    /// Fragments known to be corrupt.
    #[n(4)]
    pub corrupt: u64,
    /// Whether fragments are refused.
    #[n(5)]
    pub full: bool,
    /// Whether what travels inside commands is refused.
    #[n(6)]
    #[cbor(default)]
    pub inline_full: bool,
}

/// A group as one of its members sees it.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct GroupStatus {
    /// The group.
    #[n(0)]
    pub group: GroupId,
    /// Its leader, if one is known.
    #[n(1)]
    pub leader: Option<DiskId>,
    /// The term.
    #[n(2)]
    pub term: u64,
    /// The last applied index.
    #[n(3)]
    pub applied: u64,
    /// The last committed index.
    #[n(4)]
    pub committed: u64,
    /// Members that vote, by Raft number.
    #[n(5)]
    pub voters: Vec<u64>,
    /// Members that only follow.
    #[n(6)]
    pub learners: Vec<u64>,
    /// For leaders: the last index known to be on each member.
    #[n(7)]
    pub matched: BTreeMap<u64, u64>,
    /// The group's counts.
    #[n(8)]
    pub totals: Totals,
    /// Tasks that should be published now.
    #[n(9)]
    pub tasks_due: u64,
    /// Whether this member, as leader, has heard from a majority lately.
    #[n(10)]
    pub active: bool,
}

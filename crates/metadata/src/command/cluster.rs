//! Changes of the cluster's own state, in group 0.

use holdfast_model::layout::NodeState;
use holdfast_model::{
    AccessKey, AccessKeyId, ActiveRelease, BucketId, BucketName, DiskId, Epoch, Layout, NodeId,
    ObjectTimes, Supported, Versioning,
};
use minicbor::{Decode, Encode};

/// Changes of the cluster's own state. Each carries what it saw, and is refused
/// when that is old.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum ClusterCommand {
    /// A node starts: joins, or is seen again at its address with a new
    /// incarnation, which fences the older one. Refused when the disk's id or
    /// Raft number is another node's, and when its program cannot read what the
    /// cluster writes. Answers [`Outcome::Joined`].
    #[n(0)]
    Join {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Its disk.
        #[n(1)]
        disk: DiskId,
        /// Where it listens.
        #[n(2)]
        address: String,
        /// Its zone, when it knows it.
        #[n(3)]
        zone: Option<String>,
        /// Its machine, when it knows it.
        #[n(4)]
        host: Option<String>,
        /// How often its data directory has been started.
        #[n(5)]
        incarnation: u64,
        /// What its program can read and write.
        #[n(6)]
        #[cbor(default)]
        supports: Supported,
    },
    /// Replaces the layout: what the controller has computed from the one
    /// numbered `seen`. Answers [`Outcome::Done`].
    #[n(1)]
    SetLayout {
        /// The epoch it was computed from.
        #[n(0)]
        seen: Epoch,
        /// The new layout; the group gives it the next epoch.
        #[n(1)]
        layout: Layout,
    },
    /// Sets one node's state on someone's order. Answers [`Outcome::Done`].
    #[n(2)]
    SetNodeState {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// The state.
        #[n(1)]
        state: NodeState,
    },
    /// Assigns a node's place. Answers [`Outcome::Done`].
    #[n(3)]
    PlaceNode {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Its zone.
        #[n(1)]
        zone: String,
        /// Its machine.
        #[n(2)]
        host: Option<String>,
    },
    /// Adds a credential, or replaces the one with its id. Answers [`Outcome::Done`].
    #[n(4)]
    PutAccessKey(#[n(0)] AccessKey),
    /// Revokes a credential; refused for the last admin. Answers [`Outcome::Done`].
    #[n(5)]
    RevokeAccessKey(#[n(0)] AccessKeyId),
    /// Makes a bucket. It can be used once the groups know it. Answers [`Outcome::Done`].
    #[n(6)]
    CreateBucket {
        /// Its identity.
        #[n(0)]
        id: BucketId,
        /// Its name.
        #[n(1)]
        name: BucketName,
    },
    /// Takes the maintenance permit for a node. The caller has made sure that
    /// the census is clean. Answers [`Outcome::Permit`].
    #[n(7)]
    TakePermit {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Why.
        #[n(1)]
        reason: String,
    },
    /// Gives the permit back. Answers [`Outcome::Done`].
    #[n(8)]
    ReleasePermit {
        /// The permit's number.
        #[n(0)]
        epoch: Epoch,
    },
    /// Sets the times that objects live by; the groups are told. Objects whose
    /// deletion is planned already keep their time. Answers [`Outcome::Done`].
    #[n(9)]
    SetTimes(#[n(0)] ObjectTimes),
    /// Sets whether a bucket's objects have versions; once they had, there is
    /// no way back but to suspend. Answers [`Outcome::Done`].
    #[n(10)]
    SetVersioning {
        /// The bucket.
        #[n(0)]
        bucket: BucketId,
        /// Whether.
        #[n(1)]
        versioning: Versioning,
    },
    /// Begins to delete a bucket, or finds that it has begun. Refused for the
    /// bucket of files. Answers [`Outcome::Deleting`].
    #[n(11)]
    DeleteBucket {
        /// The bucket.
        #[n(0)]
        bucket: BucketId,
    },
    /// The groups were asked: goes on to remove the bucket, or back to serve
    /// it. Refused when that attempt is over, or further on. Answers
    /// [`Outcome::Done`].
    #[n(12)]
    SettleDeletion {
        /// The bucket.
        #[n(0)]
        bucket: BucketId,
        /// The attempt that they were asked for.
        #[n(1)]
        attempt: Epoch,
        /// Whether it was sealed and empty in all of them.
        #[n(2)]
        empty: bool,
    },
    /// All groups have forgotten the bucket: so does this one. Refused before
    /// it is being removed. Answers [`Outcome::Done`].
    #[n(13)]
    EndDeletion {
        /// The bucket.
        #[n(0)]
        bucket: BucketId,
        /// The attempt.
        #[n(1)]
        attempt: Epoch,
    },
    /// Lets the cluster write the formats of its next release: there is no way
    /// back. Refused while a node that counts cannot read them, and when they
    /// are not one step above those of now. Answers [`Outcome::Done`], also when
    /// they are those of now.
    #[n(14)]
    Finalize {
        /// The formats.
        #[n(0)]
        to: ActiveRelease,
    },
}

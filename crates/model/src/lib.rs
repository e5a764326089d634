//! The nouns of Holdfast and the pure decisions about them: identities, names,
//! redundancy, the layout of a cluster and where fragments are placed.
//!
//! Nothing here does IO, reads a clock or draws randomness; all of it can be
//! computed twice with the same result. Types that are stored or sent carry
//! `minicbor` field numbers: a number, once released, keeps its meaning, and
//! new fields are optional.

pub mod attributes;
pub mod bucket;
pub mod cluster;
pub mod duration;
pub mod fragment;
pub mod ids;
pub mod layout;
pub mod names;
pub mod placement;
pub mod record;
pub mod redundancy;
pub mod release;
pub mod task;
pub mod times;

pub use attributes::{ContentHeaders, PartSums, VersionKind};
pub use bucket::{Bucket, BucketDeletion, BucketFacts, DeletionPhase, Versioning};
pub use cluster::{AccessKey, ClusterState, HIBERNATE, Permit, Role, WAKE_LIMIT};
pub use fragment::{FragmentHeader, FragmentId};
pub use ids::{
    AccessKeyId, BucketId, ClusterId, DiskId, Epoch, Generation, GroupId, NodeId, RequestId, Slot,
    TaskId, TicketId, Timestamp, UploadId, VersionId,
};
pub use layout::{Layout, LayoutNode, NodeState, SLOTS};
pub use names::{BucketName, FileName, NameError, ObjectKey};
pub use record::{
    Chunk, Content, Derived, DerivedKind, DownloadLimit, FragmentPlace, ObjectRecord, Part,
    Representation,
};
pub use redundancy::Redundancy;
pub use release::{ActiveRelease, Release, Supported};
pub use task::{Task, TaskKind, TaskState};
pub use times::ObjectTimes;

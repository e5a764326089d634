//! Commands: what changes a group. Each is applied whole or not at all, in the
//! order of the group's log, with the leader's time.

mod cluster;
mod downloads;
mod facts;
mod objects;
mod outcome;
mod tasks;
mod upkeep;

use std::collections::BTreeMap;

use holdfast_model::{
    BucketId, Chunk, Derived, FragmentPlace, Generation, ObjectKey, Representation, RequestId,
    TaskId, TicketId, Timestamp, UploadId, VersionId,
};
use minicbor::{Decode, Encode};

pub use cluster::ClusterCommand;
pub use downloads::{ByteSpan, EndedRequest, RequestEnd};
pub use facts::{ClusterFacts, MAX_BUCKETS_TOLD};
pub use objects::{Condition, DeleteCause, DeleteVersion, NewMarker, NewTask, PutObject};
pub use outcome::{Outcome, Refusal};
pub use tasks::{AttemptResult, TaskAttempt};
pub use upkeep::{GarbageId, MissingFragment};

/// The most chunks in one command: 1 GiB of an object. Longer lists go ahead in
/// [`Command::AppendChunks`].
pub const MAX_CHUNKS_PER_COMMAND: usize = 128;
/// The most ended requests in one command: some tens of KiB.
pub const MAX_ENDS_PER_COMMAND: usize = 128;
/// How long an outcome is remembered, in milliseconds of the group's time.
pub const REMEMBER_OUTCOME_MILLIS: u64 = 15 * 60 * 1_000;
/// How long a worker may take over a task before it is taken from it.
pub const TASK_DEADLINE_MILLIS: u64 = 5 * 60 * 1_000;
/// How long a published task may stay unclaimed before it is published again.
pub const PUBLISH_DEADLINE_MILLIS: u64 = 60 * 1_000;
/// The most tasks of a group that wait in the queue.
pub const MAX_PUBLISHED_TASKS: u64 = 1_000;
/// How long an upload's intent holds the clean-up floor down without being renewed.
pub const INTENT_MILLIS: u64 = 60 * 60 * 1_000;

/// One entry of a group's log: the commands that waited together.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Batch {
    /// The leader's wall clock when it proposed them.
    #[n(0)]
    pub time: Timestamp,
    /// The commands, each with the id under which its outcome is remembered.
    #[n(1)]
    pub commands: Vec<Request>,
}

/// A command with its identity.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Request {
    /// The same on every retry.
    #[n(0)]
    pub id: RequestId,
    /// What is to be done.
    #[n(1)]
    pub command: Command,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum Command {
    /// Records that an upload goes on, so that the clean-up floor stays at or
    /// below its generation; sent again to renew it. Answers [`Outcome::Done`].
    #[n(0)]
    BeginUpload {
        /// The upload.
        #[n(0)]
        upload: UploadId,
        /// The generation its fragments carry.
        #[n(1)]
        generation: Generation,
        /// The bucket it is for.
        #[n(2)]
        bucket: BucketId,
        /// The object it is for.
        #[n(3)]
        key: ObjectKey,
    },
    /// Adds chunks to an upload that has begun. Answers [`Outcome::Done`].
    #[n(1)]
    AppendChunks {
        /// The upload.
        #[n(0)]
        upload: UploadId,
        /// The chunks; a repeated one replaces the first.
        #[n(1)]
        chunks: Vec<Chunk>,
    },
    /// Gives an upload up: its chunks become garbage. Answers [`Outcome::Done`].
    #[n(2)]
    AbortUpload {
        /// The upload.
        #[n(0)]
        upload: UploadId,
    },
    /// Commits an object. Answers [`Outcome::Put`].
    #[n(3)]
    PutObject(#[n(0)] Box<PutObject>),
    /// Deletes an object of a bucket that never had versions, or the version
    /// that is named. Answers [`Outcome::Deleted`].
    #[n(4)]
    DeleteObject {
        /// Its bucket.
        #[n(0)]
        bucket: BucketId,
        /// Its key.
        #[n(1)]
        key: ObjectKey,
        /// Only this version, if it is still the one.
        #[n(2)]
        version: Option<VersionId>,
        /// Why: a person's wish is done at once, expiry is checked again
        /// against the group's time.
        #[n(3)]
        cause: DeleteCause,
    },
    /// Swaps how an object is stored. Answers [`Outcome::Done`], or refuses
    /// when the task's attempt or the version is old.
    #[n(5)]
    SwapRepresentation {
        /// Its bucket.
        #[n(0)]
        bucket: BucketId,
        /// Its key.
        #[n(1)]
        key: ObjectKey,
        /// The version whose bytes these are.
        #[n(2)]
        version: VersionId,
        /// How it is to be stored.
        #[n(3)]
        representation: Representation,
        /// Chunks of the new upload that were not appended before.
        #[n(4)]
        chunks: Vec<Chunk>,
        /// The task that did it, and which attempt.
        #[n(5)]
        task: TaskAttempt,
        /// The generation of the new fragments.
        #[n(6)]
        generation: Generation,
    },
    /// Adds what a worker made of an object, and finishes the task. Answers [`Outcome::Done`].
    #[n(6)]
    AttachDerived {
        /// Its bucket.
        #[n(0)]
        bucket: BucketId,
        /// Its key.
        #[n(1)]
        key: ObjectKey,
        /// The version it was made of.
        #[n(2)]
        version: VersionId,
        /// What was made; replaces one of the same kind.
        #[n(3)]
        derived: Box<Derived>,
        /// Its chunks, if it has any.
        #[n(4)]
        chunks: Vec<Chunk>,
        /// The task that did it, and which attempt.
        #[n(5)]
        task: TaskAttempt,
        /// The generation of the new fragments.
        #[n(6)]
        generation: Generation,
    },
    /// Takes one from an object's download limit. Answers [`Outcome::Reserved`].
    #[n(7)]
    ReserveDownload {
        /// The object's bucket.
        #[n(0)]
        bucket: BucketId,
        /// Its key.
        #[n(1)]
        key: ObjectKey,
        /// The version that the client asked for and may have.
        #[n(2)]
        version: VersionId,
        /// The ticket to be.
        #[n(3)]
        ticket: TicketId,
        /// The bytes of the first request, as `first..end`.
        #[n(4)]
        range: ByteSpan,
    },
    /// A further request of the same download. Answers [`Outcome::Reserved`].
    #[n(8)]
    UseTicket {
        /// The object's bucket.
        #[n(0)]
        bucket: BucketId,
        /// Its key.
        #[n(1)]
        key: ObjectKey,
        /// The ticket.
        #[n(2)]
        ticket: TicketId,
        /// The bytes it wants; each is served at most twice.
        #[n(3)]
        range: ByteSpan,
    },
    /// A request under a ticket has ended. Answers [`Outcome::Done`].
    #[n(9)]
    EndRequest {
        /// The object's bucket.
        #[n(0)]
        bucket: BucketId,
        /// Its key.
        #[n(1)]
        key: ObjectKey,
        /// The ticket.
        #[n(2)]
        ticket: TicketId,
        /// The bytes that were reserved for it.
        #[n(3)]
        range: ByteSpan,
        /// What became of it.
        #[n(4)]
        end: RequestEnd,
    },
    /// Marks up to `limit` tasks that are due as published and answers
    /// [`Outcome::Tasks`]: whoever asked puts them into the queue.
    #[n(10)]
    PublishTasks {
        /// At most so many.
        #[n(0)]
        limit: u32,
    },
    /// Claims a task for a worker. Answers [`Outcome::Claimed`].
    #[n(11)]
    ClaimTask {
        /// The task.
        #[n(0)]
        task: TaskId,
        /// Who claims it.
        #[n(1)]
        worker: String,
    },
    /// Ends an attempt at a task. Answers [`Outcome::Done`].
    #[n(12)]
    FinishTask {
        /// The task, and which attempt.
        #[n(0)]
        task: TaskAttempt,
        /// How it ended.
        #[n(1)]
        result: AttemptResult,
    },
    /// What time alone demands: expired objects get their delete task, late
    /// tickets and attempts are settled, old outcomes and done tasks forgotten.
    /// The leader proposes it when something is due. Answers [`Outcome::Done`].
    #[n(13)]
    Tick,
    /// Fragments that are not where the group thinks they are: removed from
    /// their chunks, which count as degraded until repaired. Answers [`Outcome::Done`].
    #[n(14)]
    ReportMissing {
        /// Which.
        #[n(0)]
        fragments: Vec<MissingFragment>,
    },
    /// Puts repaired or moved fragments into a chunk, if its fragments are
    /// still those that were seen. Answers [`Outcome::Done`].
    #[n(15)]
    ReplaceFragments {
        /// The upload that owns the chunk.
        #[n(0)]
        upload: UploadId,
        /// The chunk.
        #[n(1)]
        chunk: u32,
        /// The fragments when the repair began.
        #[n(2)]
        seen: Vec<FragmentPlace>,
        /// The fragments now. What was seen and is gone here becomes garbage.
        #[n(3)]
        now: Vec<FragmentPlace>,
        /// The generation of the new fragments.
        #[n(4)]
        generation: Generation,
    },
    /// Fragments of garbage that are gone from their disks, or whose disks are.
    /// Answers [`Outcome::Done`].
    #[n(16)]
    CollectedGarbage {
        /// The uploads of which nothing is left.
        #[n(0)]
        items: Vec<GarbageId>,
    },
    /// Begins a new clean-up generation: new uploads carry the next number.
    /// Answers [`Outcome::Generation`].
    #[n(17)]
    AdvanceGeneration,
    /// Raises the floor to `to`, or as far as running uploads allow: commits
    /// of a generation below it are refused from now on. Answers [`Outcome::Generation`].
    #[n(18)]
    RaiseFloor {
        /// The floor wanted.
        #[n(0)]
        to: Generation,
    },
    /// A change of the cluster's own state; for group 0 alone.
    #[n(19)]
    Cluster(#[n(0)] Box<ClusterCommand>),
    /// What a group is to know of the cluster's state. What it knows already of
    /// a later revision stays. Refused when a bucket to forget is not sealed and
    /// empty. Answers [`Outcome::Done`].
    #[n(20)]
    Learn(#[n(0)] Box<ClusterFacts>),
    /// Deletes an object, or a version of one, as S3 does. Answers
    /// [`Outcome::Deleted`] or [`Outcome::Marked`].
    #[n(21)]
    DeleteVersion(#[n(0)] Box<DeleteVersion>),
    /// Requests under tickets have ended, each as by [`Command::EndRequest`].
    /// One that is refused changes nothing and keeps none of the others from
    /// counting. Answers [`Outcome::Done`].
    #[n(22)]
    EndRequests {
        /// At most [`MAX_ENDS_PER_COMMAND`].
        #[n(0)]
        ends: Vec<EndedRequest>,
    },
    /// Gives a version of an object other tags. Answers [`Outcome::Put`].
    #[n(23)]
    SetTags {
        /// The object's bucket.
        #[n(0)]
        bucket: BucketId,
        /// Its key.
        #[n(1)]
        key: ObjectKey,
        /// Which version; the current one without it.
        #[n(2)]
        version: Option<VersionId>,
        /// All of its tags from now on.
        #[n(3)]
        tags: BTreeMap<String, String>,
    },
}

//! Commands: what changes a group. Each is applied whole or not at all, in the
//! order of the group's log, with the leader's time.

use holdfast_model::ids::{
    AccessKeyId, BucketId, DiskId, Epoch, Generation, NodeId, RequestId, TaskId, TicketId,
    Timestamp, UploadId, VersionId,
};
use holdfast_model::layout::NodeState;
use holdfast_model::{
    AccessKey, BucketName, Chunk, ClusterState, Derived, FragmentPlace, Layout, ObjectKey,
    ObjectRecord, Permit, Representation, Task, TaskKind,
};
use minicbor::{Decode, Encode};

/// The most chunks in one command: 1 GiB of an object. Longer lists go ahead in
/// [`Command::AppendChunks`].
pub const MAX_CHUNKS_PER_COMMAND: usize = 128;
/// How long an outcome is remembered, in milliseconds of the group's time.
pub const REMEMBER_OUTCOME_MILLIS: u64 = 15 * 60 * 1_000;
/// How long a worker may take over a task before it is taken from it.
pub const TASK_DEADLINE_MILLIS: u64 = 5 * 60 * 1_000;
/// How long a published task may stay unclaimed before it is published again.
pub const PUBLISH_DEADLINE_MILLIS: u64 = 60 * 1_000;
/// The most tasks of a group that wait in the queue.
pub const MAX_PUBLISHED_TASKS: u64 = 1_000;
/// How long a ticket is good after the last byte it served.
pub const TICKET_IDLE_MILLIS: u64 = 60 * 60 * 1_000;
/// How long a ticket is good at most.
pub const TICKET_MAX_MILLIS: u64 = 24 * 60 * 60 * 1_000;
/// How long the data of an expired object is kept, so that a jump of the clock can be undone.
pub const EXPIRY_GRACE_MILLIS: u64 = 60 * 60 * 1_000;
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
    /// Deletes an object. Answers [`Outcome::Deleted`].
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
}

/// A commit.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct PutObject {
    /// The object. `created` and `revision` are set by the group; `downloads.left` too.
    #[n(0)]
    pub record: ObjectRecord,
    /// Chunks that were not appended before; they are the last part's.
    #[n(1)]
    pub chunks: Vec<Chunk>,
    /// The generation its fragments carry; `None` when it has none (inline).
    #[n(2)]
    pub generation: Option<Generation>,
    /// What the workers are to do with it.
    #[n(3)]
    pub tasks: Vec<NewTask>,
    /// On which condition.
    #[n(4)]
    pub condition: Condition,
    /// The lifetime in milliseconds; the group's time of the commit plus this
    /// is the expiry.
    #[n(5)]
    pub lifetime_millis: Option<u64>,
}

/// A task to be.
#[derive(Clone, Copy, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct NewTask {
    /// Its identity.
    #[n(0)]
    pub id: TaskId,
    /// What is to be done.
    #[n(1)]
    pub kind: TaskKind,
}

/// On which condition a commit is made.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Condition {
    /// None: it replaces what is there.
    #[n(0)]
    Always,
    /// No object has the key.
    #[n(1)]
    Absent,
    /// The object has this entity tag.
    #[n(2)]
    Matches(#[n(0)] String),
    /// No object has the key, or one that the same request made (its
    /// fingerprint is the same): then the answer is that object.
    #[n(3)]
    Idempotent,
}

/// Why an object is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum DeleteCause {
    /// Its owner, or who holds the token, wishes it.
    #[n(0)]
    Wish,
    /// It has expired. Refused if by the group's time it has not.
    #[n(1)]
    Expired,
    /// Its downloads are used up and settled. Refused if they are not.
    #[n(2)]
    Exhausted,
}

/// Bytes `first..end` of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct ByteSpan {
    /// The first.
    #[n(0)]
    pub first: u64,
    /// The one after the last.
    #[n(1)]
    pub end: u64,
}

/// What became of a request under a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum RequestEnd {
    /// Bytes were sent, all or some: they count.
    #[n(0)]
    Sent,
    /// No byte of the body was sent, or our side failed: the span is given
    /// back, and the download too if nothing else was sent under the ticket.
    #[n(1)]
    GivenBack,
}

/// A task's attempt: the fencing token of a worker's result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct TaskAttempt {
    /// The task.
    #[n(0)]
    pub task: TaskId,
    /// Which attempt, counted from 1.
    #[n(1)]
    pub attempt: u32,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum AttemptResult {
    /// Done, or found to need nothing.
    #[n(0)]
    Done,
    /// Failed; to be tried again after `after_millis`, unless it was the last attempt.
    #[n(1)]
    Retry {
        /// Why.
        #[n(0)]
        error: String,
        /// Back-off.
        #[n(1)]
        after_millis: u64,
    },
    /// Failed, and would again: the input is at fault.
    #[n(2)]
    Final {
        /// Why.
        #[n(0)]
        error: String,
    },
}

/// A fragment that is not where it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct MissingFragment {
    /// The upload that owns the chunk.
    #[n(0)]
    pub upload: UploadId,
    /// The chunk.
    #[n(1)]
    pub chunk: u32,
    /// Where the fragment should be. Without effect if the group has it
    /// elsewhere by now.
    #[n(2)]
    pub place: FragmentPlace,
}

/// A row of garbage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(array)]
pub struct GarbageId {
    /// From when on it may be collected.
    #[n(0)]
    pub due: Timestamp,
    /// Whose fragments.
    #[n(1)]
    pub upload: UploadId,
    /// Which chunk.
    #[n(2)]
    pub chunk: u32,
    /// Distinguishes rows of one chunk.
    #[n(3)]
    pub serial: u64,
}

/// Changes of the cluster's own state. Each carries what it saw, and is refused
/// when that is old.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum ClusterCommand {
    /// A node starts: joins, or is seen again at its address with a new
    /// incarnation, which fences the older one. Refused when the disk's id or
    /// Raft number is another node's. Answers [`Outcome::Joined`].
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
    /// Makes a bucket. Answers [`Outcome::Done`].
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
}

/// What became of a command. Remembered by the request's id.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum Outcome {
    /// Done, with nothing to tell.
    #[n(0)]
    Done,
    /// The object as it was committed, without its inline bytes.
    #[n(1)]
    Put(#[n(0)] Box<ObjectRecord>),
    /// The version that was deleted.
    #[n(2)]
    Deleted(#[n(0)] VersionId),
    /// A download was reserved, or goes on, until `deadline`; what is left of the limit.
    #[n(3)]
    Reserved {
        /// Downloads left after this one.
        #[n(0)]
        left: u32,
        /// When the ticket ends.
        #[n(1)]
        deadline: Timestamp,
    },
    /// Tasks to put into the queue.
    #[n(4)]
    Tasks(#[n(0)] Vec<Task>),
    /// The task, claimed; `attempts` is the attempt's number.
    #[n(5)]
    Claimed(#[n(0)] Box<Task>),
    /// The generation that new uploads carry, and the floor.
    #[n(6)]
    Generation {
        /// Of new uploads.
        #[n(0)]
        current: Generation,
        /// Below it commits are refused.
        #[n(1)]
        floor: Generation,
    },
    /// The cluster's state after a node's start.
    #[n(7)]
    Joined(#[n(0)] Box<ClusterState>),
    /// The permit.
    #[n(8)]
    Permit(#[n(0)] Permit),
    /// Refused; nothing was changed.
    #[n(9)]
    Refused(#[n(0)] Refusal),
}

/// Why a command was refused.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// The slot is another group's.
    #[error("the object belongs to another group")]
    #[n(0)]
    WrongGroup,
    /// No such object, or not that version of it.
    #[error("there is no such object")]
    #[n(1)]
    NoSuchObject,
    /// The object has expired.
    #[error("the object has expired")]
    #[n(2)]
    Expired,
    /// No downloads are left.
    #[error("the object has no downloads left")]
    #[n(3)]
    Exhausted,
    /// The condition is not met; the object's entity tag, where there is one.
    #[error("the condition is not met")]
    #[n(4)]
    ConditionFailed(#[n(0)] Option<String>),
    /// The same idempotency key came with another request.
    #[error("the idempotency key was used for another request")]
    #[n(5)]
    KeyReused,
    /// The upload is older than the clean-up floor, its intent is unknown, or a chunk is missing.
    #[error("the upload cannot be committed: {0}")]
    #[n(6)]
    UploadLost(#[n(0)] String),
    /// No such task, or not to be claimed now.
    #[error("the task cannot be claimed now")]
    #[n(7)]
    NotClaimable,
    /// The attempt is old, or the version has changed.
    #[error("the attempt is no longer the current one")]
    #[n(8)]
    Fenced,
    /// No such ticket, it has ended, or those bytes were served twice already.
    #[error("the ticket is no longer good: {0}")]
    #[n(9)]
    TicketEnded(#[n(0)] String),
    /// The state has changed since it was looked at.
    #[error("the state has changed meanwhile")]
    #[n(10)]
    Stale,
    /// The object cannot be deleted for that cause yet.
    #[error("not yet")]
    #[n(11)]
    NotYet,
    /// Another holds what was asked for.
    #[error("{0}")]
    #[n(12)]
    Held(#[n(0)] String),
    /// Makes no sense here.
    #[error("{0}")]
    #[n(13)]
    Invalid(#[n(0)] String),
    /// The outcome of this request id was forgotten.
    #[error("the outcome is no longer known")]
    #[n(14)]
    OutcomeUnknown,
}

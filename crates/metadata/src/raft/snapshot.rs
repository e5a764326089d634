//! Snapshots: the rows of a group from one view of the store, streamed to a
//! disk that lags too far, and staged there until Raft takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use holdfast_model::GroupId;
use holdfast_runtime::clock::within;
use holdfast_runtime::{Body, Call, Env, Fatal, OnFatal, TasksExt, TransportError};
use raft::eraftpb::Message;

use super::applier::{STAGED, read_members};
use super::peers::Identity;
use super::{AddressBook, Event, Inbox};
use crate::protocol::{self, GroupMessage, NodeError, RaftBatch};
use crate::store::{Rows, Store, StoreError};
use crate::wire;

/// A snapshot may take long: the stream has a deadline a piece, this is for all of it.
const SEND_DEADLINE: Duration = Duration::from_secs(600);
/// How often it is looked whether the receiver still takes it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the next piece of a snapshot may take.
const PIECE_DEADLINE: Duration = Duration::from_secs(30);
/// How long a receiver may take no piece, and give no answer after the last. By
/// then one that waits for a piece has given up as well, so that it is free for
/// the next snapshot. One that is still installing refuses the next, and tells
/// Raft what it has when it is done.
const QUIET_DEADLINE: Duration = Duration::from_secs(60);
/// Rows that travel together.
const PIECE_BYTES: usize = 1 << 20;
/// The longest row: a record with a full chunk list.
const MAX_ROW_BYTES: usize = 32 << 20;

/// What sending needs.
pub(super) struct SendParts {
    pub env: Env,
    pub identity: Identity,
    pub store: Arc<Store>,
    pub book: Arc<AddressBook>,
    pub inbox: Inbox,
}

/// Streams a group's rows to the receiver of `message`, in the background.
pub(super) fn send(parts: SendParts, group: GroupId, message: Message) {
    let env = parts.env.clone();
    env.tasks.spawn(
        "raft-snapshot",
        Box::pin(async move {
            let to = message.to;
            let done = match try_send(&parts, group, message).await {
                Ok(()) => true,
                Err(reason) => {
                    tracing::warn!(%group, to, reason, "a snapshot was not sent");
                    false
                }
            };
            let _ = parts
                .inbox
                .send(Event::SnapshotSent { group, to, done })
                .await;
        }),
    );
}

async fn try_send(parts: &SendParts, group: GroupId, mut message: Message) -> Result<(), String> {
    let (disk, address) = parts
        .book
        .address(message.to)
        .ok_or_else(|| "its address is not known".to_owned())?;
    let store = parts.store.clone();
    let opened = parts
        .env
        .tasks
        .blocking(move || open_rows(&store, group))
        .await;
    let rows = opened.ok_or("ending")?.map_err(|error| error.to_string())?;
    // What is sent is what the view holds, which may be later than what Raft
    // asked for.
    message.set_snapshot(wire::snapshot_of(rows.index, rows.term, &rows.members));
    let bytes = wire::encode_message(&message).map_err(|error| error.to_string())?;
    let batch = RaftBatch {
        cluster: parts.identity.cluster,
        from: parts.identity.disk,
        to: disk,
        incarnation: parts.identity.incarnation,
        sent: parts.env.clock.wall(),
        messages: vec![GroupMessage {
            group,
            message: bytes,
        }],
        knows: None,
        starts: Vec::new(),
    };
    let taken = Taken::new(parts.env.clone());
    let note = taken.clone();
    let pieces = row_pieces(parts.env.clone(), rows.rows).inspect(move |_| note.note());
    let call = Call {
        path: protocol::SNAPSHOT,
        head: protocol::encode(&batch),
        body: Body::stream(pieces),
        deadline: SEND_DEADLINE,
        request_id: None,
    };
    let reply = tokio::select! {
        biased;
        reply = parts.env.transport.call(&address, call) => reply.map_err(|e| e.to_string())?,
        reason = lost(parts, message.to, &taken) => return Err(reason.to_owned()),
    };
    let answer: Result<(), NodeError> =
        minicbor::decode(&reply.head).map_err(|error| error.to_string())?;
    answer.map_err(|error| error.to_string())
}

/// When the last piece was taken, or the call begun.
#[derive(Clone)]
struct Taken {
    env: Env,
    millis: Arc<AtomicU64>,
}

impl Taken {
    fn new(env: Env) -> Self {
        let taken = Self {
            env,
            millis: Arc::default(),
        };
        taken.note();
        taken
    }

    fn note(&self) {
        let millis = self.env.clock.monotonic().as_millis() as u64;
        self.millis.store(millis, Ordering::Relaxed);
    }

    fn quiet(&self) -> Duration {
        let taken = Duration::from_millis(self.millis.load(Ordering::Relaxed));
        self.env.clock.monotonic().saturating_sub(taken)
    }
}

/// Waits until no answer is to be hoped for, and says why. A connection whose
/// other end has gone may stay silent for long, and Raft sends the member
/// nothing else until it is told how the snapshot ended.
async fn lost(parts: &SendParts, to: u64, taken: &Taken) -> &'static str {
    let known = parts.book.incarnation(to);
    loop {
        // A member that was started again has forgotten what was being sent.
        if parts.book.incarnation(to) != known {
            return "its receiver was started anew meanwhile";
        }
        if taken.quiet() >= QUIET_DEADLINE {
            return "its receiver neither took more of it nor answered";
        }
        parts.env.clock.sleep(LOOK_EVERY).await;
    }
}

type RowIterator = Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + Send>;

/// A group's rows as of one moment.
pub struct GroupRows {
    /// The last applied index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The members then.
    pub members: wire::Members,
    /// The rows.
    pub rows: RowIterator,
}

/// Opens a view of a group's rows. Blocks.
pub fn open_rows(store: &Store, group: GroupId) -> Result<GroupRows, StoreError> {
    let view = store.snapshot()?;
    let rows = view.group(group);
    let (index, term) = rows.applied()?.unwrap_or_default();
    let members = read_members(&rows)?;
    Ok(GroupRows {
        index,
        term,
        members,
        rows: Box::new(view.rows(group)?),
    })
}

/// Rows as pieces of a stream: lengths of key and value (4 bytes each,
/// big-endian), then those.
pub fn row_pieces(
    env: Env,
    rows: RowIterator,
) -> impl futures_util::Stream<Item = Result<Bytes, TransportError>> + Send + 'static {
    stream::unfold(Some(rows), move |rows| {
        let env = env.clone();
        async move {
            let mut rows = rows?;
            let (piece, rows) = env
                .tasks
                .blocking(move || {
                    let piece = next_piece(&mut rows);
                    (piece, rows)
                })
                .await?;
            match piece {
                Ok(piece) if piece.is_empty() => None,
                Ok(piece) => Some((Ok(piece), Some(rows))),
                Err(error) => Some((
                    Err(TransportError::Broken {
                        reason: error.to_string(),
                    }),
                    None,
                )),
            }
        }
    })
}

fn next_piece(rows: &mut RowIterator) -> Result<Bytes, StoreError> {
    let mut piece = BytesMut::new();
    while piece.len() < PIECE_BYTES {
        let Some(row) = rows.next() else { break };
        let (key, value) = row?;
        piece.put_u32(key.len() as u32);
        piece.put_u32(value.len() as u32);
        piece.put_slice(&key);
        piece.put_slice(&value);
    }
    Ok(piece.freeze())
}

/// Takes whole rows off the front of what has come.
pub fn take_rows(buffer: &mut BytesMut) -> Result<Vec<(Bytes, Bytes)>, String> {
    let mut rows = Vec::new();
    while buffer.len() >= 8 {
        let mut head = buffer.as_ref();
        let (key, value) = (head.get_u32() as usize, head.get_u32() as usize);
        if key + value > MAX_ROW_BYTES {
            return Err("a row is too long".into());
        }
        if buffer.len() < 8 + key + value {
            break;
        }
        buffer.advance(8);
        let key = buffer.split_to(key).freeze();
        rows.push((key, buffer.split_to(value).freeze()));
    }
    Ok(rows)
}

/// Reads what a snapshot's rows are of.
pub(super) fn read_head(
    identity: &Identity,
    book: &AddressBook,
    head: &[u8],
) -> Result<(GroupId, Message), NodeError> {
    let invalid = NodeError::Invalid;
    let batch: RaftBatch = minicbor::decode(head).map_err(|error| invalid(error.to_string()))?;
    if batch.cluster != identity.cluster || batch.to != identity.disk {
        return Err(NodeError::Mistaken(format!(
            "this is disk {}",
            identity.disk
        )));
    }
    book.admit(batch.from, batch.incarnation)?;
    let one = batch
        .messages
        .first()
        .ok_or_else(|| invalid("no message".into()))?;
    let message = wire::decode_message(&one.message).map_err(|error| invalid(error.to_string()))?;
    if message.from != batch.from.raft_id() {
        return Err(NodeError::Mistaken("a message of another disk".into()));
    }
    Ok((one.group, message))
}

/// Where the rows of a snapshot are staged.
pub(super) struct Stage<'s> {
    pub env: &'s Env,
    pub store: &'s Arc<Store>,
    pub on_fatal: &'s OnFatal,
}

/// Receives rows and stages them. An error of the store ends the process, as it
/// does anywhere else: the store is good for nothing after it.
pub(super) async fn stage(stage: &Stage<'_>, group: GroupId, body: Body) -> Result<(), NodeError> {
    let invalid = NodeError::Invalid;
    let staged = GroupId(group.0 | STAGED);
    stage.write_rows(staged, Vec::new(), true).await?;
    let mut pieces = body.into_stream();
    let mut buffer = BytesMut::new();
    loop {
        // A sender that dies in silence must not keep the next one away.
        let piece = within(&*stage.env.clock, PIECE_DEADLINE, pieces.next())
            .await
            .ok_or_else(|| invalid("the rows ceased to come".into()))?;
        let Some(piece) = piece else { break };
        buffer.extend_from_slice(&piece.map_err(|error| invalid(error.to_string()))?);
        let rows = take_rows(&mut buffer).map_err(invalid)?;
        if !rows.is_empty() {
            stage.write_rows(staged, rows, false).await?;
        }
    }
    if !buffer.is_empty() {
        return Err(invalid("the rows are cut".into()));
    }
    Ok(())
}

impl Stage<'_> {
    async fn write_rows(
        &self,
        staged: GroupId,
        rows: Vec<(Bytes, Bytes)>,
        anew: bool,
    ) -> Result<(), NodeError> {
        let store = self.store.clone();
        let work = move || write_rows(&store, staged, &rows, anew);
        let written = self.env.tasks.blocking(work).await;
        let Err(error) = written.ok_or(NodeError::ShuttingDown)? else {
            return Ok(());
        };
        let fatal = self.store.fatal(&error);
        let told = match &fatal {
            Fatal::NoRoom(_) => NodeError::DiskFull,
            Fatal::DiskFailed(_) => NodeError::DiskFailed,
            other => NodeError::Invalid(other.to_string()),
        };
        (self.on_fatal)(fatal);
        Err(told)
    }
}

/// Adds rows to those that are staged, or begins anew with them. Blocks.
fn write_rows(
    store: &Store,
    staged: GroupId,
    rows: &[(Bytes, Bytes)],
    anew: bool,
) -> Result<(), StoreError> {
    let mut batch = store.begin_bulk()?;
    if anew {
        batch.delete_group(staged)?;
    }
    let mut txn = batch.group(staged)?;
    for (key, value) in rows {
        txn.put(key, value)?;
    }
    drop(txn);
    batch.commit(false)
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;

//! Messages to other disks: for each one task, one call at a time, so that
//! what waits goes together.

use std::sync::Arc;
use std::time::Duration;

use holdfast_model::{ClusterId, DiskId};
use holdfast_runtime::{Body, Call, Env, Shutdown};
use tokio::sync::mpsc;

use super::{AddressBook, Event, Inbox, Incoming};
use crate::protocol::{self, GroupMessage, NodeError, RaftAnswer, RaftBatch};

/// Messages that wait for a peer; more are dropped, which Raft mends.
const MAX_QUEUED: usize = 4_096;
/// Messages in one call.
const MAX_BATCH: usize = 512;
/// Bytes of messages after which a call is full.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// A peer that takes longer to take messages in is as good as silent.
const CALL_DEADLINE: Duration = Duration::from_secs(2);
/// After a failure, a peer is left alone for so long.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Who we are to our peers.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Our disk.
    pub disk: DiskId,
    /// How often it has been started.
    pub incarnation: u64,
}

/// What a peer's answers say about its clock, as milliseconds ahead of ours.
pub type ClockSeen = Arc<dyn Fn(DiskId, i64) + Send + Sync>;

/// Whether this machine's clock is off.
pub type ClockOff = Arc<dyn Fn() -> bool + Send + Sync>;

/// A peer's queue: messages, and between them questions for its time alone.
pub(super) struct Peer {
    queue: mpsc::Sender<Option<GroupMessage>>,
}

impl Peer {
    pub(super) fn start(
        env: &Env,
        identity: Identity,
        to: u64,
        book: Arc<AddressBook>,
        inbox: Inbox,
        clock_seen: ClockSeen,
        shutdown: Shutdown,
    ) -> Self {
        let (queue, receiver) = mpsc::channel(MAX_QUEUED);
        let sender = Sender {
            env: env.clone(),
            identity,
            to,
            book,
            inbox,
            clock_seen,
        };
        env.tasks.spawn(
            "raft-peer",
            Box::pin(async move {
                tokio::select! {
                    biased;
                    () = shutdown.begun() => {}
                    () = sender.run(receiver) => {}
                }
            }),
        );
        Self { queue }
    }

    /// Sends a message some time, or never.
    pub(super) fn send(&self, message: GroupMessage) {
        // A full queue drops: Raft sends again.
        let _ = self.queue.try_send(Some(message));
    }

    /// Has the peer tell its time, although there is no message for it.
    pub(super) fn ask_time(&self) {
        // With a full queue there are messages, whose answers tell it as well.
        let _ = self.queue.try_send(None);
    }
}

struct Sender {
    env: Env,
    identity: Identity,
    to: u64,
    book: Arc<AddressBook>,
    inbox: Inbox,
    clock_seen: ClockSeen,
}

impl Sender {
    async fn run(self, mut queue: mpsc::Receiver<Option<GroupMessage>>) {
        while let Some(first) = queue.recv().await {
            let mut bytes = 0;
            let mut messages = Vec::new();
            let mut next = first;
            loop {
                if let Some(message) = next {
                    bytes += message.message.len();
                    messages.push(message);
                }
                if messages.len() >= MAX_BATCH || bytes >= MAX_BATCH_BYTES {
                    break;
                }
                let Ok(more) = queue.try_recv() else { break };
                next = more;
            }
            if let Err(reason) = self.send(messages).await {
                tracing::debug!(to = self.to, reason, "a peer did not take Raft messages");
                let _ = self.inbox.send(Event::Unreachable(self.to)).await;
                self.env.clock.sleep(BACK_OFF).await;
            }
        }
    }

    async fn send(&self, messages: Vec<GroupMessage>) -> Result<(), String> {
        let (disk, address) = self
            .book
            .address(self.to)
            .ok_or_else(|| "its address is not known".to_owned())?;
        let sent = self.env.clock.wall();
        let batch = RaftBatch {
            cluster: self.identity.cluster,
            from: self.identity.disk,
            to: disk,
            incarnation: self.identity.incarnation,
            sent,
            messages,
        };
        let call = Call {
            path: protocol::RAFT,
            head: protocol::encode(&batch),
            body: Body::Empty,
            deadline: CALL_DEADLINE,
            request_id: None,
        };
        let reply = self
            .env
            .transport
            .call(&address, call)
            .await
            .map_err(|e| e.to_string())?;
        let answer: Result<RaftAnswer, NodeError> =
            minicbor::decode(&reply.head).map_err(|error| error.to_string())?;
        let answer = answer.map_err(|error| error.to_string())?;
        // The answer was stamped between `sent` and now.
        let now = self.env.clock.wall();
        let middle = (sent.0 / 2 + now.0 / 2) as i64;
        (self.clock_seen)(disk, answer.received.0 as i64 - middle);
        if answer.messages.is_empty() {
            return Ok(());
        }
        let said = RaftBatch {
            cluster: self.identity.cluster,
            from: disk,
            to: self.identity.disk,
            incarnation: answer.incarnation,
            sent: answer.received,
            messages: answer.messages,
        };
        let said = Incoming::of(&self.book, &self.identity, said).map_err(|e| e.to_string())?;
        // Fails only when the loop has ended.
        let _ = self.inbox.send(Event::Messages(said)).await;
        Ok(())
    }
}

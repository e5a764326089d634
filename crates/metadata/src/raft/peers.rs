//! Messages to other disks: for each one task, one call at a time, so that
//! what waits goes together. With them goes what this node knows of starts
//! (the `book` module), whenever the peer may not know all of it.

use std::sync::Arc;
use std::time::Duration;

use holdfast_model::{ClusterId, DiskId, Timestamp};
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

/// A peer's queue: messages, and between them calls without any.
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
            agreed: None,
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

    /// Calls the peer although there is no message for it: its answer tells its
    /// time, and both tell what they know of starts.
    pub(super) fn call(&self) {
        // With a full queue there are messages, whose calls do the same.
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
    /// The sum of what both knew of starts at the last answer. A peer that has
    /// forgotten it since says so in its next answer.
    agreed: Option<u64>,
}

impl Sender {
    async fn run(mut self, mut queue: mpsc::Receiver<Option<GroupMessage>>) {
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
                self.agreed = None;
                tracing::debug!(to = self.to, reason, "a peer did not take Raft messages");
                let _ = self.inbox.send(Event::Unreachable(self.to)).await;
                self.env.clock.sleep(BACK_OFF).await;
            }
        }
    }

    async fn send(&mut self, messages: Vec<GroupMessage>) -> Result<(), String> {
        if self.book.outdated(&self.identity) {
            return Err("this is an older copy of its disk".to_owned());
        }
        let (disk, address) = self
            .book
            .address(self.to)
            .ok_or_else(|| "its address is not known".to_owned())?;
        let sent = self.env.clock.wall();
        let batch = self.batch(disk, sent, messages);
        let knows = batch.knows;
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
        self.agreed = knows.filter(|_| answer.starts.is_empty());
        let said = RaftBatch {
            cluster: self.identity.cluster,
            from: disk,
            to: self.identity.disk,
            incarnation: answer.incarnation,
            sent: answer.received,
            messages: answer.messages,
            knows: None,
            starts: answer.starts,
        };
        let said = Incoming::of(&self.book, &self.identity, said).map_err(|e| e.to_string())?;
        if !said.messages.is_empty() {
            // Fails only when the loop has ended.
            let _ = self.inbox.send(Event::Messages(said)).await;
        }
        Ok(())
    }

    fn batch(&self, to: DiskId, sent: Timestamp, messages: Vec<GroupMessage>) -> RaftBatch {
        let knows = Some(self.book.sum());
        let starts = self.book.starts_unless(self.agreed);
        RaftBatch {
            cluster: self.identity.cluster,
            from: self.identity.disk,
            to,
            incarnation: self.identity.incarnation,
            sent,
            messages,
            knows,
            starts,
        }
    }
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;

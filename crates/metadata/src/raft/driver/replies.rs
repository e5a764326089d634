//! What is said with the answer to a peer's call, instead of in a call of our own.
//!
//! Each read of a group has its leader ask the others whether they still follow
//! it; what they say goes back with the answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_model::GroupId;
use raft::eraftpb::{Message, MessageType};
use tokio::sync::oneshot;

use crate::protocol::GroupMessage;

/// The answers that wait for the end of this turn of the loop, by peer.
#[derive(Default)]
pub(super) struct Replies {
    open: BTreeMap<u64, Reply>,
}

struct Reply {
    answer: oneshot::Sender<Vec<GroupMessage>>,
    messages: Vec<GroupMessage>,
}

impl Replies {
    /// A call of `peer` has been taken in and waits for its answer.
    pub fn expect(&mut self, peer: u64, answer: oneshot::Sender<Vec<GroupMessage>>) {
        let messages = Vec::new();
        if let Some(older) = self.open.insert(peer, Reply { answer, messages }) {
            // Two calls in one turn: the newer takes everything along.
            let _ = older.answer.send(Vec::new());
        }
    }

    /// Takes a message to `peer` along where a call of that peer waits, else
    /// hands it back. Only what depends on no other message goes ahead of
    /// those in the peer's queue: appends must stay in order.
    pub fn offer(
        &mut self,
        peer: u64,
        message: &Message,
        group: GroupId,
        bytes: Bytes,
    ) -> Option<GroupMessage> {
        let message_of = GroupMessage {
            group,
            message: bytes,
        };
        match self.open.get_mut(&peer) {
            Some(reply) if message.get_msg_type() == MessageType::MsgHeartbeatResponse => {
                reply.messages.push(message_of);
                None
            }
            _ => Some(message_of),
        }
    }

    /// Answers all, and returns what a caller no longer waits for.
    pub fn send(&mut self) -> Vec<(u64, Vec<GroupMessage>)> {
        std::mem::take(&mut self.open)
            .into_iter()
            .filter_map(|(peer, reply)| {
                let left = reply.answer.send(reply.messages).err()?;
                Some((peer, left))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: MessageType) -> Message {
        let mut message = Message::default();
        message.set_msg_type(kind);
        message
    }

    fn offer(replies: &mut Replies, peer: u64, kind: MessageType) -> bool {
        let taken = replies.offer(peer, &message(kind), GroupId(7), Bytes::from_static(b"x"));
        taken.is_none()
    }

    #[test]
    fn what_a_waiting_peer_is_told_goes_with_its_answer() {
        let mut replies = Replies::default();
        assert!(!offer(&mut replies, 1, MessageType::MsgHeartbeatResponse));
        let (answer, mut receiver) = oneshot::channel();
        replies.expect(1, answer);
        assert!(offer(&mut replies, 1, MessageType::MsgHeartbeatResponse));
        assert!(!offer(&mut replies, 1, MessageType::MsgAppend));
        assert!(!offer(&mut replies, 2, MessageType::MsgHeartbeatResponse));
        assert!(replies.send().is_empty());
        assert_eq!(receiver.try_recv().unwrap().len(), 1);
        assert!(!offer(&mut replies, 1, MessageType::MsgHeartbeatResponse));
    }

    #[test]
    fn nothing_is_lost_with_a_caller_that_has_given_up() {
        let mut replies = Replies::default();
        let (answer, receiver) = oneshot::channel();
        replies.expect(1, answer);
        assert!(offer(&mut replies, 1, MessageType::MsgHeartbeatResponse));
        drop(receiver);
        let left = replies.send();
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].0, left[0].1.len()), (1, 1));
    }

    #[test]
    fn each_of_two_calls_in_one_turn_is_answered() {
        let mut replies = Replies::default();
        let (first, mut older) = oneshot::channel();
        let (second, mut newer) = oneshot::channel();
        replies.expect(1, first);
        replies.expect(1, second);
        assert!(offer(&mut replies, 1, MessageType::MsgHeartbeatResponse));
        replies.send();
        assert_eq!(older.try_recv().unwrap().len(), 0);
        assert_eq!(newer.try_recv().unwrap().len(), 1);
    }
}

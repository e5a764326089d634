//! How many commands and queries wait in a node, over all its groups.
//!
//! One has its seat from the moment it comes in until it is answered, wherever
//! it waits meanwhile: in the loop's inbox, for an entry, for a majority, to be
//! applied, to be read. Also when whoever asked has gone: the answer holds the
//! seat. What the groups say to each other needs none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::protocol::NodeError;

/// The most commands and queries that wait in a node; beyond it is `Busy`. Half
/// of the loop's inbox at most, so that messages always find room there.
pub const MAX_WAITING: usize = 4_096;
/// The most bytes that they may have together: a full batch of inline objects
/// for each of 16 groups, twice.
pub const MAX_WAITING_BYTES: usize = 64 << 20;

/// When to come again who finds no seat.
const RETRY_AFTER_MILLIS: u64 = 1_000;

#[derive(Clone, Copy, Default)]
struct Taken {
    count: usize,
    bytes: usize,
}

/// The seats of a node; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct WaitingRoom {
    /// Held for the arithmetic only.
    taken: Arc<Mutex<Taken>>,
}

/// A seat; given back when dropped.
pub(crate) struct Seat {
    room: WaitingRoom,
    bytes: usize,
}

impl WaitingRoom {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat for what has so many bytes. One alone may have any number.
    ///
    /// # Errors
    /// [`NodeError::Busy`] where all are taken.
    pub fn enter(&self, bytes: usize) -> Result<Seat, NodeError> {
        let mut taken = self.lock();
        let full = taken.count >= MAX_WAITING
            || (taken.count > 0 && taken.bytes.saturating_add(bytes) > MAX_WAITING_BYTES);
        if full {
            return Err(NodeError::Busy {
                retry_after_millis: RETRY_AFTER_MILLIS,
            });
        }
        taken.count += 1;
        taken.bytes = taken.bytes.saturating_add(bytes);
        drop(taken);
        let room = self.clone();
        Ok(Seat { room, bytes })
    }

    /// Each limit's name, what is allowed, and what of it is taken.
    pub fn view(&self) -> [(&'static str, usize, usize); 2] {
        let taken = *self.lock();
        [
            ("node_waiting", MAX_WAITING, taken.count),
            ("node_waiting_bytes", MAX_WAITING_BYTES, taken.bytes),
        ]
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        taken.count = taken.count.saturating_sub(1);
        taken.bytes = taken.bytes.saturating_sub(self.bytes);
    }
}

/// Where a query's or command's answer goes.
pub(crate) struct Answerer<T> {
    sender: oneshot::Sender<Result<T, NodeError>>,
    /// Of those that have one: given back with the answer.
    _seat: Option<Seat>,
}

impl<T> Answerer<T> {
    /// With the seat of what is to be answered.
    pub fn new(sender: oneshot::Sender<Result<T, NodeError>>, seat: Option<Seat>) -> Self {
        Self {
            sender,
            _seat: seat,
        }
    }

    /// Answers.
    ///
    /// # Errors
    /// When whoever asked has gone.
    pub fn send(self, answer: Result<T, NodeError>) -> Result<(), ()> {
        self.sender.send(answer).map_err(|_| ())
    }
}

impl<T> From<oneshot::Sender<Result<T, NodeError>>> for Answerer<T> {
    fn from(sender: oneshot::Sender<Result<T, NodeError>>) -> Self {
        Self::new(sender, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_either_limit_who_comes_is_told_to_come_again_and_a_seat_given_back_is_free() {
        let room = WaitingRoom::default();
        let mut seats: Vec<_> = (0..MAX_WAITING).map(|_| room.enter(10).unwrap()).collect();
        assert!(matches!(room.enter(10), Err(NodeError::Busy { .. })));
        seats.pop();
        seats.push(room.enter(10).unwrap());
        drop(seats);
        assert_eq!(room.view().map(|(_, _, used)| used), [0, 0]);

        let half = room.enter(MAX_WAITING_BYTES / 2).unwrap();
        let other = room.enter(MAX_WAITING_BYTES / 2).unwrap();
        assert!(matches!(room.enter(1), Err(NodeError::Busy { .. })));
        drop(half);
        assert!(room.enter(1).is_ok());
        drop(other);
        // What is larger than all may be still comes through, alone.
        let large = room.enter(MAX_WAITING_BYTES + 1).unwrap();
        assert!(room.enter(1).is_err());
        drop(large);
        assert!(room.enter(1).is_ok());
    }

    #[tokio::test]
    async fn a_seat_is_held_until_the_answer_although_the_asker_has_gone() {
        let room = WaitingRoom::default();
        let (sender, receiver) = oneshot::channel();
        let answerer = Answerer::<()>::new(sender, Some(room.enter(7).unwrap()));
        drop(receiver);
        assert_eq!(room.view().map(|(_, _, used)| used), [1, 7]);
        assert_eq!(answerer.send(Ok(())), Err(()));
        assert_eq!(room.view().map(|(_, _, used)| used), [0, 0]);
    }
}

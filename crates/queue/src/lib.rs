//! The queue: how workers hear of tasks.
//!
//! A message is a hint that a task waits in its group. It may come twice,
//! late, out of order or never, and may outlive its task: who receives it
//! claims the task, and only the group's answer counts. A queue that loses
//! everything therefore makes work late, and nothing else.
//!
//! [`RabbitQueue`] is a real broker's; [`EmbeddedQueue`] lives in the process,
//! for one on a laptop and for tests.

mod embedded;
mod hint;
mod rabbit;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_model::{GroupId, TaskId, TaskKind};

pub use embedded::EmbeddedQueue;
pub use rabbit::RabbitQueue;

/// How long a rejected message is held before others see it again, so that
/// what cannot be done now is not tried in a tight loop.
pub const REJECT_DELAY: Duration = Duration::from_secs(2);

/// That a task waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct TaskHint {
    /// The group that keeps it.
    pub group: GroupId,
    /// Which.
    pub task: TaskId,
    /// What is to be done.
    pub kind: TaskKind,
}

/// Why a call of the queue failed. Whoever published may do nothing: the task
/// is published again.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueueError {
    /// The broker's address makes no sense.
    #[error("the address of the queue cannot be used: {0}")]
    Address(String),
    /// No connection, or the queues cannot be declared on it.
    #[error("cannot reach the queue: {0}")]
    Connect(String),
    /// The message was sent and not confirmed.
    #[error("cannot publish: {0}")]
    Publish(String),
    /// No answer in time.
    #[error("the queue does not answer within {limit:?} ({attempted})")]
    Deadline {
        /// What was attempted.
        attempted: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// The queue holds as much as it may.
    #[error("the queue is full")]
    Full,
    /// The process is ending.
    #[error("the process is shutting down")]
    Ended,
}

/// Carries hints.
pub trait Queue: Send + Sync {
    /// Puts a hint into the queue; returns when the queue has it safely.
    fn publish(&self, hint: TaskHint) -> BoxFuture<'_, Result<(), QueueError>>;

    /// Begins to take hints out, at most `prefetch` that are not settled.
    fn consume(&self, prefetch: u16) -> BoxFuture<'_, Result<Box<dyn Consumer>, QueueError>>;

    /// Whether it worked when last used or looked at, which is at most a few
    /// seconds ago.
    fn healthy(&self) -> bool;
}

/// Takes hints out of a queue.
pub trait Consumer: Send {
    /// Waits for the next hint. Connects, and connects again after a failure,
    /// with back-off; fails only when the process ends or the address is
    /// wrong. May be dropped while it waits, without loss.
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, QueueError>>;
}

/// How a delivery is settled with the queue it came from.
pub(crate) trait Settle: Send {
    fn ack(self: Box<Self>) -> BoxFuture<'static, ()>;
    fn reject(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A hint that waits to be settled. One that is dropped instead comes back
/// when its connection ends.
pub struct Delivery {
    /// The hint.
    pub hint: TaskHint,
    settle: Box<dyn Settle>,
}

impl Delivery {
    pub(crate) fn new(hint: TaskHint, settle: Box<dyn Settle>) -> Self {
        Self { hint, settle }
    }

    /// Takes the hint out for good.
    pub async fn ack(self) {
        self.settle.ack().await;
    }

    /// Gives the hint back after [`REJECT_DELAY`], or at once when the process
    /// ends; returns when it is back.
    pub async fn reject(self) {
        self.settle.reject().await;
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

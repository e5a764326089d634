//! Attempts of workers at tasks.

use holdfast_model::TaskId;
use minicbor::{Decode, Encode};

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

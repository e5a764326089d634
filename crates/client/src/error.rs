//! Why the cluster did not do what it was asked.

use std::time::Duration;

use holdfast_metadata::command::Refusal;
use holdfast_metadata::protocol::NodeError;
use holdfast_model::{GroupId, UploadId};
use holdfast_runtime::TransportError;

/// When a client should come again after the cluster could not serve it: about
/// the time in which a group elects a leader.
const COME_AGAIN: Duration = Duration::from_secs(2);

/// Why the cluster did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClusterError {
    /// No leader could confirm that it leads. Nothing has been changed.
    #[error("metadata group {group} has no quorum")]
    NoQuorum {
        /// The group.
        group: GroupId,
    },
    /// The command may have been done, or may yet be. The same request id,
    /// proposed again, tells.
    #[error("whether metadata group {group} has done it is not known")]
    OutcomeUnknown {
        /// The group.
        group: GroupId,
    },
    /// The cluster is not known yet, or not whole yet.
    #[error("the cluster is not ready: {0}")]
    NotReady(String),
    /// The group refused; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much is waiting.
    #[error("the cluster is busy")]
    Busy {
        /// When to come again.
        retry_after: Duration,
    },
    /// Disks are full, down to their reserve.
    #[error("the disk is full")]
    DiskFull,
    /// Fewer nodes than redundancy needs take data.
    #[error("{have} of at least {need} storage nodes take data")]
    NotEnoughNodes {
        /// So many do.
        have: usize,
        /// So many are needed.
        need: usize,
    },
    /// A call failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Not enough fragments of a chunk can be read now.
    #[error("chunk {chunk} of upload {upload} cannot be read from any node now")]
    DataUnavailable {
        /// The upload that owns the chunk.
        upload: UploadId,
        /// The chunk.
        chunk: u32,
    },
    /// Something that should not be.
    #[error("{0}")]
    Internal(String),
}

impl ClusterError {
    /// When it may be worth to try again; `None` where that changes nothing.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            Self::NoQuorum { .. }
            | Self::OutcomeUnknown { .. }
            | Self::NotReady(_)
            | Self::NotEnoughNodes { .. }
            | Self::Transport(_)
            | Self::DataUnavailable { .. } => Some(COME_AGAIN),
            Self::Refused(_) | Self::DiskFull | Self::Internal(_) => None,
        }
    }
}

/// Why a call to one node failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// No answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The node says why.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl CallError {
    /// Whether what was asked certainly was not done.
    pub fn not_done(&self) -> bool {
        match self {
            Self::Transport(error) => error.not_sent(),
            Self::Node(error) => !matches!(
                error,
                NodeError::NoQuorum | NodeError::ShuttingDown | NodeError::DiskFailed
            ),
        }
    }
}

impl From<CallError> for ClusterError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Transport(error) => Self::Transport(error),
            CallError::Node(NodeError::Busy { retry_after_millis }) => Self::Busy {
                retry_after: Duration::from_millis(retry_after_millis),
            },
            CallError::Node(NodeError::DiskFull) => Self::DiskFull,
            CallError::Node(error) => Self::Internal(error.to_string()),
        }
    }
}

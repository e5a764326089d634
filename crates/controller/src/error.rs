//! Why a round of background work ended early.

use holdfast_client::{CallError, ClusterError};
use holdfast_model::{DiskId, GroupId};

/// Why a round of background work ended early. All of it is tried again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WorkError {
    /// A group did not do or answer what it was asked.
    #[error("{attempted} of group {group}: {source}")]
    AskGroup {
        /// What was asked for.
        attempted: &'static str,
        /// The group.
        group: GroupId,
        /// Why.
        source: ClusterError,
    },
    /// A node did not do or answer what it was asked.
    #[error("{attempted} on disk {disk}: {source}")]
    AskNode {
        /// What was asked for.
        attempted: &'static str,
        /// The node's disk.
        disk: DiskId,
        /// Why.
        source: CallError,
    },
    /// No node of the layout has the disk.
    #[error("no node of the layout has disk {0}")]
    UnknownDisk(DiskId),
    /// The cluster's state is not known yet.
    #[error("the cluster's state is not known yet")]
    NoState,
    /// Another answer than the question asks for.
    #[error("group {group} answers another question than {asked}")]
    OtherAnswer {
        /// The group.
        group: GroupId,
        /// What was asked.
        asked: &'static str,
    },
    /// The copy of a fragment is not what was sent.
    #[error("the copy on disk {disk} is not what was written to it")]
    CopyDiffers {
        /// The disk.
        disk: DiskId,
    },
    /// The disk engine.
    #[error("compacting the own disk: {0}")]
    Compaction(String),
    /// Some of the groups could not be worked on; the others were.
    #[error("{failed} of {all} groups failed; group {group}: {source}")]
    SomeGroups {
        /// How many failed.
        failed: usize,
        /// Of how many.
        all: usize,
        /// One of them.
        group: GroupId,
        /// Why that one did.
        source: Box<WorkError>,
    },
}

/// What the failures of some groups come to: no group's trouble may keep the
/// others waiting, and none may go unheard.
pub(crate) fn some_groups(
    mut failures: Vec<(GroupId, WorkError)>,
    all: usize,
) -> Result<(), WorkError> {
    let failed = failures.len();
    match failures.pop() {
        None => Ok(()),
        Some((group, source)) => Err(WorkError::SomeGroups {
            failed,
            all,
            group,
            source: Box::new(source),
        }),
    }
}

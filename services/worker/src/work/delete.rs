//! Deletion of what has expired or has no downloads left. Whether it may be
//! deleted, the group decides, by its own time and its own tickets.

use holdfast_client::ClusterError;
use holdfast_metadata::command::{Command, DeleteCause, Refusal};

use super::{Claim, Done, WorkError, Worker};

pub(super) async fn delete(worker: &Worker, claim: &Claim) -> Result<Done, WorkError> {
    let Some(object) = worker.fetch(claim).await? else {
        return Ok(Done::Unneeded);
    };
    let record = &object.record;
    let cause = if record.expired(object.now) {
        DeleteCause::Expired
    } else if record.downloads.is_some_and(|limit| limit.left == 0) {
        DeleteCause::Exhausted
    } else {
        // A jump of the clock was undone, or a download was given back.
        return Ok(Done::Unneeded);
    };
    let command = Command::DeleteObject {
        bucket: claim.task.bucket,
        key: claim.task.key.clone(),
        version: Some(claim.task.version),
        cause,
    };
    match worker.propose(claim.group, command).await {
        Ok(_) => Ok(Done::Finished),
        Err(ClusterError::Refused(Refusal::NoSuchObject)) => Ok(Done::Unneeded),
        Err(ClusterError::Refused(Refusal::NotYet)) => Err(WorkError::NotYet),
        Err(error) => Err(error.into()),
    }
}

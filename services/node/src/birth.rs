//! How a node founds a cluster, when a setting tells it to: what it decides is
//! [`holdfast_client::birth`]'s; what it keeps is a file beside its data.

use holdfast_client::birth::{
    Beginning, Birth, BirthError, ask_members, decide_birth, plan_birth, send_birth,
};
use holdfast_metadata::protocol;
use holdfast_model::{ClusterId, ClusterState};
use holdfast_runtime::disk::{read_file, replace_file};
use holdfast_runtime::{Address, Disk, Env};

/// The file that holds the first state of a cluster being founded.
const PLAN_FILE: &str = "founding";

/// Why no cluster was founded.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// It may not be.
    #[error(transparent)]
    Birth(#[from] BirthError),
    /// The plan could not be kept.
    #[error("keeping the first state of the cluster: {0}")]
    Disk(#[from] std::io::Error),
    /// The plan on disk is damaged.
    #[error("the file {PLAN_FILE} in the data directory is damaged: {0}")]
    Damaged(String),
}

/// Founds the cluster of `members`, or finds that it is founded. Waits until
/// all of them answer. `disk` is where the plan is kept.
///
/// # Errors
/// [`FoundingError`]: a person has to decide.
pub async fn found_cluster(
    env: &Env,
    disk: &dyn Disk,
    members: &[Address],
    beginning: &Beginning,
) -> Result<ClusterId, FoundingError> {
    let statuses = ask_members(env, members).await;
    let plan = match decide_birth(members, &statuses, read_plan(disk)?)? {
        Birth::Adopt(cluster) => return Ok(cluster),
        Birth::GoOn(kept) => *kept,
        Birth::Begin => {
            let plan = plan_birth(env, &statuses, beginning);
            replace_file(disk, PLAN_FILE, &protocol::encode(&plan))?;
            plan
        }
    };
    send_birth(env, members, &plan).await?;
    Ok(plan.cluster)
}

fn read_plan(disk: &dyn Disk) -> Result<Option<ClusterState>, FoundingError> {
    match read_file(disk, PLAN_FILE)? {
        None => Ok(None),
        Some(bytes) => minicbor::decode(&bytes)
            .map(Some)
            .map_err(|error| FoundingError::Damaged(error.to_string())),
    }
}

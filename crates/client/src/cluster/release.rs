//! Which formats the cluster writes, for who finalises a release and for who
//! can no longer speak to it.

use std::time::Duration;

use holdfast_metadata::command::{ClusterCommand, Command, Refusal};
use holdfast_model::{ActiveRelease, ClusterState, GroupId, Release, RequestId, Supported};

use super::Cluster;
use crate::error::ClusterError;

impl Cluster {
    /// Lets the cluster write the formats of a release, whatever its patch, and
    /// says which these are. Without effect where it does already.
    ///
    /// # Errors
    /// As [`Cluster::propose`]; refused when no node runs that release, when one
    /// that counts runs an older one, and when it is not the next.
    pub async fn finalize(
        &self,
        to: Release,
        id: RequestId,
        deadline: Duration,
    ) -> Result<ActiveRelease, ClusterError> {
        self.refresh().await?;
        let to = formats_of(&*self.require_state()?, to)?;
        let command = Command::Cluster(Box::new(ClusterCommand::Finalize { to }));
        self.propose(GroupId::CLUSTER, id, command, deadline, None)
            .await?;
        self.refresh().await?;
        Ok(to)
    }

    /// Waits until the cluster is seen to write what a program cannot speak.
    /// Answers the sentence that says what to do.
    pub async fn outgrows(&self, supports: &Supported) -> String {
        loop {
            if let Some(state) = self.state()
                && !supports.speaks(state.active)
            {
                return supports.refusal(state.active);
            }
            self.env().clock.sleep(self.settings().poll).await;
        }
    }
}

/// The formats of a release, as its nodes know them: group 0 sees to the rest.
fn formats_of(state: &ClusterState, release: Release) -> Result<ActiveRelease, ClusterError> {
    let wanted = release.first_of_minor();
    let nodes = state.layout.nodes.values();
    let offered = nodes.map(|node| node.supports.newest());
    std::iter::once(state.active)
        .chain(offered)
        .find(|formats| formats.release == wanted)
        .ok_or_else(|| {
            let why = format!(
                "no storage node runs release {wanted}, and the cluster writes {}",
                state.active
            );
            ClusterError::Refused(Refusal::Held(why))
        })
}

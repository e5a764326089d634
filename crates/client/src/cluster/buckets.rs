//! Buckets across groups: what group 0 decides is brought to every group.
//!
//! [`Cluster::settle_bucket`] looks at group 0 and takes the next step, until
//! there is none: whoever is cut off, anybody may go on. A deletion seals the
//! bucket in every group, asks each whether it is empty there, and then has all
//! forget it, or all serve it again. What was committed before the seal is
//! seen, and makes the deletion fail.

use std::time::Duration;

use futures_util::future::try_join_all;
use holdfast_metadata::command::{ClusterCommand, ClusterFacts, Command, Outcome, Refusal};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::{
    Bucket, BucketDeletion, BucketFacts, BucketId, BucketName, ClusterState, DeletionPhase, Epoch,
    GroupId, Versioning,
};

use super::{Cluster, unexpected};
use crate::error::ClusterError;

/// Looks until a bucket is settled: a deletion needs three, and whoever works at
/// it too may take a step between a look and its step.
const MAX_STEPS: usize = 8;

impl Cluster {
    /// Makes a bucket, and waits until every group knows it.
    ///
    /// # Errors
    /// As [`Cluster::propose`]; refused when there is such a bucket. After
    /// another error the bucket may be there, and its groups hear of it later.
    pub async fn create_bucket(
        &self,
        id: BucketId,
        name: BucketName,
        deadline: Duration,
    ) -> Result<Bucket, ClusterError> {
        let change = ClusterCommand::CreateBucket { id, name };
        self.change_cluster(change, deadline).await?;
        let bucket = self.settle_bucket(id, deadline).await?;
        bucket.ok_or(ClusterError::Refused(Refusal::NoSuchBucket))
    }

    /// Sets whether a bucket's objects have versions, and waits until every
    /// group knows it.
    ///
    /// # Errors
    /// As [`Cluster::propose`].
    pub async fn set_versioning(
        &self,
        bucket: BucketId,
        versioning: Versioning,
        deadline: Duration,
    ) -> Result<(), ClusterError> {
        let change = ClusterCommand::SetVersioning { bucket, versioning };
        self.change_cluster(change, deadline).await?;
        self.settle_bucket(bucket, deadline).await?;
        Ok(())
    }

    /// Deletes a bucket that is empty.
    ///
    /// # Errors
    /// As [`Cluster::propose`]; [`Refusal::BucketNotEmpty`] when any group has
    /// an object in it. After another error it goes on: the controller ends it.
    pub async fn delete_bucket(
        &self,
        bucket: BucketId,
        deadline: Duration,
    ) -> Result<(), ClusterError> {
        let change = ClusterCommand::DeleteBucket { bucket };
        let attempt = match self.change_cluster(change, deadline).await? {
            Outcome::Deleting(attempt) => attempt,
            other => {
                return Err(ClusterError::Internal(format!(
                    "a deletion is answered with {other:?}"
                )));
            }
        };
        match self.settle_bucket(bucket, deadline).await? {
            None => Ok(()),
            Some(left) if left.refused >= Some(attempt) => {
                Err(ClusterError::Refused(Refusal::BucketNotEmpty))
            }
            Some(_) => Err(ClusterError::Internal(format!(
                "the deletion of bucket {bucket} was not settled"
            ))),
        }
    }

    /// Buckets, as group 0 has them now.
    ///
    /// # Errors
    /// As [`Cluster::query`].
    pub async fn buckets(&self, deadline: Duration) -> Result<Vec<Bucket>, ClusterError> {
        Ok(self.confirmed_state(deadline).await?.buckets)
    }

    /// Brings what group 0 has decided of a bucket to every group, and takes
    /// its deletion to an end; the bucket, if there is one then.
    ///
    /// # Errors
    /// As [`Cluster::propose`]. Whoever calls it again goes on.
    pub async fn settle_bucket(
        &self,
        id: BucketId,
        deadline: Duration,
    ) -> Result<Option<Bucket>, ClusterError> {
        let end = self.now().saturating_add(deadline);
        for _ in 0..MAX_STEPS {
            let left = end.saturating_sub(self.now());
            let state = self.confirmed_state(left).await?;
            let known = state.buckets.iter().find(|bucket| bucket.id == id);
            let Some(bucket) = known.cloned() else {
                return Ok(None);
            };
            let Some(deletion) = bucket.deletion else {
                self.tell_of(&state, &bucket, left).await?;
                return Ok(Some(bucket));
            };
            match self.delete_step(&state, &bucket, deletion, left).await {
                // Another has taken the step.
                Err(ClusterError::Refused(Refusal::Stale | Refusal::NoSuchBucket)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ClusterError::NotReady(format!(
            "the deletion of bucket {id} goes on"
        )))
    }

    async fn delete_step(
        &self,
        state: &ClusterState,
        bucket: &Bucket,
        deletion: BucketDeletion,
        left: Duration,
    ) -> Result<(), ClusterError> {
        self.tell_of(state, bucket, left).await?;
        let (bucket, attempt) = (bucket.id, deletion.attempt);
        let step = match deletion.phase {
            DeletionPhase::Sealing => {
                let groups = state.layout.data_groups().into_iter();
                let asked = groups.map(|group| self.is_empty_in(group, bucket, attempt, left));
                let empty = try_join_all(asked).await?.into_iter().all(|empty| empty);
                ClusterCommand::SettleDeletion {
                    bucket,
                    attempt,
                    empty,
                }
            }
            DeletionPhase::Removing => ClusterCommand::EndDeletion { bucket, attempt },
        };
        self.change_cluster(step, left).await.map(|_| ())
    }

    /// Tells every group of a bucket as it stands in `state`.
    async fn tell_of(
        &self,
        state: &ClusterState,
        bucket: &Bucket,
        deadline: Duration,
    ) -> Result<(), ClusterError> {
        let facts = bucket.facts();
        let facts = ClusterFacts {
            revision: state.revision,
            times: None,
            removed: facts.is_none().then_some(bucket.id).into_iter().collect(),
            buckets: facts.into_iter().collect(),
        };
        let groups = state.layout.data_groups().into_iter();
        let telling = groups.map(|group| {
            let command = Command::Learn(Box::new(facts.clone()));
            self.propose(group, self.request_id(), command, deadline, None)
        });
        try_join_all(telling).await?;
        Ok(())
    }

    /// Whether a bucket is empty in a group that has sealed it for an attempt
    /// at deleting it.
    async fn is_empty_in(
        &self,
        group: GroupId,
        bucket: BucketId,
        attempt: Epoch,
        deadline: Duration,
    ) -> Result<bool, ClusterError> {
        match self
            .query(group, Query::Bucket { bucket }, deadline, None)
            .await?
        {
            Answer::Bucket {
                facts: Some(BucketFacts { sealed: true, .. }),
                revision,
                empty,
            } if revision >= attempt => Ok(empty),
            // Told otherwise by somebody who saw a later state: look again.
            Answer::Bucket { .. } => Err(ClusterError::Refused(Refusal::Stale)),
            other => Err(unexpected(&other)),
        }
    }

    async fn change_cluster(
        &self,
        change: ClusterCommand,
        deadline: Duration,
    ) -> Result<Outcome, ClusterError> {
        let command = Command::Cluster(Box::new(change));
        self.propose(GroupId::CLUSTER, self.request_id(), command, deadline, None)
            .await
    }

    /// The cluster's state, as the leader of group 0 has it now.
    async fn confirmed_state(&self, deadline: Duration) -> Result<ClusterState, ClusterError> {
        match self
            .query(GroupId::CLUSTER, Query::Cluster, deadline, None)
            .await?
        {
            Answer::Cluster(state) => Ok(*state),
            other => Err(unexpected(&other)),
        }
    }
}

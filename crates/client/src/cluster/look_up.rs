//! One object's record.

use std::time::Duration;

use holdfast_metadata::query::{Answer, Query, UploadChunks};
use holdfast_model::{BucketId, GroupId, ObjectKey, ObjectRecord, Timestamp};

use super::{Cluster, unexpected};
use crate::error::ClusterError;

/// Where an object's record is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectPlace {
    /// Its group.
    pub group: GroupId,
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: ObjectKey,
}

/// What a group has of a key.
#[derive(Clone, PartialEq, Debug)]
pub struct LookedUp {
    /// The record, where there is one. It may have expired.
    pub record: Option<Box<ObjectRecord>>,
    /// The object's first chunks, as many as were asked for.
    pub chunks: Vec<UploadChunks>,
    /// The group's time.
    pub now: Timestamp,
}

impl Cluster {
    /// Asks an object's group for its record, and for so many of its chunks.
    ///
    /// # Errors
    /// As [`Cluster::query`].
    pub async fn look_up(
        &self,
        at: &ObjectPlace,
        chunks: u32,
        deadline: Duration,
        trace: Option<&str>,
    ) -> Result<LookedUp, ClusterError> {
        let query = Query::Object {
            bucket: at.bucket,
            key: at.key.clone(),
            chunks,
        };
        match self.query(at.group, query, deadline, trace).await? {
            Answer::Object {
                record,
                chunks,
                now,
            } => Ok(LookedUp {
                record,
                chunks,
                now,
            }),
            Answer::Refused(refusal) => Err(ClusterError::Refused(refusal)),
            other => Err(unexpected(&other)),
        }
    }
}

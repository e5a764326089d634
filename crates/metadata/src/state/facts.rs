//! What a group knows of the cluster's state: the times that its objects live
//! by, and the buckets that there are.
//!
//! Group 0 decides them, and each group hears of them in a command of its own
//! log, so that all its replicas go by the same at each index. Each is told
//! with the revision that it is of; of two the later one stays, in whatever
//! order they come.
//!
//! A bucket in a group: unknown -> open <-> sealed -> forgotten. Commits are
//! taken while it is open. That it is sealed is in the log before the group is
//! asked whether it is empty, so what was accepted before is seen, and nothing
//! is accepted after. It is forgotten only sealed and empty; what was told
//! before that, and comes late, does not bring it back.

use holdfast_model::{BucketFacts, BucketId, ClusterState, Epoch, Versioning};

use super::rows::{self, BucketRow, KnownRow};
use super::{Applied, Machine, Stop, invalid, keys};
use crate::command::{ClusterFacts, MAX_BUCKETS_TOLD, Outcome, Refusal};
use crate::query::Answer;
use crate::store::{Row, Rows, StoreError};

/// What a group knows from its birth.
pub(super) fn first_rows(state: &ClusterState) -> Vec<Row> {
    let known = KnownRow {
        times_revision: state.revision,
        times: state.times,
        forgotten: Some(state.revision),
    };
    let mut rows = vec![(keys::known(), rows::encode(&known))];
    for facts in state.buckets.iter().filter_map(|bucket| bucket.facts()) {
        let row = BucketRow {
            revision: state.revision,
            facts,
        };
        rows.push((keys::bucket(facts.id), rows::encode(&row)));
    }
    rows
}

/// What a group knows.
pub(super) fn read(view: &impl Rows) -> Result<KnownRow, StoreError> {
    Ok(rows::read(view, &keys::known())?.unwrap_or_default())
}

fn read_bucket(view: &impl Rows, bucket: BucketId) -> Result<Option<BucketRow>, StoreError> {
    rows::read(view, &keys::bucket(bucket))
}

fn is_empty(view: &impl Rows, bucket: BucketId) -> Result<bool, StoreError> {
    Ok(rows::prefixed(view, &keys::objects_of(bucket), 1)?.is_empty())
}

/// Answers [`Query::Bucket`](crate::query::Query::Bucket).
pub(super) fn bucket(view: &impl Rows, bucket: BucketId) -> Result<Answer, StoreError> {
    let row = read_bucket(view, bucket)?;
    Ok(Answer::Bucket {
        facts: row.as_ref().map(|row| row.facts),
        revision: row.map_or(Epoch(0), |row| row.revision),
        empty: is_empty(view, bucket)?,
    })
}

impl Machine<'_, '_> {
    pub(super) fn learn(&mut self, facts: &ClusterFacts) -> Applied {
        if let Some(times) = &facts.times {
            times.check().map_err(invalid)?;
        }
        if facts.buckets.len() + facts.removed.len() > MAX_BUCKETS_TOLD {
            return Err(invalid("too many buckets for one command"));
        }
        for bucket in &facts.removed {
            self.check_removal(*bucket, facts.revision)?;
        }
        if let Some(times) = facts.times
            && facts.revision >= self.known.times_revision
        {
            self.known.times_revision = facts.revision;
            self.known.times = times;
        }
        if facts.times.is_some() {
            // All buckets have been told by now.
            self.known.forgotten.get_or_insert(Epoch(0));
        }
        for bucket in &facts.buckets {
            self.learn_bucket(bucket, facts.revision)?;
        }
        for bucket in &facts.removed {
            self.rows.delete(&keys::bucket(*bucket))?;
            self.known.forgotten = self.known.forgotten.map(|at| at.max(facts.revision));
        }
        let known = self.known.clone();
        self.put(&keys::known(), &known)?;
        Ok(Outcome::Done)
    }

    fn learn_bucket(&mut self, facts: &BucketFacts, revision: Epoch) -> Result<(), StoreError> {
        let newest = match read_bucket(self.rows, facts.id)? {
            Some(row) => row.revision,
            // It may be one that was forgotten since.
            None => self.known.forgotten.unwrap_or(Epoch(0)),
        };
        if revision >= newest {
            let facts = *facts;
            self.put(&keys::bucket(facts.id), &BucketRow { revision, facts })?;
        }
        Ok(())
    }

    fn check_removal(&self, bucket: BucketId, revision: Epoch) -> Result<(), Stop> {
        match read_bucket(self.rows, bucket)? {
            None => Ok(()),
            Some(row) if !row.facts.sealed || row.revision > revision => Err(Refusal::Stale.into()),
            Some(_) if !is_empty(self.rows, bucket)? => Err(Refusal::BucketNotEmpty.into()),
            Some(_) => Ok(()),
        }
    }

    /// Whether a bucket's objects have versions.
    pub(super) fn versioning(&self, bucket: BucketId) -> Result<Versioning, StoreError> {
        let row = read_bucket(self.rows, bucket)?;
        Ok(row.map_or(Versioning::Unversioned, |row| row.facts.versioning))
    }

    /// The bucket, if commits to it are taken.
    pub(super) fn open_bucket(&self, bucket: BucketId) -> Result<BucketFacts, Stop> {
        match read_bucket(self.rows, bucket)? {
            Some(row) if row.facts.sealed => Err(Refusal::BucketSealed.into()),
            Some(row) => Ok(row.facts),
            None if self.known.forgotten.is_some() => Err(Refusal::NoSuchBucket.into()),
            None => Ok(BucketFacts {
                id: bucket,
                versioning: Versioning::Unversioned,
                sealed: false,
            }),
        }
    }
}

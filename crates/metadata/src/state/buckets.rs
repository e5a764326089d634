//! Buckets, in group 0.
//!
//! A deletion: none -> sealing -> removing -> gone, or sealing -> none when
//! some group has objects of the bucket. Each step may be taken by whoever
//! sees that it is due, and is refused to who looked at another attempt.

use holdfast_model::bucket::FILES_BUCKET;
use holdfast_model::{
    Bucket, BucketDeletion, BucketId, BucketName, DeletionPhase, Epoch, Timestamp, Versioning,
};

use super::cluster::held;
use super::{Stop, invalid};
use crate::command::Refusal;

/// The most buckets of a cluster: the state is sent whole.
const MAX_BUCKETS: usize = 10_000;

pub(super) fn create(
    buckets: &mut Vec<Bucket>,
    id: BucketId,
    name: &BucketName,
    created: Timestamp,
) -> Result<(), Stop> {
    for bucket in buckets.iter() {
        match (bucket.id == id, bucket.name == *name) {
            (true, true) => return Ok(()),
            (false, false) => {}
            _ => return Err(held("there is such a bucket already")),
        }
    }
    if buckets.len() >= MAX_BUCKETS {
        return Err(held("there are as many buckets as there can be"));
    }
    let at = buckets.partition_point(|bucket| bucket.name < *name);
    buckets.insert(at, Bucket::new(id, name.clone(), created));
    Ok(())
}

fn known(buckets: &mut [Bucket], id: BucketId) -> Result<&mut Bucket, Stop> {
    let bucket = buckets.iter_mut().find(|bucket| bucket.id == id);
    bucket.ok_or_else(|| Refusal::NoSuchBucket.into())
}

pub(super) fn set_versioning(
    buckets: &mut [Bucket],
    id: BucketId,
    versioning: Versioning,
) -> Result<(), Stop> {
    let bucket = known(buckets, id)?;
    if bucket.deletion.is_some() {
        return Err(Refusal::BucketSealed.into());
    }
    if bucket.name.as_str() == FILES_BUCKET && versioning != Versioning::Unversioned {
        return Err(invalid("the bucket of files has no versions"));
    }
    if bucket.versioning != versioning && versioning == Versioning::Unversioned {
        return Err(invalid("versioning can be suspended, and not be undone"));
    }
    bucket.versioning = versioning;
    Ok(())
}

pub(super) fn begin_deletion(
    buckets: &mut [Bucket],
    id: BucketId,
    attempt: Epoch,
) -> Result<Epoch, Stop> {
    let bucket = known(buckets, id)?;
    if bucket.name.as_str() == FILES_BUCKET {
        return Err(invalid("the bucket of files cannot be deleted"));
    }
    let deletion = bucket.deletion.get_or_insert(BucketDeletion {
        attempt,
        phase: DeletionPhase::Sealing,
    });
    Ok(deletion.attempt)
}

pub(super) fn settle_deletion(
    buckets: &mut [Bucket],
    id: BucketId,
    attempt: Epoch,
    empty: bool,
) -> Result<(), Stop> {
    let bucket = known(buckets, id)?;
    let sealing = BucketDeletion {
        attempt,
        phase: DeletionPhase::Sealing,
    };
    if bucket.deletion != Some(sealing) {
        return Err(Refusal::Stale.into());
    }
    if empty {
        bucket.deletion = Some(BucketDeletion {
            phase: DeletionPhase::Removing,
            ..sealing
        });
    } else {
        bucket.deletion = None;
        bucket.refused = Some(attempt);
    }
    Ok(())
}

pub(super) fn end_deletion(
    buckets: &mut Vec<Bucket>,
    id: BucketId,
    attempt: Epoch,
) -> Result<(), Stop> {
    let removing = BucketDeletion {
        attempt,
        phase: DeletionPhase::Removing,
    };
    if known(buckets, id)?.deletion != Some(removing) {
        return Err(Refusal::Stale.into());
    }
    buckets.retain(|bucket| bucket.id != id);
    Ok(())
}

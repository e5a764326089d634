//! Lists of a bucket's objects, newest first, merged over all groups.
//!
//! A page is whole or an error: a group that does not answer fails it. Each
//! group is asked once it has confirmed its leader, so what was acknowledged
//! before the page began is in it. It is no snapshot across pages.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use holdfast_metadata::query::{Answer, ListPosition, MAX_PAGE, Query};
use holdfast_model::{AccessKeyId, BucketId, GroupId, ObjectRecord, Timestamp};

use super::shares::{first_share, next_share};
use super::{Cluster, unexpected};
use crate::error::ClusterError;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ListNewest {
    /// The bucket.
    pub bucket: BucketId,
    /// Only this owner's objects.
    pub owner: Option<AccessKeyId>,
    /// From after this one on.
    pub after: Option<ListPosition>,
    /// At most so many, and at most [`MAX_PAGE`].
    pub limit: u32,
}

/// Objects, without inline bytes.
#[derive(Clone, PartialEq, Debug)]
pub struct NewestPage {
    /// Those that have not expired.
    pub records: Vec<ObjectRecord>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<ListPosition>,
}

/// What one group has answered.
struct Listed {
    asked: u32,
    records: Vec<ObjectRecord>,
    now: Timestamp,
    more: bool,
}

impl Cluster {
    /// A page of a bucket's objects, over all groups.
    ///
    /// # Errors
    /// As [`Cluster::query`], of any group.
    pub async fn list_newest(
        &self,
        asked: &ListNewest,
        deadline: Duration,
        trace: Option<&str>,
    ) -> Result<NewestPage, ClusterError> {
        let limit = asked.limit.min(MAX_PAGE);
        let groups = self.require_state()?.layout.data_groups();
        let share = first_share(limit, groups.len());
        let mut shares: Vec<(GroupId, u32)> = groups.iter().map(|g| (*g, share)).collect();
        let mut listed: BTreeMap<GroupId, Listed> = BTreeMap::new();
        let end = self.now().saturating_add(deadline);
        while !shares.is_empty() {
            let left = end.saturating_sub(self.now());
            let parts = shares.iter().map(|(group, share)| async move {
                let part = self.list_part(*group, asked, *share, left, trace).await?;
                Ok::<_, ClusterError>((*group, part))
            });
            listed.extend(try_join_all(parts).await?);
            shares = too_small(&listed, limit);
        }
        Ok(merge(listed.into_values(), limit as usize))
    }

    async fn list_part(
        &self,
        group: GroupId,
        asked: &ListNewest,
        limit: u32,
        deadline: Duration,
        trace: Option<&str>,
    ) -> Result<Listed, ClusterError> {
        let query = Query::List {
            bucket: asked.bucket,
            owner: asked.owner,
            after: asked.after.clone(),
            limit,
        };
        match self.query(group, query, deadline, trace).await? {
            Answer::Listing { records, now, more } => Ok(Listed {
                asked: limit,
                records,
                now,
                more,
            }),
            Answer::Refused(refusal) => Err(refusal.into()),
            other => Err(unexpected(&other)),
        }
    }
}

/// The order of lists: newest first, then by key, as in each group.
fn newest_first(a: &ObjectRecord, b: &ObjectRecord) -> Ordering {
    b.created.cmp(&a.created).then_with(|| a.key.cmp(&b.key))
}

/// The groups that may have more of the page than they were asked for, and for
/// how much to ask them.
fn too_small(listed: &BTreeMap<GroupId, Listed>, limit: u32) -> Vec<(GroupId, u32)> {
    let mut all: Vec<&ObjectRecord> = listed.values().flat_map(|part| &part.records).collect();
    all.sort_by(|a, b| newest_first(a, b));
    let cut = (limit as usize).checked_sub(1).and_then(|at| all.get(at));
    let lacks = |part: &&Listed| {
        let ends_before = |cut: &&ObjectRecord| {
            let last = part.records.last();
            last.is_none_or(|last| newest_first(last, cut).is_lt())
        };
        part.more && part.asked < limit && cut.is_none_or(ends_before)
    };
    let lacking = listed.iter().filter(|(_, part)| lacks(part));
    lacking
        .map(|(group, part)| (*group, next_share(part.asked, limit)))
        .collect()
}

/// The first `limit` of all groups' objects, without those that have expired,
/// and from where to go on.
fn merge(listed: impl Iterator<Item = Listed>, limit: usize) -> NewestPage {
    let mut more = false;
    let mut all: Vec<(ObjectRecord, bool)> = Vec::new();
    for part in listed {
        more |= part.more;
        let now = part.now;
        let records = part.records.into_iter();
        all.extend(records.map(|record| {
            let expired = record.expired(now);
            (record, expired)
        }));
    }
    all.sort_by(|(a, _), (b, _)| newest_first(a, b));
    more |= all.len() > limit;
    all.truncate(limit);
    // The place of the last one looked at, also when it has expired: the next
    // page goes on behind it.
    let next = all.last().filter(|_| more).map(|(last, _)| ListPosition {
        created: last.created,
        key: last.key.clone(),
    });
    let records = all.into_iter().filter(|(_, expired)| !expired);
    NewestPage {
        records: records.map(|(record, _)| record).collect(),
        next,
    }
}

#[cfg(test)]
#[path = "newest_tests.rs"]
mod tests;

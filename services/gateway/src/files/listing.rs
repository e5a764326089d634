//! Lists of files: newest first over all groups. A page is whole or refused;
//! it is no snapshot across pages.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::extract::{Query as UrlQuery, State, rejection::QueryRejection};
use axum::http::HeaderMap;
use futures_util::future::try_join_all;
use holdfast_metadata::query::{Answer, ListPosition, Query};
use holdfast_model::{ObjectRecord, Role, Timestamp};
use serde::{Deserialize, Serialize};

use super::cursor;
use super::lookup::QUERY_DEADLINE;
use super::view::FileView;
use crate::app::App;
use crate::auth::need_caller;
use crate::error::ApiError;
use crate::front::Context;
use crate::upload::base_url;

/// Files of a page unless the client says otherwise.
const DEFAULT_LIMIT: u32 = 50;
/// The most: every group is asked for as many.
const MAX_LIMIT: u32 = 200;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A page.
#[derive(Serialize)]
pub struct Page {
    files: Vec<FileView>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
}

/// What one group answers.
struct Listed {
    records: Vec<ObjectRecord>,
    now: Timestamp,
    more: bool,
}

/// `GET /api/files`.
pub async fn list(
    State(app): State<Arc<App>>,
    context: Context,
    asked: Result<UrlQuery<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<axum::Json<Page>, ApiError> {
    let caller = need_caller(context.caller)?;
    let UrlQuery(asked) = asked.map_err(|error| ApiError::BadParameter(error.body_text()))?;
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::BadParameter(format!(
            "limit is a number from 1 to {MAX_LIMIT}"
        )));
    }
    let after = asked.cursor.as_deref().map(cursor::read).transpose()?;
    let _room = app.admit_fan_out()?;
    let bucket = app.files_bucket()?;
    let owner = (caller.role != Role::Admin).then_some(caller.id);
    let groups = app.state()?.layout.data_groups();
    let answers = try_join_all(groups.into_iter().map(|group| {
        let query = Query::List {
            bucket,
            owner,
            after: after.clone(),
            limit,
        };
        app.cluster
            .query(group, query, QUERY_DEADLINE, context.trace())
    }))
    .await?;
    let listed = answers
        .into_iter()
        .map(|answer| match answer {
            Answer::Listing { records, now, more } => Ok(Listed { records, now, more }),
            _ => Err(ApiError::Internal("a list answers something else".into())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let (records, next) = merge(listed, limit as usize);
    let base = base_url(&app, &context, &headers);
    Ok(axum::Json(Page {
        files: records
            .iter()
            .map(|record| FileView::new(record, &base))
            .collect(),
        next_cursor: next.as_ref().map(cursor::write),
    }))
}

/// The order of lists: newest first, then by key, as in each group.
fn newest_first(a: &ObjectRecord, b: &ObjectRecord) -> Ordering {
    b.created.cmp(&a.created).then_with(|| a.key.cmp(&b.key))
}

/// The first `limit` of all groups' files, without those that have expired, and
/// from where to go on.
///
/// Each group gave its first `limit`, or all it has, so the first `limit` of
/// them together are the first of all.
fn merge(listed: Vec<Listed>, limit: usize) -> (Vec<ObjectRecord>, Option<ListPosition>) {
    let mut more = listed.iter().any(|group| group.more);
    let mut all: Vec<(ObjectRecord, bool)> = listed
        .into_iter()
        .flat_map(|group| {
            let now = group.now;
            group.records.into_iter().map(move |record| {
                let expired = record.expired(now);
                (record, expired)
            })
        })
        .collect();
    all.sort_by(|(a, _), (b, _)| newest_first(a, b));
    more |= all.len() > limit;
    all.truncate(limit);
    // The place of the last one looked at, also when it has expired: the next
    // page goes on behind it.
    let next = all.last().filter(|_| more).map(|(last, _)| ListPosition {
        created: last.created,
        key: last.key.clone(),
    });
    let records = all
        .into_iter()
        .filter(|(_, expired)| !expired)
        .map(|(record, _)| record)
        .collect();
    (records, next)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use holdfast_model::record::Coding;
    use holdfast_model::{AccessKeyId, BucketId, Content, ObjectKey, Representation, VersionId};

    use super::*;

    fn record(key: &str, created: u64, expires: Option<u64>) -> ObjectRecord {
        ObjectRecord {
            bucket: BucketId::from_bytes([1; 16]),
            key: ObjectKey::new(key).unwrap(),
            version: VersionId::from_bytes([1; 16]),
            owner: AccessKeyId::from_bytes([1; 16]),
            created: Timestamp(created),
            expires: expires.map(Timestamp),
            content: Content {
                filename: None,
                mime: "text/plain".into(),
                size: 0,
                sha256: [0; 32],
                etag: "x".into(),
                checksums: BTreeMap::new(),
            },
            representation: Representation::Inline {
                bytes: bytes::Bytes::new(),
                coding: Coding::Identity,
            },
            downloads: None,
            password: None,
            delete_token: None,
            metadata: BTreeMap::new(),
            tags: BTreeMap::new(),
            derived: Vec::new(),
            revision: 1,
            fingerprint: None,
            kind: Default::default(),
            headers: Default::default(),
        }
    }

    fn group(records: Vec<ObjectRecord>, more: bool) -> Listed {
        Listed {
            records,
            now: Timestamp(100),
            more,
        }
    }

    fn names(records: &[ObjectRecord]) -> Vec<&str> {
        records.iter().map(|record| record.key.as_str()).collect()
    }

    #[test]
    fn groups_are_merged_newest_first() {
        let (page, next) = merge(
            vec![
                group(vec![record("a", 9, None), record("c", 5, None)], false),
                group(vec![record("b", 7, None), record("d", 5, None)], false),
            ],
            3,
        );
        assert_eq!(names(&page), ["a", "b", "c"]);
        let next = next.unwrap();
        assert_eq!((next.created.0, next.key.as_str()), (5, "c"));
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let (page, next) = merge(vec![group(vec![record("a", 9, None)], false)], 1);
        assert_eq!((names(&page), next), (vec!["a"], None));
    }

    #[test]
    fn expired_files_are_left_out_and_passed_over() {
        let (page, next) = merge(
            vec![group(
                vec![record("a", 9, None), record("b", 8, Some(50))],
                true,
            )],
            2,
        );
        assert_eq!(names(&page), ["a"]);
        assert_eq!(next.unwrap().key.as_str(), "b");
    }
}

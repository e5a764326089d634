//! Listings by object key, merged over all groups.
//!
//! A page is whole up to the place where it says to go on, or an error: a
//! group that does not answer fails it. Each group is asked once it has
//! confirmed its leader, so what was acknowledged before the page began is in
//! it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use holdfast_metadata::query::{Answer, KeyEntry, KeyPage, ListKeys, MAX_PAGE, Query};

use super::{Cluster, unexpected};
use crate::error::ClusterError;

impl Cluster {
    /// A page of a bucket's keys, over all groups.
    ///
    /// # Errors
    /// As [`Cluster::query`], of any group.
    pub async fn list_keys(
        &self,
        asked: ListKeys,
        deadline: Duration,
    ) -> Result<KeyPage, ClusterError> {
        let state = self.require_state()?;
        let groups = state.layout.data_groups().into_iter();
        let pages = groups.map(|group| {
            let query = Query::Keys(asked.clone());
            async move {
                match self.query(group, query, deadline, None).await? {
                    Answer::Keys(page) => Ok(page),
                    Answer::Refused(refusal) => Err(refusal.into()),
                    other => Err(unexpected(&other)),
                }
            }
        });
        let pages = try_join_all(pages).await?;
        Ok(merge(pages, &asked))
    }
}

/// Merges the groups' pages: up to the first place at which one of them has
/// more to say, and to the limit.
fn merge(pages: Vec<KeyPage>, asked: &ListKeys) -> KeyPage {
    let ends = pages.iter().filter_map(|page| page.next.clone());
    let end = ends.min_by(|a, b| a.order().cmp(&b.order()));
    let limit = asked.limit.min(MAX_PAGE) as usize;
    // Groups share common prefixes, and nothing else.
    let mut merged: BTreeMap<(String, u64), KeyEntry> = BTreeMap::new();
    for entry in pages.into_iter().flat_map(|page| page.entries) {
        let place = entry.cursor(asked.versions);
        if end.as_ref().is_none_or(|end| place.order() <= end.order()) {
            let (name, rank) = place.order();
            merged.insert((name.to_owned(), rank), entry);
        }
    }
    let cut = merged.len() > limit;
    let entries: Vec<KeyEntry> = merged.into_values().take(limit).collect();
    let last = entries.last().map(|entry| entry.cursor(asked.versions));
    let next = if cut {
        last.or(asked.after.clone())
    } else {
        end
    };
    KeyPage { entries, next }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use holdfast_metadata::query::{KeyCursor, ListedObject};
    use holdfast_model::{AccessKeyId, BucketId, ObjectKey, Timestamp, VersionId, VersionKind};

    use super::*;

    fn asked(limit: u32, after: Option<KeyCursor>) -> ListKeys {
        ListKeys {
            bucket: BucketId::from_bytes([1; 16]),
            prefix: String::new(),
            delimiter: Some("/".to_owned()),
            after,
            limit,
            versions: false,
        }
    }

    fn object(key: &str) -> KeyEntry {
        KeyEntry::Object(Box::new(ListedObject {
            key: ObjectKey::new(key).unwrap(),
            version: VersionId::from_bytes([1; 16]),
            kind: VersionKind::Null,
            current: true,
            created: Timestamp(0),
            size: 0,
            etag: String::new(),
            owner: AccessKeyId::from_bytes([1; 16]),
            sequence: 1,
        }))
    }

    fn entry(name: &str) -> KeyEntry {
        match name.ends_with('/') {
            true => KeyEntry::Prefix(name.to_owned()),
            false => object(name),
        }
    }

    /// What a group with these entries answers.
    fn group(names: &BTreeSet<&str>, asked: &ListKeys) -> KeyPage {
        let after = |entry: &KeyEntry| {
            let place = entry.cursor(false);
            asked
                .after
                .as_ref()
                .is_none_or(|after| place.order() > after.order())
        };
        let left: Vec<KeyEntry> = names.iter().map(|n| entry(n)).filter(after).collect();
        let entries: Vec<KeyEntry> = left.iter().take(asked.limit as usize).cloned().collect();
        let more = left.len() > entries.len();
        let last = entries.last().map(|entry| entry.cursor(false));
        let next = more.then_some(last).flatten();
        KeyPage { entries, next }
    }

    #[test]
    fn pages_of_any_size_show_each_entry_of_all_groups_once_and_in_order() {
        let groups: [BTreeSet<&str>; 4] = [
            ["a", "c", "d/", "z"].into(),
            ["b", "d/", "e", "f", "g", "h"].into(),
            ["d/"].into(),
            BTreeSet::new(),
        ];
        let expected: BTreeSet<&str> = groups.iter().flatten().copied().collect();
        let expected: Vec<KeyEntry> = expected.into_iter().map(entry).collect();
        for limit in 1..12 {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let asked = asked(limit, after);
                let pages = groups.iter().map(|names| group(names, &asked)).collect();
                let page = merge(pages, &asked);
                assert!(page.entries.len() <= limit as usize);
                found.extend(page.entries);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{limit}");
        }
    }

    #[test]
    fn a_group_that_came_less_far_holds_the_page_back() {
        let behind = KeyPage {
            entries: vec![],
            next: Some(KeyCursor::Key("b".to_owned())),
        };
        let ahead = KeyPage {
            entries: vec![object("a"), object("c")],
            next: None,
        };
        let page = merge(vec![behind, ahead], &asked(9, None));
        assert_eq!(page.entries, [object("a")]);
        assert_eq!(page.next, Some(KeyCursor::Key("b".to_owned())));
    }
}

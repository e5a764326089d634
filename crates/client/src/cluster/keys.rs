//! Listings by object key, merged over all groups.
//!
//! A page is whole up to the place where it says to go on, or an error: a
//! group that does not answer fails it. Each group is asked once it has
//! confirmed its leader, so what was acknowledged before the page began is in
//! it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use holdfast_metadata::query::{Answer, KeyCursor, KeyEntry, KeyPage, ListKeys, MAX_PAGE, Query};
use holdfast_model::GroupId;

use super::shares::{first_share, next_share};
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
        let groups = self.require_state()?.layout.data_groups();
        let limit = asked.limit.min(MAX_PAGE);
        // Groups share common prefixes, so each may have the whole page.
        let share = match asked.delimiter {
            None => first_share(limit, groups.len()),
            Some(_) => limit,
        };
        let mut shares: Vec<(GroupId, u32)> = groups.iter().map(|g| (*g, share)).collect();
        let mut pages: BTreeMap<GroupId, (u32, KeyPage)> = BTreeMap::new();
        let end = self.now().saturating_add(deadline);
        while !shares.is_empty() {
            let left = end.saturating_sub(self.now());
            let parts = shares.iter().map(|(group, share)| {
                let asked = ListKeys {
                    limit: *share,
                    ..asked.clone()
                };
                async move {
                    match self.query(*group, Query::Keys(asked), left, None).await? {
                        Answer::Keys(page) => Ok((*group, (*share, page))),
                        Answer::Refused(refusal) => Err(refusal.into()),
                        other => Err(unexpected(&other)),
                    }
                }
            });
            pages.extend(try_join_all(parts).await?);
            shares = too_small(&pages, limit, asked.versions);
        }
        let pages = pages.into_values().map(|(_, page)| page).collect();
        Ok(merge(pages, &asked))
    }
}

/// The groups that may have more of the page than they were asked for, and for
/// how much to ask them. One that has stopped for another reason has not.
fn too_small(
    pages: &BTreeMap<GroupId, (u32, KeyPage)>,
    limit: u32,
    versions: bool,
) -> Vec<(GroupId, u32)> {
    let entries = pages.values().flat_map(|(_, page)| &page.entries);
    let places: Vec<KeyCursor> = entries.map(|entry| entry.cursor(versions)).collect();
    let mut orders: Vec<_> = places.iter().map(KeyCursor::order).collect();
    orders.sort_unstable();
    orders.dedup();
    let cut = (limit as usize)
        .checked_sub(1)
        .and_then(|at| orders.get(at));
    let lacks = |share: u32, page: &KeyPage| {
        let ends_before = |next: &KeyCursor| cut.is_none_or(|cut| next.order() < *cut);
        let by_limit = page.entries.len() == share as usize && share < limit;
        by_limit && page.next.as_ref().is_some_and(ends_before)
    };
    let lacking = pages
        .iter()
        .filter(|(_, (share, page))| lacks(*share, page));
    lacking
        .map(|(group, (share, _))| (*group, next_share(*share, limit)))
        .collect()
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
        // A group that stopped amid keys that a common prefix stands for, which
        // another group has shown, would show it again on the next page.
        let shown = last.filter(|last| {
            let ends_in = |end: &KeyCursor| end.name().starts_with(last.name());
            matches!(last, KeyCursor::Prefix(_)) && end.as_ref().is_some_and(ends_in)
        });
        shown.or(end)
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
    fn shares_that_were_too_small_are_asked_for_again_until_the_page_is_full() {
        let names: Vec<String> = (0..3_000).map(|n| format!("k{n:04}")).collect();
        for uneven in [1, 3, 30] {
            let mut groups: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); 16];
            for (at, name) in names.iter().enumerate() {
                groups[at * 7 % 16 / uneven].insert(name);
            }
            let asked = ListKeys {
                delimiter: None,
                ..asked(1_000, None)
            };
            let mut shares: Vec<(GroupId, u32)> = (0..16)
                .map(|at| (GroupId(at), first_share(1_000, 16)))
                .collect();
            let mut pages = BTreeMap::new();
            while !shares.is_empty() {
                for (id, share) in shares {
                    let part = ListKeys {
                        limit: share,
                        ..asked.clone()
                    };
                    pages.insert(id, (share, group(&groups[usize::from(id.0)], &part)));
                }
                shares = too_small(&pages, 1_000, false);
            }
            let page = merge(pages.into_values().map(|(_, page)| page).collect(), &asked);
            let expected: Vec<KeyEntry> = names.iter().take(1_000).map(|n| entry(n)).collect();
            assert_eq!(page.entries, expected, "{uneven}");
            assert_eq!(page.next, Some(KeyCursor::Key("k0999".to_owned())));
        }
    }

    #[test]
    fn a_group_that_stopped_for_another_reason_is_not_asked_again() {
        let part = KeyPage {
            entries: vec![object("a")],
            next: Some(KeyCursor::Key("b".to_owned())),
        };
        let pages = BTreeMap::from([(GroupId(1), (99, part))]);
        assert_eq!(too_small(&pages, 1_000, false), []);
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

    #[test]
    fn a_common_prefix_is_not_shown_again_for_a_group_that_stopped_within_it() {
        let stopped = |at: &str| KeyPage {
            entries: vec![object("a")],
            next: Some(KeyCursor::Key(at.to_owned())),
        };
        let ahead = KeyPage {
            entries: vec![entry("d/"), object("z")],
            next: None,
        };
        let page = merge(vec![stopped("d/x"), ahead.clone()], &asked(9, None));
        assert_eq!(page.entries, [object("a"), entry("d/")]);
        assert_eq!(page.next, Some(KeyCursor::Prefix("d/".to_owned())));
        let page = merge(vec![stopped("e"), ahead], &asked(9, None));
        assert_eq!(page.next, Some(KeyCursor::Key("e".to_owned())));
    }
}

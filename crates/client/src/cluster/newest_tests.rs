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
        asked: records.len() as u32,
        records,
        now: Timestamp(100),
        more,
    }
}

fn names(page: &NewestPage) -> Vec<&str> {
    let records = page.records.iter();
    records.map(|record| record.key.as_str()).collect()
}

#[test]
fn groups_are_merged_newest_first() {
    let first = group(vec![record("a", 9, None), record("c", 5, None)], false);
    let second = group(vec![record("b", 7, None), record("d", 5, None)], false);
    let page = merge([first, second].into_iter(), 3);
    assert_eq!(names(&page), ["a", "b", "c"]);
    let next = page.next.unwrap();
    assert_eq!((next.created.0, next.key.as_str()), (5, "c"));
}

#[test]
fn the_last_page_has_no_cursor() {
    let page = merge([group(vec![record("a", 9, None)], false)].into_iter(), 1);
    assert_eq!((names(&page), page.next.is_none()), (vec!["a"], true));
}

#[test]
fn expired_files_are_left_out_and_passed_over() {
    let records = vec![record("a", 9, None), record("b", 8, Some(50))];
    let page = merge([group(records, true)].into_iter(), 2);
    assert_eq!(names(&page), ["a"]);
    assert_eq!(page.next.unwrap().key.as_str(), "b");
}

/// What groups with these records answer when each is asked for its share, and
/// again for as long as one had too small a share; how much was answered.
fn page_of(groups: &[Vec<ObjectRecord>], limit: u32) -> (NewestPage, usize) {
    let share = first_share(limit, groups.len());
    let mut shares: Vec<(GroupId, u32)> = (0..groups.len() as u16)
        .map(|group| (GroupId(group), share))
        .collect();
    let mut listed = BTreeMap::new();
    let mut answered = 0;
    while !shares.is_empty() {
        for (id, share) in shares {
            let all = &groups[usize::from(id.0)];
            let records: Vec<_> = all.iter().take(share as usize).cloned().collect();
            answered += records.len();
            let mut part = group(records, all.len() > share as usize);
            part.asked = share;
            listed.insert(id, part);
        }
        shares = too_small(&listed, limit);
    }
    (merge(listed.into_values(), limit as usize), answered)
}

#[test]
fn a_page_is_the_same_however_the_objects_are_spread_and_costs_little_when_evenly() {
    for uneven in [1, 2, 30] {
        let mut groups = vec![Vec::new(); 16];
        let mut all = Vec::new();
        for number in (0..4_000_u64).rev() {
            let record = record(&format!("k{number:04}"), number / 3, None);
            let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let group = (spread % 16) as usize / uneven;
            groups[group].push(record.clone());
            all.push(record);
        }
        all.sort_by(newest_first);
        groups
            .iter_mut()
            .for_each(|records| records.sort_by(newest_first));
        for limit in [1, 50, 1_000] {
            let (page, answered) = page_of(&groups, limit);
            assert_eq!(page.records, all[..limit as usize], "{uneven} {limit}");
            let last = &all[limit as usize - 1];
            let next = page.next.unwrap();
            assert_eq!((next.created, &next.key), (last.created, &last.key));
            if uneven == 1 && limit == 1_000 {
                assert!(answered < 2_000, "{answered} records for a page");
            }
        }
    }
}

//! Objects with versions, as S3 has them, against a model of one key.

use super::*;
use crate::command::{ClusterFacts, DeleteVersion, NewMarker};
use crate::query::{KeyEntry, ListKeys};
use holdfast_model::attributes::MAX_METADATA_BYTES;
use holdfast_model::{BucketFacts, VersionKind, Versioning};

fn set(bench: &mut Bench, versioning: Versioning) {
    let revision = match bench.ask(&Query::Bucket { bucket: BUCKET }) {
        Answer::Bucket { revision, .. } => revision.next(),
        other => panic!("{other:?}"),
    };
    let facts = ClusterFacts {
        revision,
        times: None,
        buckets: vec![BucketFacts {
            id: BUCKET,
            versioning,
            sealed: false,
        }],
        removed: Vec::new(),
    };
    assert_eq!(bench.run(Command::Learn(Box::new(facts))), Outcome::Done);
}

fn delete(named: Option<VersionId>, condition: Condition, marker: u64) -> Command {
    Command::DeleteVersion(Box::new(DeleteVersion {
        bucket: BUCKET,
        key: name("a"),
        version: named,
        condition,
        marker: Some(NewMarker {
            version: version(marker),
            owner: AccessKeyId::from_bytes([2; 16]),
        }),
    }))
}

fn named(bench: &Bench, version: VersionId) -> Option<VersionId> {
    let query = Query::Version {
        bucket: BUCKET,
        key: name("a"),
        version,
        chunks: 0,
    };
    match bench.ask(&query) {
        Answer::Object { record, .. } => record.map(|record| record.version),
        other => panic!("{other:?}"),
    }
}

fn current(bench: &Bench) -> Option<(VersionId, VersionKind)> {
    bench
        .object("a")
        .map(|record| (record.version, record.kind))
}

fn listed(bench: &Bench) -> Vec<VersionId> {
    let list = Query::List {
        bucket: BUCKET,
        owner: None,
        after: None,
        limit: 10,
    };
    match bench.ask(&list) {
        Answer::Listing { records, .. } => records.iter().map(|r| r.version).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn versions_stay_and_a_marker_hides_them_until_it_goes() {
    let mut bench = Bench::new();
    bench.run(commit(put("a", 1)));
    set(&mut bench, Versioning::Enabled);
    bench.run(commit(put("a", 2)));
    assert_eq!(current(&bench), Some((version(2), VersionKind::Numbered)));
    assert_eq!(named(&bench, version(1)), Some(version(1)));
    assert_eq!(named(&bench, VersionId::NULL), Some(version(1)));
    assert_eq!(listed(&bench), [version(2)]);
    let marked = bench.run(delete(None, Condition::Always, 3));
    assert_eq!(marked, Outcome::Marked(version(3)));
    assert_eq!(current(&bench), Some((version(3), VersionKind::Marker)));
    assert_eq!(listed(&bench), []);
    assert_eq!(bench.totals().objects, 2);
    let gone = bench.run(delete(Some(version(3)), Condition::Always, 0));
    assert_eq!(gone, Outcome::Deleted(version(3)));
    assert_eq!(listed(&bench), [version(2)]);
    bench.run(delete(Some(version(2)), Condition::Always, 0));
    assert_eq!(current(&bench), Some((version(1), VersionKind::Null)));
    assert_eq!(listed(&bench), [version(1)]);
    bench.run(delete(Some(VersionId::NULL), Condition::Always, 0));
    assert_eq!(current(&bench), None);
    assert_eq!(bench.totals(), Totals::default());
    let absent = bench.refused(delete(Some(version(2)), Condition::Always, 0));
    assert_eq!(absent, Refusal::NoSuchObject);
}

#[test]
fn a_suspended_bucket_replaces_its_null_version_alone() {
    let mut bench = Bench::new();
    set(&mut bench, Versioning::Enabled);
    bench.run(commit(put("a", 1)));
    set(&mut bench, Versioning::Suspended);
    bench.run(commit(put("a", 2)));
    assert_eq!(current(&bench), Some((version(2), VersionKind::Null)));
    bench.run(commit(put("a", 3)));
    assert_eq!(named(&bench, version(2)), None);
    assert_eq!(named(&bench, version(1)), Some(version(1)));
    let marked = bench.run(delete(None, Condition::Always, 4));
    assert_eq!(marked, Outcome::Marked(version(4)));
    assert_eq!(current(&bench), Some((version(4), VersionKind::NullMarker)));
    assert_eq!(named(&bench, version(3)), None);
    set(&mut bench, Versioning::Enabled);
    bench.run(commit(put("a", 5)));
    assert_eq!(named(&bench, VersionId::NULL), Some(version(4)));
    set(&mut bench, Versioning::Suspended);
    bench.run(commit(put("a", 6)));
    assert_eq!(named(&bench, VersionId::NULL), Some(version(6)));
    assert_eq!(named(&bench, version(4)), None);
    assert_eq!(named(&bench, version(5)), Some(version(5)));
}

#[test]
fn a_deletion_keeps_its_condition() {
    let mut bench = Bench::new();
    bench.run(commit(put("a", 1)));
    let tag = |tag: &str| Condition::Matches(tag.to_owned());
    assert_eq!(
        bench.refused(delete(None, tag("other"), 9)),
        Refusal::ConditionFailed(Some("tag1".to_owned()))
    );
    let version_2 = Condition::Version(version(2));
    let refused = bench.refused(delete(None, version_2.clone(), 9));
    assert!(matches!(refused, Refusal::ConditionFailed(_)));
    let absent = bench.refused(delete(None, Condition::Absent, 9));
    assert!(matches!(absent, Refusal::Invalid(_)));
    set(&mut bench, Versioning::Enabled);
    let mut second = put("a", 2);
    second.condition = Condition::Version(version(1));
    assert!(matches!(bench.run(commit(second)), Outcome::Put(_)));
    assert_eq!(
        bench.run(delete(None, version_2, 3)),
        Outcome::Marked(version(3))
    );
    // A marker is no object.
    let refused = bench.refused(delete(None, tag("tag2"), 4));
    assert_eq!(refused, Refusal::ConditionFailed(None));
    let mut fourth = put("a", 4);
    fourth.condition = Condition::Absent;
    assert!(matches!(bench.run(commit(fourth)), Outcome::Put(_)));
}

#[test]
fn what_an_object_carries_is_bounded() {
    let mut bench = Bench::new();
    let mut much = put("a", 1);
    let metadata = &mut much.record.metadata;
    metadata.insert("x".to_owned(), "y".repeat(MAX_METADATA_BYTES - 1));
    assert!(matches!(bench.run(commit(much.clone())), Outcome::Put(_)));
    much.record.version = version(2);
    much.record.metadata.insert("z".to_owned(), String::new());
    assert!(matches!(bench.refused(commit(much)), Refusal::Invalid(_)));
    let mut tagged = put("a", 3);
    tagged.record.tags = (0..11).map(|n| (n.to_string(), String::new())).collect();
    let refused = bench.refused(commit(tagged));
    assert!(matches!(refused, Refusal::Invalid(why) if why.contains("10 tags")));
    let mut headed = put("a", 4);
    headed.record.headers.encoding = Some("g".repeat(1_025));
    assert!(matches!(bench.refused(commit(headed)), Refusal::Invalid(_)));
    set(&mut bench, Versioning::Enabled);
    let refused = bench.refused(commit(limited("a", 5, 1)));
    assert!(matches!(refused, Refusal::Invalid(why) if why.contains("no expiry")));
}

/// Versions of one key, oldest first, against the state machine; the rows are
/// checked after every command.
#[test]
fn random_versions_agree_with_a_model() {
    for seed in 0..20 {
        let mut dice = random::Dice(seed);
        let mut bench = Bench::new();
        let mut model: Vec<(VersionId, VersionKind)> = Vec::new();
        let mut versioning = Versioning::Unversioned;
        for number in 1..120 {
            let new = version(number);
            let numbered = versioning == Versioning::Enabled;
            match dice.below(8) {
                0 => {
                    versioning = match dice.below(2) {
                        0 => Versioning::Enabled,
                        _ if versioning == Versioning::Unversioned => versioning,
                        _ => Versioning::Suspended,
                    };
                    set(&mut bench, versioning);
                }
                1..=3 => {
                    let outcome = bench.run(commit(put("a", number)));
                    assert!(matches!(outcome, Outcome::Put(_)), "{outcome:?}");
                    if !numbered {
                        model.retain(|(_, kind)| !kind.is_null());
                    }
                    let kind = [VersionKind::Null, VersionKind::Numbered][usize::from(numbered)];
                    model.push((new, kind));
                }
                4 => {
                    let outcome = bench.run(delete(None, Condition::Always, number));
                    if versioning != Versioning::Unversioned {
                        assert_eq!(outcome, Outcome::Marked(new));
                        if !numbered {
                            model.retain(|(_, kind)| !kind.is_null());
                        }
                        let kinds = [VersionKind::NullMarker, VersionKind::Marker];
                        model.push((new, kinds[usize::from(numbered)]));
                    } else {
                        model.pop();
                    }
                }
                5 => {
                    let outcome = bench.run(delete(Some(VersionId::NULL), Condition::Always, 0));
                    let null = model.iter().position(|(_, kind)| kind.is_null());
                    let expected = null.map(|at| model.remove(at).0);
                    let none = Outcome::Refused(Refusal::NoSuchObject);
                    assert_eq!(outcome, expected.map_or(none, Outcome::Deleted));
                }
                _ if model.is_empty() => {}
                _ => {
                    let at = dice.below(model.len() as u64) as usize;
                    let (id, _) = model.remove(at);
                    let outcome = bench.run(delete(Some(id), Condition::Always, 0));
                    assert_eq!(outcome, Outcome::Deleted(id));
                }
            }
            assert_eq!(current(&bench), model.last().copied());
            for (id, _) in &model {
                assert_eq!(named(&bench, *id), Some(*id));
            }
        }
    }
}

#[test]
fn all_versions_of_a_key_are_listed_newest_first_in_pages_of_any_size() {
    let mut bench = Bench::new();
    bench.run(commit(put("a", 1)));
    set(&mut bench, Versioning::Enabled);
    bench.run(commit(put("a", 2)));
    bench.run(delete(None, Condition::Always, 3));
    bench.run(commit(put("b", 4)));
    let page = |after, limit, versions| {
        let asked = ListKeys {
            bucket: BUCKET,
            prefix: String::new(),
            delimiter: None,
            after,
            limit,
            versions,
        };
        match bench.ask(&Query::Keys(asked)) {
            Answer::Keys(page) => page,
            other => panic!("{other:?}"),
        }
    };
    for limit in 1..6 {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = page(after, limit, true);
            for entry in page.entries {
                match entry {
                    KeyEntry::Object(object) => found.push((object.version, object.current)),
                    KeyEntry::Prefix(prefix) => panic!("{prefix}"),
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected = [(3, true), (2, false), (1, false), (4, true)];
        assert_eq!(found, expected.map(|(n, current)| (version(n), current)));
    }
    let current = page(None, 10, false);
    assert_eq!(current.entries.len(), 1, "the marker hides its key");
}

#[test]
fn tags_change_alone_and_only_of_what_is_there() {
    let mut bench = Bench::new();
    bench.run(commit(put("a", 1)));
    let tags = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let set = |key: &str, version, tags| Command::SetTags {
        bucket: BUCKET,
        key: name(key),
        version,
        tags,
    };
    let before = bench.object("a").unwrap();
    let Outcome::Put(told) = bench.run(set("a", None, tags(&[("x", "1"), ("y", "")]))) else {
        panic!("refused");
    };
    let after = bench.object("a").unwrap();
    assert_eq!(
        (told.revision, &told.tags),
        (2, &tags(&[("x", "1"), ("y", "")]))
    );
    let expected = ObjectRecord {
        tags: told.tags.clone(),
        revision: 2,
        ..before
    };
    assert_eq!(after, expected);
    let one = Some(version(1));
    assert!(matches!(
        bench.run(set("a", one, tags(&[]))),
        Outcome::Put(_)
    ));
    assert_eq!(bench.object("a").unwrap().tags, tags(&[]));
    assert_eq!(
        bench.refused(set("b", None, tags(&[]))),
        Refusal::NoSuchObject
    );
    let other = Some(version(2));
    assert_eq!(
        bench.refused(set("a", other, tags(&[]))),
        Refusal::NoSuchObject
    );
    let names: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "")).collect();
    assert!(matches!(
        bench.refused(set("a", None, tags(&many))),
        Refusal::Invalid(_)
    ));
    let mut short = put("c", 3);
    short.lifetime_millis = Some(1_000);
    bench.run(commit(short));
    bench.wait(1_000);
    assert_eq!(bench.refused(set("c", None, tags(&[]))), Refusal::Expired);
}

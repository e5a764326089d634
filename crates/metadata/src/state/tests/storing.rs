use super::*;
use crate::command::{INTENT_MILLIS, MissingFragment, REMEMBER_OUTCOME_MILLIS};

#[test]
fn a_small_object_comes_back_with_its_bytes() {
    let mut bench = Bench::new();
    let Outcome::Put(told) = bench.run(commit(put("a", 1))) else {
        panic!("refused");
    };
    let record = bench.object("a").unwrap();
    assert_eq!(told.created, START);
    assert!(
        matches!(told.representation, Representation::Inline { bytes, .. } if bytes.is_empty())
    );
    assert!(
        matches!(record.representation, Representation::Inline { bytes, .. } if &bytes[..] == b"0123456789")
    );
    assert_eq!(
        bench.delete("a", DeleteCause::Wish),
        Outcome::Deleted(version(1))
    );
    assert_eq!(bench.object("a"), None);
    assert_eq!(bench.totals(), Totals::default());
}

#[test]
fn a_repeated_request_gets_the_first_outcome_until_it_is_unknown() {
    let mut bench = Bench::new();
    let first = bench.request(commit(put("a", 1)));
    let done = bench.send(&first);
    assert!(matches!(done, Outcome::Put(_)));
    bench.delete("a", DeleteCause::Wish);
    assert_eq!(bench.send(&first), done);
    assert_eq!(bench.object("a"), None, "a late copy brought it back");
    let mut absent = put("b", 3);
    absent.condition = Condition::Matches("none".to_owned());
    let refused = bench.request(commit(absent));
    let refusal = bench.send(&refused);
    assert_eq!(refusal, Outcome::Refused(Refusal::ConditionFailed(None)));
    bench.wait(REMEMBER_OUTCOME_MILLIS);
    assert_eq!(bench.send(&first), done);
    bench.wait(1);
    let unknown = Outcome::Refused(Refusal::OutcomeUnknown);
    assert_eq!(bench.send(&first), unknown);
    assert_eq!(bench.send(&refused), unknown);
    bench.tick_after(MINUTE);
    assert_eq!(bench.next_due(), None, "outcomes are forgotten");
}

#[test]
fn a_refused_request_stays_refused_when_it_could_be_done_later() {
    let mut bench = Bench::new();
    bench.run(commit(put("a", 1)));
    let mut absent = put("a", 2);
    absent.condition = Condition::Absent;
    let request = bench.request(commit(absent));
    let refused = bench.send(&request);
    assert!(matches!(
        refused,
        Outcome::Refused(Refusal::ConditionFailed(_))
    ));
    bench.delete("a", DeleteCause::Wish);
    assert_eq!(bench.send(&request), refused);
    assert_eq!(bench.object("a"), None);
}

#[test]
fn conditions_hold() {
    let mut bench = Bench::new();
    let with = |number, condition| {
        let mut put = put("a", number);
        put.condition = condition;
        commit(put)
    };
    let tagged = |number: u64| Condition::Matches(format!("tag{number}"));
    assert_eq!(
        bench.refused(with(1, tagged(1))),
        Refusal::ConditionFailed(None)
    );
    assert!(matches!(
        bench.run(with(1, Condition::Absent)),
        Outcome::Put(_)
    ));
    let there = Refusal::ConditionFailed(Some("tag1".to_owned()));
    assert_eq!(bench.refused(with(2, Condition::Absent)), there);
    assert_eq!(bench.refused(with(2, tagged(2))), there);
    assert!(matches!(bench.run(with(2, tagged(1))), Outcome::Put(_)));
    assert_eq!(bench.totals().objects, 1);
}

#[test]
fn an_idempotency_key_answers_the_same_request_and_refuses_another() {
    let mut bench = Bench::new();
    let with = |number, fingerprint: u8| {
        let mut put = put("a", number);
        put.condition = Condition::Idempotent;
        put.record.fingerprint = Some([fingerprint; 32]);
        commit(put)
    };
    let first = bench.run(with(1, 7));
    assert!(matches!(first, Outcome::Put(_)));
    assert_eq!(bench.run(with(2, 7)), first);
    assert_eq!(bench.refused(with(3, 8)), Refusal::KeyReused);
}

#[test]
fn a_commit_needs_all_chunks_with_enough_fragments() {
    let mut bench = Bench::new();
    let whole = |index| chunk(index, 100, &[1, 2, 3]);
    let missing = bench.refused(commit(chunked("a", 1, 3, vec![whole(0), whole(2)])));
    assert!(matches!(missing, Refusal::UploadLost(_)), "{missing}");
    let thin = chunk(1, 100, &[1]);
    let thin = bench.refused(commit(chunked("a", 1, 3, vec![whole(0), thin, whole(2)])));
    assert!(matches!(thin, Refusal::UploadLost(_)), "{thin}");
    let wrong = chunk(1, 99, &[1, 2, 3]);
    let wrong = bench.refused(commit(chunked("a", 1, 3, vec![whole(0), wrong, whole(2)])));
    assert!(matches!(wrong, Refusal::Invalid(_)), "{wrong}");
    assert_eq!(bench.totals(), Totals::default());
    let two = chunk(1, 100, &[1, 2]);
    let done = bench.run(commit(chunked("a", 1, 3, vec![whole(0), two, whole(2)])));
    assert!(matches!(done, Outcome::Put(_)));
    assert_eq!((bench.totals().chunks, bench.totals().degraded), (3, 1));
    bench.delete("a", DeleteCause::Wish);
    let totals = bench.totals();
    assert_eq!((totals.chunks, totals.degraded, totals.garbage), (0, 0, 3));
    let Answer::Garbage(rows) = bench.ask(&Query::Garbage {
        limit: 10,
        after: None,
    }) else {
        panic!();
    };
    let items = rows.iter().map(|row| row.id).collect();
    bench.run(Command::CollectedGarbage { items });
    assert_eq!(bench.totals(), Totals::default());
}

fn begin(number: u64, generation: u64) -> Command {
    Command::BeginUpload {
        upload: upload(number),
        generation: Generation(generation),
        bucket: BUCKET,
        key: name("a"),
    }
}

fn append(number: u64, chunks: Vec<Chunk>) -> Command {
    Command::AppendChunks {
        upload: upload(number),
        chunks,
    }
}

#[test]
fn a_long_upload_appends_and_then_commits() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(begin(1, 1)), Outcome::Done);
    for index in 0..3 {
        let appended = append(1, vec![chunk(index, 100, &[1, 2, 3])]);
        assert_eq!(bench.run(appended), Outcome::Done);
        bench.wait(INTENT_MILLIS / 2);
        assert_eq!(bench.run(begin(1, 1)), Outcome::Done);
    }
    assert_eq!(bench.totals().uploads, 1);
    let last = vec![chunk(3, 100, &[1, 2])];
    assert!(matches!(
        bench.run(commit(chunked("a", 1, 4, last))),
        Outcome::Put(_)
    ));
    assert_eq!(bench.totals().uploads, 0);
    let late = bench.refused(append(1, vec![chunk(3, 100, &[1, 2, 3])]));
    assert!(matches!(late, Refusal::Invalid(_)));
    let query = Query::Object {
        bucket: BUCKET,
        key: name("a"),
        chunks: 2,
    };
    let Answer::Object { chunks, .. } = bench.ask(&query) else {
        panic!();
    };
    assert_eq!(chunks[0].chunks.len(), 2);
}

#[test]
fn an_upload_that_was_not_renewed_never_comes_back() {
    let mut bench = Bench::new();
    bench.run(begin(1, 1));
    bench.run(append(1, vec![chunk(0, 100, &[1, 2, 3])]));
    bench.tick_after(HALF_HOUR);
    assert_eq!(bench.next_due(), Some(START.plus(INTENT_MILLIS)));
    bench.tick_after(INTENT_MILLIS - HALF_HOUR);
    assert_eq!((bench.totals().uploads, bench.totals().garbage), (0, 1));
    assert!(matches!(bench.refused(begin(1, 1)), Refusal::UploadLost(_)));
    let again = commit(chunked("a", 1, 1, vec![chunk(0, 100, &[1, 2, 3])]));
    assert!(matches!(bench.refused(again), Refusal::UploadLost(_)));
}

#[test]
fn the_floor_waits_for_running_uploads_and_refuses_older_commits() {
    let mut bench = Bench::new();
    bench.run(begin(1, 1));
    bench.run(Command::AdvanceGeneration);
    let raise = Command::RaiseFloor { to: Generation(9) };
    let generations = |current, floor| Outcome::Generation {
        current: Generation(current),
        floor: Generation(floor),
    };
    assert_eq!(bench.run(raise.clone()), generations(2, 1));
    let given = vec![chunk(0, 100, &[1, 2, 3])];
    assert!(matches!(
        bench.run(commit(chunked("a", 1, 1, given.clone()))),
        Outcome::Put(_)
    ));
    assert_eq!(bench.run(raise), generations(2, 2));
    let late = bench.refused(commit(chunked("b", 2, 1, given)));
    assert!(matches!(late, Refusal::UploadLost(_)));
    assert!(matches!(bench.refused(begin(3, 1)), Refusal::UploadLost(_)));
    assert_eq!(bench.run(begin(3, 2)), Outcome::Done);
}

fn replace(seen: &[u64], now: &[u64], generation: u64) -> Command {
    Command::ReplaceFragments {
        upload: upload(1),
        chunk: 0,
        seen: places(seen),
        now: places(now),
        generation: Generation(generation),
    }
}

#[test]
fn repair_replaces_only_what_it_saw() {
    let mut bench = Bench::new();
    bench.run(commit(chunked("a", 1, 1, vec![chunk(0, 100, &[1, 2])])));
    assert_eq!(bench.totals().degraded, 1);
    assert_eq!(
        bench.refused(replace(&[1, 2, 3], &[1, 2, 4], 1)),
        Refusal::Stale
    );
    assert_eq!(bench.run(replace(&[1, 2], &[1, 2, 4], 1)), Outcome::Done);
    assert_eq!((bench.totals().degraded, bench.totals().garbage), (0, 0));
    let missing = |index: u8, number| MissingFragment {
        upload: upload(1),
        chunk: 0,
        place: FragmentPlace {
            index,
            disk: disk(number),
        },
    };
    let fragments = vec![missing(0, 1), missing(1, 9), missing(1, 2), missing(2, 4)];
    bench.run(Command::ReportMissing { fragments });
    assert_eq!((bench.totals().degraded, bench.totals().lost), (0, 1));
}

#[test]
fn a_fragment_is_not_put_where_garbage_is_deleted() {
    let mut bench = Bench::new();
    bench.run(commit(chunked("a", 1, 1, vec![chunk(0, 100, &[1, 2, 3])])));
    bench.run(replace(&[1, 2, 3], &[1, 2, 4], 1));
    assert_eq!(bench.totals().garbage, 1);
    let back = replace(&[1, 2, 4], &[1, 2, 3], 1);
    assert!(matches!(bench.refused(back.clone()), Refusal::Held(_)));
    bench.wait(HOUR);
    let Answer::Garbage(rows) = bench.ask(&Query::Garbage {
        limit: 10,
        after: None,
    }) else {
        panic!();
    };
    assert_eq!(rows[0].places, vec![(2, disk(3))]);
    let items = rows.iter().map(|row| row.id).collect();
    bench.run(Command::CollectedGarbage { items });
    // Written before the collection, it may be what was deleted.
    assert!(matches!(bench.refused(back), Refusal::Held(_)));
    assert_eq!(bench.run(replace(&[1, 2, 4], &[1, 2, 3], 2)), Outcome::Done);
    bench.run(Command::RaiseFloor { to: Generation(2) });
    bench.tick_after(1);
    let left = bench
        .rows()
        .iter()
        .filter(|(key, _)| matches!(key[0], 20 | 23))
        .count();
    assert_eq!(left, 1, "only the fence of the latest garbage is left");
}

#[test]
fn lists_are_newest_first_and_pages_meet() {
    let mut bench = Bench::new();
    for number in 0..7 {
        let mut put = put(&format!("k{number}"), number + 1);
        put.record.owner = AccessKeyId::from_bytes([number as u8 % 2; 16]);
        bench.run(commit(put));
        bench.wait(number % 2);
    }
    bench.run(commit(put("k3", 20)));
    let list = |bench: &Bench, owner: Option<u8>, limit| {
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let owner = owner.map(|byte| AccessKeyId::from_bytes([byte; 16]));
            let query = Query::List {
                bucket: BUCKET,
                owner,
                after,
                limit,
            };
            let Answer::Listing { records, more, .. } = bench.ask(&query) else {
                panic!();
            };
            assert!(records.len() <= limit as usize);
            after = records.last().map(|record| crate::query::ListPosition {
                created: record.created,
                key: record.key.clone(),
            });
            keys.extend(records.iter().map(|r| r.key.as_str().to_owned()));
            if !more {
                return keys;
            }
        }
    };
    let all = ["k3", "k6", "k4", "k5", "k2", "k0", "k1"];
    for limit in [1, 2, 3, 100] {
        assert_eq!(list(&bench, None, limit), all);
        assert_eq!(list(&bench, Some(0), limit), ["k6", "k4", "k2", "k0"]);
    }
}

#[test]
fn another_groups_objects_are_refused() {
    let mut bench = Bench::of(GroupId(2), &cluster_state(2));
    let mut of_ours = 0;
    for number in 0..20 {
        match bench.run(commit(put(&format!("k{number}"), number + 1))) {
            Outcome::Put(_) => of_ours += 1,
            other => assert_eq!(other, Outcome::Refused(Refusal::WrongGroup)),
        }
    }
    assert!((1..20).contains(&of_ours));
    let query = Query::Object {
        bucket: BUCKET,
        key: name("k0"),
        chunks: 0,
    };
    let (ours, theirs) = (Bench::new().ask(&query), bench.ask(&query));
    assert!(matches!(ours, Answer::Object { record: None, .. }));
    assert!(matches!(
        theirs,
        Answer::Object { .. } | Answer::Refused(Refusal::WrongGroup)
    ));
}

#[test]
fn a_crash_leaves_the_last_durable_commit() {
    let mut bench = Bench::new();
    bench.run(commit(put("a", 1)));
    bench.store.begin().unwrap().commit(true).unwrap();
    let durable = bench.rows();
    for number in 2..40 {
        bench.run(commit(put(&format!("k{number}"), number)));
    }
    assert_ne!(bench.rows(), durable);
    bench.disk.power_cut();
    let Bench { disk, store, .. } = bench;
    store.abandon();
    let store = Store::open(&(Arc::new(disk) as Arc<dyn Disk>), "state").unwrap();
    let view = store.snapshot().unwrap();
    assert_eq!(view.group(GROUP).applied().unwrap(), Some((1, 1)));
    let rows: Vec<_> = view.rows(GROUP).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, durable);
}

#[test]
fn groups_do_not_see_each_other() {
    let bench = Bench::new();
    let mut batch = bench.store.begin().unwrap();
    for group in [0, 2, u16::MAX] {
        batch
            .group(GroupId(group))
            .unwrap()
            .put(b"x", b"y")
            .unwrap();
    }
    let before = bench.rows();
    batch.delete_group(GroupId(2)).unwrap();
    batch.delete_group(GroupId(u16::MAX)).unwrap();
    batch.commit(false).unwrap();
    assert_eq!(bench.rows(), before);
    let view = bench.store.snapshot().unwrap();
    assert_eq!(view.rows(GroupId(0)).unwrap().count(), 1);
    assert_eq!(view.rows(GroupId(u16::MAX)).unwrap().count(), 0);
}

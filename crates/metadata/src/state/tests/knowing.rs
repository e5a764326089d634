//! What groups know of the cluster's state.

use super::*;
use crate::command::{ClusterCommand, ClusterFacts, RequestEnd};
use holdfast_model::{BucketFacts, ObjectTimes, TicketId, Versioning};

fn told(revision: u64, expiry_grace: u64) -> Command {
    Command::Learn(Box::new(ClusterFacts {
        revision: Epoch(revision),
        times: Some(ObjectTimes {
            expiry_grace,
            ticket_idle: 2_000,
            ticket_max: 3_000,
        }),
        buckets: Vec::new(),
        removed: Vec::new(),
    }))
}

fn expired_after(bench: &mut Bench, grace: u64) -> bool {
    let mut short = put("e", bench.now.0);
    short.lifetime_millis = Some(1_000);
    bench.run(commit(short));
    bench.wait(1_000 + grace - 1);
    let early = bench.delete("e", DeleteCause::Expired);
    bench.wait(1);
    early == Outcome::Refused(Refusal::NotYet)
        && matches!(bench.delete("e", DeleteCause::Expired), Outcome::Deleted(_))
}

#[test]
fn a_group_goes_by_the_times_of_the_latest_revision_whatever_order_they_come_in() {
    let mut bench = Bench::new();
    assert!(expired_after(&mut bench, EXPIRY_GRACE_MILLIS));
    assert_eq!(bench.run(told(5, 7_000)), Outcome::Done);
    assert!(expired_after(&mut bench, 7_000));
    assert_eq!(bench.run(told(4, 9_000)), Outcome::Done);
    assert!(expired_after(&mut bench, 7_000));
    assert_eq!(bench.run(told(6, 9_000)), Outcome::Done);
    assert!(expired_after(&mut bench, 9_000));
}

#[test]
fn tickets_end_by_the_times_that_the_group_was_told() {
    let mut bench = Bench::new();
    bench.run(told(2, 5_000));
    bench.run(commit(limited("a", 1, 2)));
    let ticket = TicketId::from_bytes([1; 16]);
    let reserved = bench.run(Command::ReserveDownload {
        bucket: BUCKET,
        key: name("a"),
        version: version(1),
        ticket,
        range: span(0, 10),
    });
    let deadline = bench.now.plus(3_000);
    assert_eq!(reserved, Outcome::Reserved { left: 1, deadline });
    bench.run(Command::EndRequest {
        bucket: BUCKET,
        key: name("a"),
        ticket,
        range: span(0, 10),
        end: RequestEnd::Sent,
    });
    let idle = bench.now.plus(2_000);
    let query = Query::Ticket { ticket };
    assert_eq!(bench.ask(&query), Answer::Ticket(Some(idle)));
}

#[test]
fn a_group_is_born_with_the_times_of_the_first_state() {
    let mut state = cluster_state(1);
    state.times.expiry_grace = 4_000;
    let mut bench = Bench::of(GROUP, &state);
    assert!(expired_after(&mut bench, 4_000));
}

#[test]
fn times_out_of_bounds_are_refused_by_group_0_and_by_a_group() {
    let mut bench = Bench::of(GroupId::CLUSTER, &cluster_state(1));
    let times = ObjectTimes {
        expiry_grace: 0,
        ..ObjectTimes::default()
    };
    let set = |times| Command::Cluster(Box::new(ClusterCommand::SetTimes(times)));
    assert!(matches!(bench.refused(set(times)), Refusal::Invalid(why) if why.contains("1s")));
    let times = ObjectTimes {
        expiry_grace: 2_000,
        ..times
    };
    assert_eq!(bench.run(set(times)), Outcome::Done);
    match bench.ask(&Query::Cluster) {
        Answer::Cluster(state) => assert_eq!((state.times, state.revision), (times, Epoch(2))),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Bench::new().refused(told(5, 0)),
        Refusal::Invalid(_)
    ));
}

const OTHER: BucketId = BucketId::from_bytes([5; 16]);

fn facts(id: BucketId, sealed: bool) -> BucketFacts {
    BucketFacts {
        id,
        versioning: Versioning::Unversioned,
        sealed,
    }
}

fn of_buckets(revision: u64, buckets: Vec<BucketFacts>, removed: Vec<BucketId>) -> Command {
    Command::Learn(Box::new(ClusterFacts {
        revision: Epoch(revision),
        times: None,
        buckets,
        removed,
    }))
}

fn put_into(bucket: BucketId, number: u64) -> Command {
    let mut put = put("x", number);
    put.record.bucket = bucket;
    commit(put)
}

fn is_empty(bench: &Bench, bucket: BucketId) -> bool {
    match bench.ask(&Query::Bucket { bucket }) {
        Answer::Bucket { empty, .. } => empty,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_needs_a_bucket_that_is_known_and_not_sealed() {
    let mut bench = Bench::new();
    assert_eq!(bench.refused(put_into(OTHER, 1)), Refusal::NoSuchBucket);
    bench.run(of_buckets(2, vec![facts(OTHER, false)], Vec::new()));
    assert!(matches!(bench.run(put_into(OTHER, 2)), Outcome::Put(_)));
    bench.run(of_buckets(3, vec![facts(OTHER, true)], Vec::new()));
    assert_eq!(bench.refused(put_into(OTHER, 3)), Refusal::BucketSealed);
    let begin = Command::BeginUpload {
        upload: upload(1),
        generation: Generation(1),
        bucket: OTHER,
        key: name("x"),
    };
    assert_eq!(bench.refused(begin), Refusal::BucketSealed);
    // An older word does not open it again.
    bench.run(of_buckets(2, vec![facts(OTHER, false)], Vec::new()));
    assert_eq!(bench.refused(put_into(OTHER, 4)), Refusal::BucketSealed);
    assert!(!is_empty(&bench, OTHER));
    assert!(is_empty(&bench, BUCKET));
}

#[test]
fn a_bucket_is_forgotten_only_sealed_and_empty_and_does_not_come_back() {
    let mut bench = Bench::new();
    bench.run(of_buckets(2, vec![facts(OTHER, false)], Vec::new()));
    bench.run(put_into(OTHER, 1));
    let forget = |revision| of_buckets(revision, Vec::new(), vec![OTHER]);
    assert_eq!(bench.refused(forget(9)), Refusal::Stale);
    bench.run(of_buckets(4, vec![facts(OTHER, true)], Vec::new()));
    assert_eq!(bench.refused(forget(9)), Refusal::BucketNotEmpty);
    bench.run(Command::DeleteObject {
        bucket: OTHER,
        key: name("x"),
        version: None,
        cause: DeleteCause::Wish,
    });
    assert_eq!(bench.refused(forget(3)), Refusal::Stale);
    assert_eq!(bench.run(forget(9)), Outcome::Done);
    assert_eq!(bench.run(forget(9)), Outcome::Done);
    // What was told before it was forgotten, and comes late.
    bench.run(of_buckets(8, vec![facts(OTHER, false)], Vec::new()));
    assert_eq!(bench.refused(put_into(OTHER, 2)), Refusal::NoSuchBucket);
    // Others of that revision are taken.
    let third = BucketId::from_bytes([6; 16]);
    bench.run(of_buckets(9, vec![facts(third, false)], Vec::new()));
    assert!(matches!(bench.run(put_into(third, 3)), Outcome::Put(_)));
}

#[test]
fn a_group_of_an_earlier_release_takes_all_buckets_until_it_is_told() {
    let mut bench = Bench::new();
    let mut batch = bench.store.begin().unwrap();
    let mut txn = batch.group(GROUP).unwrap();
    txn.delete(&super::super::keys::known()).unwrap();
    drop(txn);
    batch.commit(true).unwrap();
    let begin = |number| Command::BeginUpload {
        upload: upload(number),
        generation: Generation(1),
        bucket: OTHER,
        key: name("x"),
    };
    assert_eq!(bench.run(begin(1)), Outcome::Done);
    bench.run(of_buckets(2, vec![facts(BUCKET, false)], Vec::new()));
    assert_eq!(bench.run(begin(2)), Outcome::Done);
    bench.run(told(2, 1_000));
    assert_eq!(bench.refused(begin(3)), Refusal::NoSuchBucket);
}

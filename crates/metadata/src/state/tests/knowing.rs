//! What groups know of the cluster's state.

use super::*;
use crate::command::{ClusterCommand, ClusterFacts, RequestEnd};
use holdfast_model::{ObjectTimes, TicketId};

fn told(revision: u64, expiry_grace: u64) -> Command {
    Command::Learn(Box::new(ClusterFacts {
        revision: Epoch(revision),
        times: Some(ObjectTimes {
            expiry_grace,
            ticket_idle: 2_000,
            ticket_max: 3_000,
        }),
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

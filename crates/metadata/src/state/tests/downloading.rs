use super::*;
use crate::command::{EndedRequest, MAX_ENDS_PER_COMMAND, RequestEnd};
use holdfast_model::{TaskKind, TaskState, TicketId};

fn ticket(number: u64) -> TicketId {
    TicketId::from_bytes(id16(number))
}

fn reserve(number: u64) -> Command {
    Command::ReserveDownload {
        bucket: BUCKET,
        key: name("a"),
        version: version(1),
        ticket: ticket(number),
        range: span(0, 10),
    }
}

fn again(number: u64, range: ByteSpan) -> Command {
    Command::UseTicket {
        bucket: BUCKET,
        key: name("a"),
        ticket: ticket(number),
        range,
    }
}

fn end(number: u64, range: ByteSpan, end: RequestEnd) -> Command {
    Command::EndRequest {
        bucket: BUCKET,
        key: name("a"),
        ticket: ticket(number),
        range,
        end,
    }
}

fn left(bench: &Bench) -> u32 {
    bench.object("a").unwrap().downloads.unwrap().left
}

fn delete_tasks(bench: &Bench) -> Vec<holdfast_model::Task> {
    let query = Query::Tasks {
        state: Some(TaskState::Pending),
        limit: 10,
    };
    let Answer::Tasks(tasks) = bench.ask(&query) else {
        panic!();
    };
    assert!(tasks.iter().all(|task| task.kind == TaskKind::Delete));
    tasks
}

#[test]
fn a_limit_of_three_gives_three_of_fifty_reservations() {
    let mut bench = Bench::new();
    bench.run(commit(limited("a", 1, 3)));
    let requests = (0..50)
        .map(|number| bench.request(reserve(number)))
        .collect();
    let outcomes = bench.send_all(requests);
    let got = outcomes
        .iter()
        .filter(|o| matches!(o, Outcome::Reserved { .. }));
    assert_eq!(got.count(), 3);
    let none = outcomes
        .iter()
        .filter(|o| **o == Outcome::Refused(Refusal::Exhausted));
    assert_eq!(none.count(), 47);
    assert_eq!(bench.totals().tickets, 3);
}

#[test]
fn a_ticket_serves_each_byte_twice() {
    let mut bench = Bench::new();
    bench.run(commit(limited("a", 1, 3)));
    bench.run(reserve(1));
    assert!(matches!(
        bench.run(again(1, span(3, 6))),
        Outcome::Reserved { left: 2, .. }
    ));
    let used = bench.refused(again(1, span(5, 7)));
    assert!(matches!(used, Refusal::TicketEnded(_)));
    assert!(matches!(
        bench.run(again(1, span(6, 10))),
        Outcome::Reserved { .. }
    ));
    let outside = bench.refused(again(1, span(0, 11)));
    assert!(matches!(outside, Refusal::Invalid(_)));
}

#[test]
fn requests_that_end_together_count_each_by_itself() {
    let mut bench = Bench::new();
    bench.run(commit(limited("a", 1, 3)));
    for number in 1..=3 {
        bench.run(reserve(number));
    }
    let ended = |number, end| EndedRequest {
        bucket: BUCKET,
        key: name("a"),
        ticket: ticket(number),
        range: span(0, 10),
        end,
    };
    let ends = vec![
        ended(1, RequestEnd::GivenBack),
        // Nobody knows it: it is refused alone.
        ended(9, RequestEnd::GivenBack),
        ended(2, RequestEnd::Sent),
        // Twice in one command, as twice in two.
        ended(1, RequestEnd::GivenBack),
        ended(3, RequestEnd::GivenBack),
    ];
    let outcome = bench.run(Command::EndRequests { ends });
    assert_eq!(outcome, Outcome::Done);
    assert_eq!((left(&bench), bench.totals().tickets), (2, 1));
    let many = vec![ended(2, RequestEnd::Sent); MAX_ENDS_PER_COMMAND + 1];
    let refused = bench.refused(Command::EndRequests { ends: many });
    assert!(matches!(refused, Refusal::Invalid(_)));
}

#[test]
fn a_download_is_given_back_only_when_nothing_was_sent() {
    let mut bench = Bench::new();
    bench.run(commit(limited("a", 1, 3)));
    bench.run(reserve(1));
    assert_eq!(left(&bench), 2);
    bench.run(end(1, span(0, 10), RequestEnd::GivenBack));
    assert_eq!((left(&bench), bench.totals().tickets), (3, 0));
    bench.run(reserve(2));
    bench.run(again(2, span(0, 5)));
    bench.run(end(2, span(0, 10), RequestEnd::GivenBack));
    assert_eq!(left(&bench), 2, "another request is open");
    bench.run(end(2, span(0, 5), RequestEnd::Sent));
    assert_eq!((left(&bench), bench.totals().tickets), (2, 1));
    let late = bench.refused(end(2, span(0, 5), RequestEnd::GivenBack));
    assert!(matches!(late, Refusal::TicketEnded(_)));
    assert_eq!(left(&bench), 2);
}

#[test]
fn data_goes_when_every_reservation_is_settled() {
    let mut bench = Bench::new();
    bench.run(commit(limited("a", 1, 2)));
    bench.run(reserve(1));
    bench.run(reserve(2));
    bench.run(end(1, span(0, 10), RequestEnd::Sent));
    bench.tick_after(HALF_HOUR);
    assert_eq!(bench.next_due(), Some(START.plus(TICKET_IDLE_MILLIS)));
    bench.tick_after(TICKET_IDLE_MILLIS - HALF_HOUR);
    assert_eq!(
        bench.totals().tickets,
        1,
        "the other gateway may still be sending"
    );
    assert!(delete_tasks(&bench).is_empty());
    let early = bench.delete("a", DeleteCause::Exhausted);
    assert_eq!(early, Outcome::Refused(Refusal::NotYet));
    bench.tick_after(TICKET_MAX_MILLIS - TICKET_IDLE_MILLIS);
    assert_eq!(bench.totals().tickets, 0);
    let tasks = delete_tasks(&bench);
    assert_eq!((tasks.len(), tasks[0].due), (1, bench.now));
    assert_eq!(
        bench.delete("a", DeleteCause::Exhausted),
        Outcome::Deleted(version(1))
    );
    assert!(delete_tasks(&bench).is_empty());
}

#[test]
fn a_ticket_that_can_serve_nothing_more_is_settled_at_once() {
    let mut bench = Bench::new();
    bench.run(commit(limited("a", 1, 1)));
    bench.run(reserve(1));
    bench.run(again(1, span(0, 10)));
    bench.run(end(1, span(0, 10), RequestEnd::Sent));
    assert!(delete_tasks(&bench).is_empty());
    bench.run(end(1, span(0, 10), RequestEnd::Sent));
    assert_eq!((bench.totals().tickets, delete_tasks(&bench).len()), (0, 1));
}

#[test]
fn an_expired_object_is_refused_at_once_and_deleted_after_its_grace() {
    let mut bench = Bench::new();
    let mut put = limited("a", 1, 5);
    put.lifetime_millis = Some(HOUR);
    bench.run(commit(put));
    bench.run(reserve(1));
    let expires = START.plus(HOUR);
    bench.wait(HOUR - 1);
    assert!(matches!(bench.run(reserve(2)), Outcome::Reserved { .. }));
    bench.wait(1);
    assert_eq!(bench.refused(reserve(3)), Refusal::Expired);
    assert_eq!(bench.refused(again(1, span(0, 1))), Refusal::Expired);
    let list = Query::List {
        bucket: BUCKET,
        owner: None,
        after: None,
        limit: 10,
    };
    assert!(matches!(bench.ask(&list), Answer::Listing { records, .. } if records.is_empty()));
    let early = bench.delete("a", DeleteCause::Expired);
    assert_eq!(early, Outcome::Refused(Refusal::NotYet));
    bench.tick_after(0);
    assert_eq!(
        delete_tasks(&bench)[0].due,
        expires.plus(EXPIRY_GRACE_MILLIS)
    );
    assert_eq!(
        bench.run(Command::PublishTasks { limit: 9 }),
        Outcome::Tasks(Vec::new())
    );
    bench.wait(EXPIRY_GRACE_MILLIS);
    assert!(
        matches!(bench.run(Command::PublishTasks { limit: 9 }), Outcome::Tasks(t) if t.len() == 1)
    );
    assert_eq!(
        bench.delete("a", DeleteCause::Expired),
        Outcome::Deleted(version(1))
    );
    assert_eq!(bench.totals(), Totals::default());
}

#[test]
fn a_groups_time_never_goes_back() {
    let mut bench = Bench::new();
    let mut put = limited("a", 1, 5);
    put.lifetime_millis = Some(HOUR);
    bench.run(commit(put));
    bench.tick_after(HOUR);
    bench.now = START.plus(HOUR - MINUTE);
    assert_eq!(bench.refused(reserve(1)), Refusal::Expired);
}

#[test]
fn wrong_reservations_are_refused() {
    let mut bench = Bench::new();
    assert_eq!(bench.refused(reserve(1)), Refusal::NoSuchObject);
    bench.run(commit(put("a", 1)));
    assert!(matches!(bench.refused(reserve(1)), Refusal::Invalid(_)));
    bench.run(commit(limited("a", 2, 1)));
    assert_eq!(bench.refused(reserve(1)), Refusal::NoSuchObject);
}

//! Commands of clients: objects and their downloads, whose outcomes the model
//! foretells.

use holdfast_model::{TaskId, TaskKind, TicketId};

use super::super::*;
use super::{Dice, Model, Object, Ticket, generation, random_disks, tell};
use crate::command::{NewTask, RequestEnd};

pub(super) fn put_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice, key: &str) {
    let number = model.next();
    let count = dice.below(3) as u32;
    let mut put = if count == 0 {
        put(key, number)
    } else {
        let current = generation(bench);
        let chunks = (0..count)
            .map(|index| Chunk {
                generation: current,
                ..chunk(index, 100, &random_disks(dice))
            })
            .collect();
        let mut put = chunked(key, number, count, chunks);
        put.generation = Some(current);
        put
    };
    put.record.downloads = (dice.below(2) == 0).then(|| DownloadLimit {
        limit: 1 + dice.below(3) as u32,
        left: 0,
    });
    put.lifetime_millis = (dice.below(2) == 0).then(|| dice.below(3 * HOUR) + 1);
    put.tasks = (0..dice.below(3))
        .map(|n| NewTask {
            id: TaskId::from_bytes(id16(number * 10 + n)),
            kind: TaskKind::Thumbnail,
        })
        .collect();
    put.condition = match dice.below(2) {
        0 => Condition::Always,
        _ => Condition::Absent,
    };
    let refused = put.condition == Condition::Absent && model.live(key, bench.now);
    let limit = put.record.downloads.map(|limit| limit.limit);
    let object = Object {
        version: version(number),
        limit,
        left: limit.unwrap_or(0),
        expires: put.lifetime_millis.map(|millis| bench.now.plus(millis)),
    };
    let sealed = model.sealed.1;
    match tell(bench, model, commit(put)) {
        Outcome::Refused(Refusal::BucketSealed) if sealed => {}
        Outcome::Put(_) if !refused && !sealed => {
            model.objects.insert(key.to_owned(), object);
        }
        Outcome::Refused(Refusal::ConditionFailed(Some(_))) if refused => {}
        other => panic!("{other:?}"),
    }
}

pub(super) fn delete_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice, key: &str) {
    let cause = match dice.below(3) {
        0 => DeleteCause::Wish,
        1 => DeleteCause::Expired,
        _ => DeleteCause::Exhausted,
    };
    let now = bench.now;
    let expected = match model.objects.get(key) {
        None => Err(Refusal::NoSuchObject),
        Some(object) => {
            let busy = |ticket: &Ticket| ticket.version == object.version && ticket.deadline > now;
            let may = match cause {
                DeleteCause::Wish => true,
                DeleteCause::Expired => object
                    .expires
                    .is_some_and(|end| end.plus(EXPIRY_GRACE_MILLIS) <= now),
                DeleteCause::Exhausted => {
                    object.limit.is_some() && object.left == 0 && !model.tickets.iter().any(busy)
                }
            };
            if may {
                Ok(object.version)
            } else {
                Err(Refusal::NotYet)
            }
        }
    };
    let command = Command::DeleteObject {
        bucket: BUCKET,
        key: name(key),
        version: None,
        cause,
    };
    let outcome = tell(bench, model, command);
    match expected {
        Ok(version) => {
            assert_eq!(outcome, Outcome::Deleted(version));
            model.objects.remove(key);
        }
        Err(refusal) => assert_eq!(outcome, Outcome::Refused(refusal)),
    }
}

pub(super) fn reserve_something(bench: &mut Bench, model: &mut Model, key: &str) {
    let id = TicketId::from_bytes(id16(model.next()));
    let now = bench.now;
    let object = model.objects.get(key).cloned();
    let command = Command::ReserveDownload {
        bucket: BUCKET,
        key: name(key),
        version: object.as_ref().map_or(version(0), |object| object.version),
        ticket: id,
        range: span(0, 10),
    };
    let outcome = tell(bench, model, command);
    let Some(object) = object else {
        assert_eq!(outcome, Outcome::Refused(Refusal::NoSuchObject));
        return;
    };
    if object.expires.is_some_and(|end| end <= now) {
        assert_eq!(outcome, Outcome::Refused(Refusal::Expired));
    } else if object.limit.is_none() {
        assert!(matches!(outcome, Outcome::Refused(Refusal::Invalid(_))));
    } else if object.left == 0 {
        assert_eq!(outcome, Outcome::Refused(Refusal::Exhausted));
    } else {
        let left = object.left - 1;
        let deadline = now.plus(TICKET_MAX_MILLIS);
        assert_eq!(outcome, Outcome::Reserved { left, deadline });
        model.objects.get_mut(key).unwrap().left = left;
        model.tickets.push(Ticket {
            id,
            key: key.to_owned(),
            version: object.version,
            started: now,
            deadline,
            open: 1,
            sent: false,
        });
    }
}

pub(super) fn end_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice) {
    if model.tickets.is_empty() {
        return;
    }
    let at = dice.below(model.tickets.len() as u64) as usize;
    let now = bench.now;
    let sent = dice.below(2) == 0;
    let ticket = &model.tickets[at];
    let same = |object: &&mut Object| object.version == ticket.version;
    let object = model.objects.get_mut(&ticket.key).filter(same);
    let good = object.is_some() && ticket.deadline > now && ticket.open > 0;
    let command = Command::EndRequest {
        bucket: BUCKET,
        key: name(&ticket.key),
        ticket: ticket.id,
        range: span(0, 10),
        end: if sent {
            RequestEnd::Sent
        } else {
            RequestEnd::GivenBack
        },
    };
    let outcome = bench.run(command);
    if !good {
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        return;
    }
    assert_eq!(outcome, Outcome::Done);
    let ticket = &mut model.tickets[at];
    ticket.open -= 1;
    ticket.sent |= sent;
    ticket.deadline = now
        .plus(TICKET_IDLE_MILLIS)
        .min(ticket.started.plus(TICKET_MAX_MILLIS));
    if !ticket.sent {
        object.unwrap().left += 1;
        model.tickets.remove(at);
    }
}

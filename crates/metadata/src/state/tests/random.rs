//! Random commands against a small model of objects, and against a second
//! store that gets the same batches.

use std::collections::BTreeMap;

use super::*;
use crate::command::{
    AttemptResult, ClusterFacts, MissingFragment, NewTask, REMEMBER_OUTCOME_MILLIS, RequestEnd,
    TaskAttempt,
};
use holdfast_model::{BucketFacts, Task, TaskId, TaskKind, TicketId, Versioning};

const SEEDS: u64 = 12;
const STEPS: usize = 300;

pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695);
        (self.0 >> 33) % end
    }
}

#[derive(Clone, Debug)]
struct Object {
    version: VersionId,
    limit: Option<u32>,
    left: u32,
    expires: Option<Timestamp>,
}

struct Ticket {
    id: TicketId,
    key: String,
    version: VersionId,
    started: Timestamp,
    deadline: Timestamp,
    open: u32,
    sent: bool,
}

/// What should be, as far as objects and downloads go.
#[derive(Default)]
struct Model {
    objects: BTreeMap<String, Object>,
    tickets: Vec<Ticket>,
    claimed: Vec<Task>,
    told: Vec<(Request, Outcome, Timestamp)>,
    number: u64,
    /// The revision that the group was told last, and whether that sealed the bucket.
    sealed: (u64, bool),
}

impl Model {
    fn live(&self, key: &str, now: Timestamp) -> bool {
        self.objects.get(key).is_some_and(|object| {
            object.expires.is_none_or(|end| end > now)
                && (object.limit.is_none() || object.left > 0)
        })
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

fn generation(bench: &Bench) -> Generation {
    match bench.ask(&Query::Generation) {
        Answer::Generation { current, .. } => current,
        other => panic!("{other:?}"),
    }
}

fn random_disks(dice: &mut Dice) -> Vec<u64> {
    let first = dice.below(6);
    (0..2 + dice.below(2))
        .map(|n| (first + n) % 6 + 1)
        .collect()
}

/// Sends a command whose outcome the model foretells.
fn tell(bench: &mut Bench, model: &mut Model, command: Command) -> Outcome {
    let request = bench.request(command);
    let outcome = bench.send(&request);
    model.told.push((request, outcome.clone(), bench.now));
    outcome
}

fn put_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice, key: &str) {
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

fn delete_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice, key: &str) {
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

fn reserve_something(bench: &mut Bench, model: &mut Model, key: &str) {
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

fn end_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice) {
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

fn repair_something(bench: &mut Bench, dice: &mut Dice) {
    let query = Query::Rows {
        before: None,
        after: None,
        limit: 100,
    };
    let Answer::Rows(rows) = bench.ask(&query) else {
        panic!();
    };
    if rows.is_empty() {
        return;
    }
    let row = &rows[dice.below(rows.len() as u64) as usize];
    let seen = row.chunk.fragments.clone();
    let command = if dice.below(3) == 0 {
        let fragments = seen
            .iter()
            .filter(|_| dice.below(2) == 0)
            .map(|place| MissingFragment {
                upload: row.upload,
                chunk: row.chunk.index,
                place: *place,
            })
            .collect();
        Command::ReportMissing { fragments }
    } else {
        let mut now = places(&random_disks(dice));
        now.rotate_left(1);
        Command::ReplaceFragments {
            upload: row.upload,
            chunk: row.chunk.index,
            seen,
            now,
            generation: generation(bench),
        }
    };
    bench.run(command);
}

fn clean_something(bench: &mut Bench, dice: &mut Dice) {
    match dice.below(3) {
        0 => {
            bench.run(Command::AdvanceGeneration);
        }
        1 => {
            let to = generation(bench);
            bench.run(Command::RaiseFloor { to });
        }
        _ => {
            let Answer::Garbage(rows) = bench.ask(&Query::Garbage {
                limit: 5,
                after: None,
            }) else {
                panic!();
            };
            let items = rows.iter().map(|row| row.id).collect();
            bench.run(Command::CollectedGarbage { items });
        }
    }
}

fn upload_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice, key: &str) {
    let number = 1_000_000 + dice.below(4);
    let generation = generation(bench);
    let command = match dice.below(4) {
        0 => Command::BeginUpload {
            upload: upload(number + 10 * generation.0),
            generation,
            bucket: BUCKET,
            key: name(key),
        },
        1 | 2 => {
            let disks = random_disks(dice);
            Command::AppendChunks {
                upload: upload(number + 10 * generation.0),
                chunks: vec![Chunk {
                    generation,
                    ..chunk(dice.below(3) as u32, 100, &disks)
                }],
            }
        }
        _ => Command::AbortUpload {
            upload: upload(number + 10 * generation.0),
        },
    };
    tell(bench, model, command);
    model.told.pop();
}

fn work_on_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice) {
    if dice.below(2) == 0 || model.claimed.is_empty() {
        if let Outcome::Tasks(tasks) = bench.run(Command::PublishTasks { limit: 3 }) {
            for task in tasks {
                let claim = Command::ClaimTask {
                    task: task.id,
                    worker: "w".to_owned(),
                };
                if let Outcome::Claimed(task) = bench.run(claim) {
                    model.claimed.push(*task);
                }
            }
        }
        return;
    }
    let at = dice.below(model.claimed.len() as u64) as usize;
    let task = model.claimed.swap_remove(at);
    let result = match dice.below(3) {
        0 => AttemptResult::Done,
        1 => AttemptResult::Retry {
            error: "no".to_owned(),
            after_millis: dice.below(HOUR),
        },
        _ => AttemptResult::Final {
            error: "never".to_owned(),
        },
    };
    let task = TaskAttempt {
        task: task.id,
        attempt: task.attempts,
    };
    bench.run(Command::FinishTask { task, result });
}

/// Tells of the bucket, now and then with what is older than it knows.
fn seal_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice) {
    let (known, _) = model.sealed;
    let revision = (known + dice.below(4)).saturating_sub(1);
    let sealed = dice.below(3) == 0;
    let facts = ClusterFacts {
        revision: Epoch(revision),
        times: None,
        buckets: vec![BucketFacts {
            id: BUCKET,
            versioning: Versioning::Unversioned,
            sealed,
        }],
        removed: Vec::new(),
    };
    assert_eq!(bench.run(Command::Learn(Box::new(facts))), Outcome::Done);
    if revision >= known {
        model.sealed = (revision, sealed);
    }
}

fn repeat_something(bench: &mut Bench, model: &Model, dice: &mut Dice) {
    if model.told.is_empty() {
        return;
    }
    // Mostly recent ones, whose outcomes are still known.
    let reach = 1 + dice.below(model.told.len() as u64);
    let back = dice.below(reach) as usize;
    let recent = model.told.len() - 1 - back;
    let (request, outcome, sent) = &model.told[recent];
    let again = bench.send(request);
    if bench.now.since(*sent) > REMEMBER_OUTCOME_MILLIS {
        assert_eq!(again, Outcome::Refused(Refusal::OutcomeUnknown));
    } else {
        assert_eq!(again, *outcome);
    }
}

fn compare(bench: &Bench, model: &Model, key: &str) {
    let object = bench.object(key);
    let expected = model.objects.get(key);
    assert_eq!(
        object.as_ref().map(|object| object.version),
        expected.map(|object| object.version)
    );
    let left = object
        .and_then(|object| object.downloads)
        .map(|limit| limit.left);
    let expected = expected.and_then(|object| object.limit.map(|_| object.left));
    assert_eq!(left, expected);
}

fn play(seed: u64, watch: impl Fn(&Bench, &Model)) -> Bench {
    let mut dice = Dice(seed);
    let mut bench = Bench::new();
    let mut model = Model {
        sealed: (1, false),
        ..Model::default()
    };
    for _ in 0..STEPS {
        let key = format!("k{}", dice.below(5));
        match dice.below(14) {
            0..=2 => put_something(&mut bench, &mut model, &mut dice, &key),
            3 => delete_something(&mut bench, &mut model, &mut dice, &key),
            4 | 5 => reserve_something(&mut bench, &mut model, &key),
            6 => end_something(&mut bench, &mut model, &mut dice),
            7 => repair_something(&mut bench, &mut dice),
            8 => clean_something(&mut bench, &mut dice),
            9 => upload_something(&mut bench, &mut model, &mut dice, &key),
            10 => work_on_something(&mut bench, &mut model, &mut dice),
            12 => seal_something(&mut bench, &mut model, &mut dice),
            11 => repeat_something(&mut bench, &model, &mut dice),
            _ => bench.tick_after(0),
        }
        let wait = if dice.below(10) == 0 {
            5 * HOUR
        } else {
            5 * MINUTE
        };
        bench.wait(dice.below(wait));
        watch(&bench, &model);
    }
    bench
}

#[test]
fn random_commands_agree_with_a_model_and_leave_consistent_rows() {
    for seed in 0..SEEDS {
        play(seed, |bench, model| {
            for number in 0..5 {
                compare(bench, model, &format!("k{number}"));
            }
        });
    }
}

#[test]
fn the_same_batches_leave_the_same_bytes() {
    for seed in 100..103 {
        let (first, second) = (play(seed, |_, _| {}), play(seed, |_, _| {}));
        assert_eq!(first.rows(), second.rows());
    }
}

#[test]
fn everything_that_ends_is_gone_in_the_end() {
    for seed in 200..204 {
        let mut bench = play(seed, |_, _| {});
        for number in 0..5 {
            bench.delete(&format!("k{number}"), DeleteCause::Wish);
        }
        // Running tasks are taken back, done ones and outcomes forgotten,
        // uploads given up: nothing is left for a tick to do.
        while let Some(due) = bench.next_due() {
            let wait = due.since(bench.now);
            bench.tick_after(wait);
        }
        let totals = bench.totals();
        let garbage = totals.garbage;
        let nothing = Totals {
            garbage,
            ..Totals::default()
        };
        assert_eq!(totals, nothing);
        let tables: std::collections::BTreeSet<u8> =
            bench.rows().iter().map(|(key, _)| key[0]).collect();
        // The applied index, meta rows, dead uploads, garbage, its fences, buckets.
        assert!(
            tables.is_subset(&[0, 1, 7, 9, 19, 20, 23, 24].into()),
            "{tables:?}"
        );
    }
}

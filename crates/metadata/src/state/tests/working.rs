use super::*;
use crate::command::{
    AttemptResult, MAX_PUBLISHED_TASKS, NewTask, PUBLISH_DEADLINE_MILLIS, TASK_DEADLINE_MILLIS,
    TaskAttempt,
};
use crate::state::tasks_due;
use holdfast_model::{Derived, DerivedKind, Task, TaskId, TaskKind, TaskState};

fn task(number: u64) -> TaskId {
    TaskId::from_bytes(id16(number))
}

fn put_with_task(key: &str, number: u64, kind: TaskKind) -> Command {
    let mut put = put(key, number);
    put.tasks = vec![NewTask {
        id: task(number),
        kind,
    }];
    commit(put)
}

fn claim(number: u64) -> Command {
    Command::ClaimTask {
        task: task(number),
        worker: "worker".to_owned(),
    }
}

fn finish(number: u64, attempt: u32, result: AttemptResult) -> Command {
    let task = TaskAttempt {
        task: task(number),
        attempt,
    };
    Command::FinishTask { task, result }
}

fn retry() -> AttemptResult {
    AttemptResult::Retry {
        error: "no".to_owned(),
        after_millis: MINUTE,
    }
}

fn state_of(bench: &Bench, id: TaskId) -> Option<Task> {
    match bench.ask(&Query::Task { task: id }) {
        Answer::Tasks(mut tasks) => tasks.pop(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_old_attempts_result_is_fenced() {
    let mut bench = Bench::new();
    bench.run(put_with_task("a", 1, TaskKind::Thumbnail));
    assert!(matches!(bench.run(claim(1)), Outcome::Claimed(task) if task.attempts == 1));
    assert_eq!(bench.refused(claim(1)), Refusal::NotClaimable);
    bench.wait(TASK_DEADLINE_MILLIS);
    assert!(matches!(bench.run(claim(1)), Outcome::Claimed(task) if task.attempts == 2));
    assert_eq!(
        bench.refused(finish(1, 1, AttemptResult::Done)),
        Refusal::Fenced
    );
    assert_eq!(bench.run(finish(1, 2, AttemptResult::Done)), Outcome::Done);
    assert_eq!(bench.run(finish(1, 2, AttemptResult::Done)), Outcome::Done);
    assert_eq!(bench.totals().tasks_done, 1);
    bench.tick_after(HOUR);
    assert_eq!(state_of(&bench, task(1)), None, "done tasks are forgotten");
}

#[test]
fn a_task_is_given_up_after_three_attempts() {
    let mut bench = Bench::new();
    bench.run(put_with_task("a", 1, TaskKind::Thumbnail));
    for attempt in 1..=2 {
        bench.run(claim(1));
        bench.run(finish(1, attempt, retry()));
        assert_eq!(bench.refused(claim(1)), Refusal::NotClaimable);
        bench.wait(MINUTE);
    }
    bench.run(claim(1));
    bench.tick_after(TASK_DEADLINE_MILLIS);
    let failed = state_of(&bench, task(1)).unwrap();
    assert_eq!(failed.state, TaskState::Failed);
    assert_eq!(failed.error.as_deref(), Some("worker gave no answer"));
    bench.tick_after(7 * 24 * HOUR);
    assert_eq!(state_of(&bench, task(1)), None);
}

#[test]
fn a_delete_task_is_tried_until_the_object_is_gone() {
    let mut bench = Bench::new();
    let mut put = put("a", 1);
    put.lifetime_millis = Some(HOUR);
    bench.run(commit(put));
    bench.tick_after(HOUR);
    bench.wait(HOUR);
    let Outcome::Tasks(tasks) = bench.run(Command::PublishTasks { limit: 1 }) else {
        panic!();
    };
    let id = tasks[0].id;
    let claim = Command::ClaimTask {
        task: id,
        worker: "w".to_owned(),
    };
    let finish = |attempt, result| Command::FinishTask {
        task: TaskAttempt { task: id, attempt },
        result,
    };
    for round in 0..3 {
        for attempt in 1..=3 {
            let claimed = bench.run(claim.clone());
            assert!(matches!(claimed, Outcome::Claimed(_)), "{claimed:?}");
            bench.run(finish(round * 3 + attempt, retry()));
            bench.wait(MINUTE);
        }
        assert_eq!(bench.totals().tasks_failed, 1);
        bench.tick_after(HOUR);
        assert_eq!(bench.totals().tasks_pending, 1, "it is revived");
    }
    bench.run(claim.clone());
    bench.run(finish(10, AttemptResult::Done));
    assert_eq!(bench.totals().tasks_pending, 1, "the object is still there");
    bench.wait(MINUTE);
    bench.run(claim);
    bench.delete("a", DeleteCause::Expired);
    assert_eq!(bench.run(finish(11, AttemptResult::Done)), Outcome::Done);
    assert_eq!(bench.totals().tasks_done, 1);
}

#[test]
fn what_was_asked_for_a_replaced_version_is_dropped() {
    let mut bench = Bench::new();
    bench.run(put_with_task("a", 1, TaskKind::Thumbnail));
    bench.run(claim(1));
    bench.run(put_with_task("a", 2, TaskKind::Thumbnail));
    bench.run(put_with_task("a", 3, TaskKind::Thumbnail));
    assert_eq!(bench.totals().tasks_pending, 1);
    assert_eq!(
        bench.refused(finish(1, 1, AttemptResult::Done)),
        Refusal::Fenced
    );
    assert_eq!(state_of(&bench, task(1)), None);
    assert_eq!(state_of(&bench, task(2)), None);
}

#[test]
fn tasks_are_published_again_only_when_unclaimed_past_their_deadline() {
    let mut bench = Bench::new();
    let published = |bench: &mut Bench| match bench.run(Command::PublishTasks { limit: 5_000 }) {
        Outcome::Tasks(tasks) => tasks.len() as u64,
        other => panic!("{other:?}"),
    };
    let due = |bench: &Bench| {
        let view = bench.store.snapshot().unwrap();
        tasks_due(&view.group(GROUP), bench.now).unwrap()
    };
    let extra = 5;
    let requests = (1..=MAX_PUBLISHED_TASKS + extra)
        .map(|number| {
            let put = put_with_task(&format!("k{number}"), number, TaskKind::Compress);
            bench.request(put)
        })
        .collect();
    bench.send_all(requests);
    assert_eq!(due(&bench), MAX_PUBLISHED_TASKS);
    assert_eq!(published(&mut bench), MAX_PUBLISHED_TASKS);
    assert_eq!((due(&bench), published(&mut bench)), (0, 0));
    for number in 0..extra + 2 {
        // Whichever they are, the first thousand ids were published.
        bench.run(claim(number + 1));
    }
    assert_eq!(published(&mut bench), extra);
    bench.wait(PUBLISH_DEADLINE_MILLIS);
    assert_eq!(
        published(&mut bench),
        MAX_PUBLISHED_TASKS + extra - (extra + 2)
    );
}

fn attach(number: u64, attempt: u32, bytes: &'static [u8]) -> Command {
    let made = record("x", 1, bytes);
    Command::AttachDerived {
        bucket: BUCKET,
        key: name("a"),
        version: version(1),
        derived: Box::new(Derived {
            kind: DerivedKind::Thumbnail,
            content: made.content,
            representation: made.representation,
        }),
        chunks: Vec::new(),
        task: TaskAttempt {
            task: task(number),
            attempt,
        },
        generation: Generation(1),
    }
}

#[test]
fn a_result_is_taken_with_its_task() {
    let mut bench = Bench::new();
    let mut put = put("a", 1);
    put.tasks = vec![
        NewTask {
            id: task(1),
            kind: TaskKind::Thumbnail,
        },
        NewTask {
            id: task(2),
            kind: TaskKind::Compress,
        },
    ];
    bench.run(commit(put));
    assert_eq!(bench.refused(attach(1, 1, b"small")), Refusal::Fenced);
    bench.run(claim(1));
    bench.run(claim(2));
    assert_eq!(bench.run(attach(1, 1, b"small")), Outcome::Done);
    let big = chunked("a", 9, 1, vec![chunk(0, 10, &[1, 2])]);
    let Representation::Chunked { mut parts, .. } = big.record.representation else {
        panic!();
    };
    parts[0].size = 10;
    let swap = Command::SwapRepresentation {
        bucket: BUCKET,
        key: name("a"),
        version: version(1),
        representation: Representation::Chunked {
            parts,
            coding: Coding::Zstd,
        },
        chunks: big.chunks,
        task: TaskAttempt {
            task: task(2),
            attempt: 1,
        },
        generation: Generation(1),
    };
    assert_eq!(bench.run(swap.clone()), Outcome::Done);
    assert_eq!(bench.refused(swap), Refusal::Fenced);
    let record = bench.object("a").unwrap();
    assert_eq!(record.representation.coding(), Coding::Zstd);
    assert_eq!(record.revision, 3);
    let thumbnail = &record.derived[0].representation;
    assert!(matches!(thumbnail, Representation::Inline { bytes, .. } if &bytes[..] == b"small"));
    assert_eq!((bench.totals().tasks_done, bench.totals().degraded), (2, 1));
    bench.delete("a", DeleteCause::Wish);
    assert_eq!((bench.totals().chunks, bench.totals().garbage), (0, 1));
}

#[test]
fn tasks_are_listed_newest_first() {
    let mut bench = Bench::new();
    for number in 1..=6 {
        bench.run(put_with_task(
            &format!("k{number}"),
            number,
            TaskKind::Thumbnail,
        ));
        bench.wait(1);
    }
    bench.run(claim(2));
    bench.run(claim(5));
    bench.run(finish(5, 1, AttemptResult::Done));
    let list = |state, limit| match bench.ask(&Query::Tasks { state, limit }) {
        Answer::Tasks(tasks) => tasks.iter().map(|t| t.id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(list(None, 4), [6, 5, 4, 3].map(task));
    assert_eq!(list(Some(TaskState::Running), 4), [task(2)]);
}

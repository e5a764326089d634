//! Commands of everybody else: repair, clean-up, uploads on their way, workers,
//! the cluster's own.

use holdfast_model::{BucketFacts, Versioning};

use super::super::*;
use super::{Dice, Model, generation, random_disks, tell};
use crate::command::{AttemptResult, ClusterFacts, MissingFragment, TaskAttempt};

pub(super) fn repair_something(bench: &mut Bench, dice: &mut Dice) {
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

pub(super) fn clean_something(bench: &mut Bench, dice: &mut Dice) {
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

pub(super) fn upload_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice, key: &str) {
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

pub(super) fn work_on_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice) {
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
pub(super) fn seal_something(bench: &mut Bench, model: &mut Model, dice: &mut Dice) {
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

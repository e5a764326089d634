//! Random commands against a small model of objects, and against a second
//! store that gets the same batches.

mod objects;
mod upkeep;

use std::collections::BTreeMap;

use holdfast_model::{Task, TicketId};

use self::objects::{delete_something, end_something, put_something, reserve_something};
use self::upkeep::{
    clean_something, repair_something, seal_something, upload_something, work_on_something,
};
use super::*;
use crate::command::REMEMBER_OUTCOME_MILLIS;

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

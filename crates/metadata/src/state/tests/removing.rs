//! Claims about the removal of large objects in steps.

use super::random::Dice;
use super::*;
use crate::command::{MAX_CHUNKS_PER_COMMAND, MissingFragment};
use crate::query::RangeSums;
use crate::state::removal::ROWS_PER_COMMAND;

/// Chunks that take three commands to remove.
const LARGE: u32 = 2 * ROWS_PER_COMMAND as u32 + 300;

fn upload_in(range: u8, number: u64) -> UploadId {
    let mut bytes = id16(number);
    bytes[0] = range;
    UploadId::from_bytes(bytes)
}

/// Appends chunks of 100 bytes to a running upload.
fn append(bench: &mut Bench, key: &str, id: UploadId, chunks: std::ops::Range<u32>) {
    let begin = Command::BeginUpload {
        upload: id,
        generation: Generation(1),
        bucket: BUCKET,
        key: name(key),
    };
    assert_eq!(bench.run(begin), Outcome::Done);
    let chunks: Vec<Chunk> = chunks
        .map(|index| chunk(index, 100, &[1, 2, 3][..2 + index as usize % 2]))
        .collect();
    let appends = chunks.chunks(MAX_CHUNKS_PER_COMMAND).map(|chunks| {
        let chunks = chunks.to_vec();
        bench.request(Command::AppendChunks { upload: id, chunks })
    });
    let appends = appends.collect();
    let outcomes = bench.send_all(appends);
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done));
}

fn commit_of(key: &str, number: u64, id: UploadId, count: u32) -> Command {
    let mut put = chunked(key, number, count, Vec::new());
    if let Representation::Chunked { parts, .. } = &mut put.record.representation {
        parts[0].upload = id;
    }
    commit(put)
}

/// An object of so many chunks.
fn put_large(bench: &mut Bench, key: &str, number: u64, count: u32) {
    append(bench, key, upload(number), 0..count);
    let done = bench.run(commit_of(key, number, upload(number), count));
    assert!(matches!(done, Outcome::Put(_)), "{done:?}");
}

fn sums(bench: &Bench) -> Vec<RangeSums> {
    match bench.ask(&Query::Census) {
        Answer::Census(sums) => sums,
        other => panic!("{other:?}"),
    }
}

/// Ticks until nothing is being removed; checks each step's size and how many
/// there were.
fn end_removal(bench: &mut Bench) -> usize {
    let mut steps = 0;
    while bench.next_due() == Some(Timestamp(0)) {
        let before = bench.totals();
        bench.run(Command::Tick);
        let (chunks, garbage) = (bench.totals().chunks, bench.totals().garbage);
        let gone = before.chunks - chunks;
        assert!(
            0 < gone && gone <= ROWS_PER_COMMAND as u64,
            "{gone} rows at once"
        );
        assert_eq!(garbage - before.garbage, gone);
        steps += 1;
    }
    steps
}

#[test]
fn a_large_object_is_gone_at_once_and_its_chunks_step_by_step() {
    let mut bench = Bench::new();
    put_large(&mut bench, "a", 1, LARGE);
    assert!(bench.totals().degraded > 0);
    bench.delete("a", DeleteCause::Wish);
    assert_eq!(bench.object("a"), None);
    let totals = bench.totals();
    assert_eq!(totals.objects, 0);
    assert_eq!(totals.chunks, u64::from(LARGE) - ROWS_PER_COMMAND as u64);
    // Nobody counts it, and its fragments are referred to until they are garbage.
    let [range] = &sums(&bench)[..] else {
        panic!("one range");
    };
    assert_eq!((range.objects, range.chunks), (0, 0));
    let held: u64 = range.disks.iter().map(|sum| sum.fragments).sum();
    assert!(held > u64::from(LARGE - ROWS_PER_COMMAND as u32) * 2);
    assert_eq!(end_removal(&mut bench), 2);
    let garbage = u64::from(LARGE);
    let expected = Totals {
        garbage,
        ..Totals::default()
    };
    assert_eq!(bench.totals(), expected);
    assert_eq!(sums(&bench), []);
}

#[test]
fn a_small_object_goes_in_one_command() {
    let mut bench = Bench::new();
    put_large(&mut bench, "a", 1, ROWS_PER_COMMAND as u32);
    bench.delete("a", DeleteCause::Wish);
    assert_eq!(bench.totals().chunks, 0);
    assert_ne!(bench.next_due(), Some(Timestamp(0)));
}

#[test]
fn what_is_being_removed_cannot_be_used_repaired_or_brought_back() {
    let mut bench = Bench::new();
    put_large(&mut bench, "a", 1, LARGE);
    put_large(&mut bench, "a", 2, 1);
    let append = Command::AppendChunks {
        upload: upload(1),
        chunks: vec![chunk(0, 100, &[1, 2, 3])],
    };
    assert!(matches!(bench.refused(append), Refusal::UploadLost(_)));
    let begin = Command::BeginUpload {
        upload: upload(1),
        generation: Generation(1),
        bucket: BUCKET,
        key: name("a"),
    };
    assert!(matches!(bench.refused(begin), Refusal::UploadLost(_)));
    let commit = commit_of("a", 3, upload(1), LARGE);
    assert!(matches!(bench.refused(commit), Refusal::UploadLost(_)));
    let last = LARGE - 1;
    let seen = chunk(last, 100, &[1, 2, 3][..2 + last as usize % 2]).fragments;
    let replace = Command::ReplaceFragments {
        upload: upload(1),
        chunk: last,
        seen: seen.clone(),
        now: places(&[4, 5, 6]),
        generation: Generation(1),
    };
    assert_eq!(bench.refused(replace), Refusal::Stale);
    // Whoever read the row before may still tell what it lacks.
    let fragments = seen.iter().map(|place| MissingFragment {
        upload: upload(1),
        chunk: last,
        place: *place,
    });
    let fragments = fragments.collect();
    assert_eq!(
        bench.run(Command::ReportMissing { fragments }),
        Outcome::Done
    );
    assert_eq!(
        bench.run(Command::AbortUpload { upload: upload(1) }),
        Outcome::Done
    );
    while bench.next_due() == Some(Timestamp(0)) {
        bench.run(Command::Tick);
    }
    assert_eq!(bench.totals().chunks, 1);
    assert_eq!(bench.object("a").unwrap().version, version(2));
}

#[test]
fn an_upload_given_up_stays_known_until_its_last_chunk_is_gone() {
    let mut bench = Bench::new();
    append(&mut bench, "a", upload(1), 0..LARGE);
    bench.run(Command::AbortUpload { upload: upload(1) });
    bench.run(Command::AdvanceGeneration);
    let raise = Command::RaiseFloor { to: Generation(2) };
    assert!(matches!(bench.run(raise), Outcome::Generation { .. }));
    assert_eq!(end_removal(&mut bench), 2);
    bench.run(Command::Tick);
    assert_eq!(bench.totals().chunks, 0);
    let uploads = super::super::keys::RowKey::new(super::super::keys::Table::Uploads).done();
    let left = bench
        .rows()
        .iter()
        .filter(|(key, _)| key.starts_with(&uploads))
        .count();
    assert_eq!(left, 0);
}

#[test]
fn a_crash_between_the_steps_changes_nothing_of_what_comes_of_it() {
    let mut undisturbed = Bench::new();
    let mut bench = Bench::new();
    for bench in [&mut undisturbed, &mut bench] {
        put_large(bench, "a", 1, LARGE);
        put_large(bench, "a", 2, 2);
    }
    end_removal(&mut undisturbed);
    let mut crashes = 0;
    while bench.next_due() == Some(Timestamp(0)) {
        // What is in the log is applied again after it: here, what the state had.
        bench.make_durable();
        bench.disk.end_process();
        bench.disk.power_cut();
        bench.reopen();
        bench.run(Command::Tick);
        crashes += 1;
    }
    assert_eq!(crashes, 2);
    assert_eq!(bench.rows(), undisturbed.rows());
}

/// The chunks of an upload of the random test: few, or more than one command removes.
fn some(dice: &mut Dice) -> u32 {
    match dice.below(3) {
        0 => 1 + dice.below(3) as u32,
        1 => 200 + dice.below(1_000) as u32,
        _ => LARGE - 600 + dice.below(700) as u32,
    }
}

#[test]
fn random_large_objects_leave_exactly_what_objects_and_running_uploads_refer_to() {
    for seed in 0..3 {
        let (mut bench, mut dice) = (Bench::new(), Dice(seed));
        let mut appended = 0;
        let mut running: Vec<(String, UploadId, u32)> = Vec::new();
        let mut live: std::collections::BTreeMap<String, u32> = Default::default();
        for number in 1..30 {
            let key = format!("k{}", dice.below(3));
            let before = bench.totals().chunks;
            match dice.below(6) {
                0 | 1 if running.len() < 3 => {
                    let (id, count) = (upload_in(dice.below(3) as u8, number), some(&mut dice));
                    append(&mut bench, &key, id, 0..count);
                    appended += u64::from(count);
                    running.push((key, id, count));
                    continue;
                }
                2 if !running.is_empty() => {
                    let (key, id, count) = running.remove(0);
                    let done = bench.run(commit_of(&key, number, id, count));
                    assert!(matches!(done, Outcome::Put(_)), "{done:?}");
                    live.insert(key, count);
                }
                3 if !running.is_empty() => {
                    let (_, id, _) = running.remove(0);
                    bench.run(Command::AbortUpload { upload: id });
                }
                4 => {
                    let gone = bench.delete(&key, DeleteCause::Wish);
                    assert_eq!(
                        live.remove(&key).is_some(),
                        matches!(gone, Outcome::Deleted(_))
                    );
                }
                _ => {
                    bench.run(Command::Tick);
                }
            }
            let gone = before - bench.totals().chunks;
            assert!(gone <= ROWS_PER_COMMAND as u64, "{gone} rows at once");
        }
        end_removal(&mut bench);
        let kept = live.values().chain(running.iter().map(|(.., count)| count));
        let kept: u64 = kept.map(|count| u64::from(*count)).sum();
        assert_eq!(
            (bench.totals().chunks, bench.totals().garbage),
            (kept, appended - kept)
        );
        let counted: u64 = sums(&bench).iter().map(|range| range.chunks).sum();
        let expected: u64 = live.values().map(|count| u64::from(*count)).sum();
        assert_eq!(counted, expected);
    }
}

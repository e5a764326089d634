//! Power cuts at any point, with a journal of what was acknowledged as the
//! oracle, and failed syncs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use holdfast_model::{Generation, GroupId};
use holdfast_runtime::memory_disk::MemoryDisk;

use super::world::*;
use crate::{Closing, DeleteError, Engine, FragmentEntry, FragmentState, WriteError};

/// What must be true of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Present,
    Absent,
    /// Something was asked and not acknowledged.
    Open,
}

type Journal = Mutex<BTreeMap<u64, Known>>;

fn len_of(number: u64) -> usize {
    let seeded = Seeded::new(number);
    match seeded.below(4) {
        0 => seeded.below(3) as usize,
        1 => seeded.below(5_000) as usize,
        2 => 65_536 * seeded.below(3) as usize,
        _ => seeded.below(300_000) as usize,
    }
}

/// Runs `future` for some polls and drops it: `None` when it was not done.
pub(super) async fn cancelled<F: Future>(future: F, polls: u64) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if let Some(output) = future.as_mut().now_or_never() {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// One client with fragments of its own; ends when the power does.
async fn client(engine: Engine, journal: &Journal, own: u64, seed: u64) {
    let random = Seeded::new(seed);
    let note = |number, known| journal.lock().unwrap().insert(number, known);
    for _ in 0..30 {
        let number = own * 100 + random.below(6);
        let bytes = data(number, len_of(number));
        match random.below(10) {
            0..4 => {
                note(number, Known::Open);
                // Sometimes of a newer generation, which replaces the older.
                let mut header = header(id(number));
                header.generation = Generation(5 + random.below(8) / 6);
                let put = engine.put_small(header, bytes, Closing::default());
                match put.await {
                    Ok(_) => note(number, Known::Present),
                    Err(WriteError::InProgress(_)) => continue,
                    Err(_) => return,
                };
            }
            4 => {
                note(number, Known::Open);
                let Ok(mut writer) = engine.begin(header(id(number)), 400_000).await else {
                    return;
                };
                if writer.write(bytes).await.is_err() {
                    return;
                }
                let finish = writer.finish(Closing::default());
                if let Some(Ok(_)) = cancelled(finish, random.below(6)).await {
                    note(number, Known::Present);
                }
            }
            5 => {
                note(number, Known::Open);
                let delete = engine.delete(id(number));
                if let Some(Ok(_)) = cancelled(delete, random.below(5)).await {
                    note(number, Known::Absent);
                }
            }
            6 => drop(engine.checkpoint().await),
            7 => drop(engine.save().await),
            _ => {
                note(number, Known::Open);
                if engine.delete(id(number)).await.is_err() {
                    return;
                }
                note(number, Known::Absent);
            }
        }
    }
}

async fn check(engine: &Engine, journal: &Journal, context: &str) {
    let known = journal.lock().unwrap().clone();
    for (number, known) in known {
        let found = found(engine, number).await;
        match known {
            Known::Present => {
                let state = found.map(|entry| entry.state);
                assert_eq!(state, Some(FragmentState::Whole), "{context}, {number}");
                engine.verify(id(number)).await.unwrap();
            }
            Known::Absent => assert_eq!(found, None, "{context}, {number} came back"),
            // Reading marks what is bad; every other time nobody has, and a
            // retry must find out by itself.
            Known::Open if number % 2 == 0 => continue,
            Known::Open => {}
        }
        if let Ok(bytes) = get_all(engine, number).await {
            assert_eq!(bytes, data(number, len_of(number)), "{context}, {number}");
        }
    }
}

/// Opened with the index and without it, a disk lists the same.
async fn same_without_index(disk: &MemoryDisk, context: &str) {
    let engine = open(&disk.duplicate()).await;
    let by_index = listed(&engine, usize::MAX).await;
    let other = disk.duplicate();
    without_base(&other);
    let plain = open(&other).await;
    assert!(!plain.report().resumed);
    let by_scan = listed(&plain, usize::MAX).await;
    // Only the index knows of what was found corrupt by reading.
    let name = |entry: &FragmentEntry| (entry.id, entry.generation, entry.bytes);
    let names = |entries: &[FragmentEntry]| entries.iter().map(name).collect::<Vec<_>>();
    assert_eq!(names(&by_index), names(&by_scan), "{context}");
    for group in (0..3).map(GroupId) {
        let same = engine.digests(group) == plain.digests(group);
        assert!(same || by_index != by_scan, "{context}");
    }
    let (ours, theirs) = (engine.stats().await.unwrap(), plain.stats().await.unwrap());
    assert_eq!(
        (ours.fragments, ours.bytes),
        (theirs.fragments, theirs.bytes)
    );
    assert_eq!(engine.report().damaged, plain.report().damaged, "{context}");
}

#[test]
fn what_was_acknowledged_survives_power_cuts_at_any_point() {
    let mut cuts = 0;
    for seed in 0..200 {
        let disk = MemoryDisk::new(32 << 20, seed);
        let journal = Journal::default();
        let random = Seeded::new(seed);
        for life in 0..4 {
            let context = format!("seed {seed}, life {life}");
            // A runtime a life: tasks of the last one end with it.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            cuts += runtime.block_on(async {
                if seed % 8 == 0 {
                    same_without_index(&disk, &context).await;
                }
                let engine = open(&disk).await;
                let report = engine.report();
                assert_eq!(report.damaged + report.lost, 0, "{context}: {report:?}");
                check(&engine, &journal, &context).await;
                disk.cut_after(random.below(250));
                let clients =
                    (0..4).map(|own| client(engine.clone(), &journal, own, random.number()));
                futures_util::future::join_all(clients).await;
                u64::from(engine.stats().await.is_ok())
            });
            drop(runtime);
            disk.power_cut();
        }
    }
    assert_eq!(cuts, 800);
}

#[test]
fn a_power_cut_while_opening_loses_nothing() {
    for seed in 0..60 {
        let disk = MemoryDisk::new(32 << 20, seed);
        let journal = Journal::default();
        let random = Seeded::new(seed);
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
        };
        runtime().block_on(async {
            let engine = open(&disk).await;
            disk.cut_after(100 + random.below(100));
            let clients = (0..4).map(|own| client(engine.clone(), &journal, own, random.number()));
            futures_util::future::join_all(clients).await;
        });
        disk.power_cut();
        for changes in 0..12 {
            disk.cut_after(changes);
            // Cut short or not: the next opening must find the same.
            let _ = runtime().block_on(try_open(Arc::new(disk.clone()), changes, SETTINGS));
            disk.power_cut();
        }
        runtime().block_on(async {
            let engine = open(&disk).await;
            assert_eq!(engine.report().damaged, 0);
            check(&engine, &journal, &format!("seed {seed}")).await;
        });
    }
}

#[test]
fn a_killed_process_does_not_leave_fragments_that_only_memory_holds() {
    for seed in 0..40 {
        let disk = MemoryDisk::new(32 << 20, seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let engine = open(&disk).await;
            put(&engine, 1, 100).await.unwrap();
            // Killed after the closing record was written and before its sync.
            let put_two = put(&engine, 2, 100_000);
            cancelled(put_two, 4).await;
            std::mem::forget(engine);
            let engine = open(&disk).await;
            let acknowledged = put(&engine, 2, 100_000).await.is_ok();
            disk.power_cut();
            let engine = open(&disk).await;
            assert!(acknowledged);
            assert_eq!(get_all(&engine, 2).await.unwrap(), data(2, 100_000));
        });
    }
}

#[tokio::test]
async fn what_was_deleted_stays_deleted() {
    for seed in 0..100 {
        let disk = MemoryDisk::new(32 << 20, seed);
        let engine = open(&disk).await;
        for number in 0..4 {
            put(&engine, number, 50_000).await.unwrap();
        }
        engine.delete(id(1)).await.unwrap();
        engine.delete(id(9)).await.unwrap();
        disk.power_cut();
        let engine = open(&disk).await;
        assert_eq!(found(&engine, 1).await, None);
        for number in [0, 2, 3] {
            engine.verify(id(number)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_taken_any_more() {
    let disk = disk();
    let (engine, heard) = try_open(Arc::new(disk.clone()), 1, SETTINGS).await.unwrap();
    put(&engine, 1, 1000).await.unwrap();
    let mut open_writer = engine.begin(header(id(2)), 1000).await.unwrap();
    disk.fail_next_sync();
    let failed = put(&engine, 3, 1000).await;
    assert!(matches!(failed, Err(WriteError::Failed(_))));
    assert_eq!(heard.lock().unwrap().len(), 1);
    // Syncs would succeed again, and would lie.
    assert!(matches!(
        put(&engine, 4, 10).await,
        Err(WriteError::Failed(_))
    ));
    open_writer.write(data(2, 1000)).await.unwrap();
    let finish = open_writer.finish(Closing::default()).await;
    assert!(matches!(finish, Err(WriteError::Failed(_))));
    let delete = engine.delete(id(1)).await;
    assert!(matches!(delete, Err(DeleteError::Failed(_))));
    assert_eq!(heard.lock().unwrap().len(), 1, "the hook is called once");
    assert_eq!(get_all(&engine, 1).await.unwrap(), data(1, 1000));
}

#[tokio::test]
async fn a_writer_joins_only_a_sync_that_begins_after_its_writes() {
    // Two that finish one after the other cannot share what already runs.
    let disk = disk();
    let engine = open(&disk).await;
    put(&engine, 0, 10).await.unwrap();
    let before = disk.syncs();
    let first = put(&engine, 1, 10);
    let late = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        put(&engine, 2, 10).await
    };
    let (first, late) = futures_util::future::join(first, late).await;
    first.unwrap();
    late.unwrap();
    assert!(disk.syncs() - before >= 1);
    disk.power_cut();
    let engine = open(&disk).await;
    engine.verify(id(1)).await.unwrap();
    engine.verify(id(2)).await.unwrap();
}

#[tokio::test]
async fn a_replacement_cut_short_leaves_what_it_was_to_replace() {
    for seed in 0..100 {
        for changes in 0..6 {
            let disk = MemoryDisk::new(32 << 20, seed);
            let engine = open(&disk).await;
            put(&engine, 1, 100_000).await.unwrap();
            let mut newer = header(id(1));
            newer.generation = Generation(6);
            disk.cut_after(changes);
            let replace = engine.put_small(newer, data(1, 100_000), Closing::default());
            let _ = replace.await;
            disk.power_cut();
            let engine = open(&disk).await;
            assert_eq!(get_all(&engine, 1).await.unwrap(), data(1, 100_000));
            drop(engine);
            open(&disk).await.verify(id(1)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_delete_cut_short_leaves_all_of_the_fragment_or_none() {
    let (mut kept, mut gone) = (0, 0);
    for seed in 0..100 {
        for changes in 0..4 {
            let disk = MemoryDisk::new(32 << 20, seed);
            let engine = open(&disk).await;
            put(&engine, 1, 100_000).await.unwrap();
            disk.cut_after(changes);
            let deleted = engine.delete(id(1)).await.is_ok();
            disk.power_cut();
            let engine = open(&disk).await;
            if found(&engine, 1).await.is_some() {
                assert!(!deleted);
                engine.verify(id(1)).await.unwrap();
                kept += 1;
            } else {
                gone += 1;
            }
        }
    }
    assert!(kept > 100 && gone > 100, "{kept} kept, {gone} gone");
}

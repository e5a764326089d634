//! A base of the index that rots under a running engine: others are read
//! meanwhile, nothing counts as gone, and it is whole again without a restart.

use std::collections::BTreeMap;

use holdfast_model::{Generation, GroupId};
use holdfast_runtime::Disk;
use holdfast_runtime::memory_disk::MemoryDisk;

use super::world::*;
use crate::checkpoint::files::{base_name, journal_name};
use crate::{Closing, Engine, FragmentEntry, IndexError};

/// Fragments in the base: three blocks of it.
const COUNT: u64 = 200;
/// Turns of the executor in which healing must be over.
const TURNS: usize = 20_000;

async fn based(seed: u64) -> (MemoryDisk, Engine) {
    let disk = MemoryDisk::new(64 << 20, seed);
    let engine = open(&disk).await;
    for number in 0..COUNT {
        put(&engine, number, 100).await.unwrap();
    }
    engine.checkpoint().await.unwrap();
    (disk, engine)
}

/// The bytes of the base in use and its name.
fn base_of(engine: &Engine) -> String {
    let index = engine.shared.index();
    base_name(index.base.as_ref().unwrap().number)
}

/// Asks until the index answers for everything.
async fn healed(engine: &Engine) -> Vec<FragmentEntry> {
    for _ in 0..TURNS {
        if let Ok(entries) = engine.list(None, usize::MAX).await {
            return entries;
        }
        tokio::task::yield_now().await;
    }
    panic!("the index was not healed");
}

/// Sums and rows are those of a start that reads the segments alone.
async fn is_as_the_segments_say(disk: &MemoryDisk, engine: &Engine) {
    let other = disk.duplicate();
    without_base(&other);
    let plain = open(&other).await;
    assert!(!plain.report().resumed);
    assert_eq!(
        listed(engine, usize::MAX).await,
        listed(&plain, usize::MAX).await
    );
    // Other extents are on their way out of segments, not other fragments.
    let (ours, theirs) = (
        engine.shared.index().totals.clone(),
        plain.shared.index().totals.clone(),
    );
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn what_a_bad_block_held_is_found_again_while_the_rest_is_read() {
    let (disk, engine) = based(1).await;
    put(&engine, COUNT, 100).await.unwrap();
    // The second of three blocks.
    disk.flip_bit(&base_of(&engine), (4096 + 500) * 8).unwrap();
    let mut failed = Vec::new();
    for number in 0..COUNT {
        // All at one moment: healing has no turn in between.
        let entry = engine.shared.entry(&id(number));
        match entry {
            Ok(at) => assert!(at.is_some(), "{number}"),
            Err(IndexError::Damaged { .. }) => failed.push(number),
            Err(other) => panic!("{number}: {other}"),
        }
    }
    assert_eq!(failed.len(), 78, "one block");
    let mut turns = 0;
    while engine.find(&id(failed[0])).await.is_err() {
        turns += 1;
        assert!(turns < TURNS, "it was not healed");
        for number in (0..=COUNT).filter(|number| !failed.contains(number)) {
            engine.verify(id(number)).await.unwrap();
        }
        let new = COUNT + 10 + turns as u64;
        put(&engine, new, 100).await.unwrap();
        engine.delete(id(new)).await.unwrap();
    }
    assert!(turns > 0, "nothing was asked meanwhile");
    for number in 0..=COUNT {
        engine.verify(id(number)).await.unwrap();
    }
    is_as_the_segments_say(&disk, &engine).await;
    disk.power_cut();
    let engine = open(&disk).await;
    assert!(engine.report().resumed, "the new base has its name");
    is_as_the_segments_say(&disk, &engine).await;
}

#[tokio::test]
async fn a_base_that_reads_as_zeros_is_made_anew() {
    let (disk, engine) = based(2).await;
    let before = listed(&engine, usize::MAX).await;
    let bad = base_of(&engine);
    disk.zero(&bad).unwrap();
    assert!(engine.find(&id(0)).await.is_err());
    assert_eq!(healed(&engine).await, before);
    assert_ne!(base_of(&engine), bad);
    is_as_the_segments_say(&disk, &engine).await;
}

#[tokio::test]
async fn a_merge_that_meets_a_bad_block_has_it_healed() {
    let (disk, engine) = based(3).await;
    put(&engine, COUNT, 100).await.unwrap();
    disk.flip_bit(&base_of(&engine), 900 * 8).unwrap();
    assert!(engine.checkpoint().await.is_err());
    let entries = healed(&engine).await;
    assert_eq!(entries.len() as u64, COUNT + 1);
    engine.checkpoint().await.unwrap();
    is_as_the_segments_say(&disk, &engine).await;
}

/// A change that may meet the bad block: asked again until it does not.
async fn until_healed<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    mut ask: impl FnMut() -> F,
) -> T {
    for _ in 0..TURNS {
        match ask().await {
            Ok(done) => return done,
            Err(error) => assert!(format!("{error:?}").contains("Index"), "{error:?}"),
        }
        tokio::task::yield_now().await;
    }
    panic!("it was not healed");
}

#[tokio::test]
async fn what_changes_while_it_heals_is_as_it_was_asked() {
    for turns in 0..60 {
        let (disk, engine) = based(turns).await;
        let mut expected: BTreeMap<u64, u64> = (0..COUNT).map(|n| (n, 5)).collect();
        // Known to memory before, unfinished, and given up.
        engine.delete(id(7)).await.unwrap();
        expected.remove(&7);
        let mut writer = engine.begin(header(id(900)), 300_000).await.unwrap();
        writer.write(data(900, 300_000)).await.unwrap();
        // One that was finished and given up before it was listed, so that what
        // it was to replace stays.
        let mut newer = header(id(11));
        newer.generation = Generation(6);
        let give_up = engine.put_small(newer, data(11, 100), Closing::default());
        if let Some(Ok(_)) = super::crash::cancelled(give_up, 1 + turns % 4).await {
            expected.insert(11, 6);
        }
        // A replacement that has its id before the base rots.
        let mut newer = header(id(10));
        newer.generation = Generation(6);
        let replace = engine.put_small(newer, data(10, 100), Closing::default());
        let rot = async {
            for _ in 0..turns % 6 {
                tokio::task::yield_now().await;
            }
            disk.zero(&base_of(&engine)).unwrap();
            let _ = engine.find(&id(0)).await;
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            until_healed(|| engine.delete(id(20))).await;
            until_healed(|| put(&engine, 30, 100)).await;
            until_healed(|| put(&engine, 901, 100)).await;
        };
        let (replaced, ()) = futures_util::future::join(replace, rot).await;
        let finished = writer.finish(Closing::default()).await;
        healed(&engine).await;
        expected.remove(&20);
        expected.insert(901, 5);
        if replaced.is_ok() {
            expected.insert(10, 6);
        }
        if finished.is_ok() {
            expected.insert(900, 5);
        }
        let mut entries = BTreeMap::new();
        for (number, generation) in &expected {
            let entry = found(&engine, *number).await.unwrap();
            assert_eq!(entry.generation, Generation(*generation), "{number}");
            entries.insert(entry.id, entry);
        }
        let all = listed(&engine, usize::MAX).await;
        assert_eq!(all, entries.into_values().collect::<Vec<_>>(), "{turns}");
        engine.reclaim().await.unwrap();
        is_as_the_segments_say(&disk, &engine).await;
        disk.power_cut();
        let engine = open(&disk).await;
        assert_eq!(listed(&engine, usize::MAX).await, all);
        is_as_the_segments_say(&disk, &engine).await;
    }
}

/// Polls a write until its closing record is there, and no further.
async fn closed<F: Future + Unpin>(disk: &MemoryDisk, write: &mut F) {
    use futures_util::FutureExt;
    let count = || disk.points().get("write: closing record written").copied();
    let before = count();
    while count() == before {
        assert!((&mut *write).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_writer_holds_or_gave_up_is_not_taken_for_what_is_listed() {
    let (disk, engine) = based(6).await;
    let newer = |number| {
        let mut header = header(id(number));
        header.generation = Generation(6);
        engine.put_small(header, data(number, 100), Closing::default())
    };
    // Both are whole on disk, newer than what is listed, and not durable.
    let mut held = Box::pin(newer(12));
    closed(&disk, &mut held).await;
    let mut given_up = Box::pin(newer(11));
    closed(&disk, &mut given_up).await;
    drop(given_up);
    disk.zero(&base_of(&engine)).unwrap();
    assert!(engine.find(&id(0)).await.is_err());
    healed(&engine).await;
    for number in [11, 12] {
        let entry = found(&engine, number).await.unwrap();
        assert_eq!(entry.generation, Generation(5), "{number}");
    }
    engine.reclaim().await.unwrap();
    engine.verify(id(11)).await.unwrap();
    held.await.unwrap();
    let entry = found(&engine, 12).await.unwrap();
    assert_eq!(entry.generation, Generation(6));
    engine.reclaim().await.unwrap();
    is_as_the_segments_say(&disk, &engine).await;
}

#[test]
fn a_power_cut_while_it_heals_loses_nothing() {
    let points = [
        "heal: frozen",
        "checkpoint: written",
        "checkpoint: synced",
        "checkpoint: journal begun",
        "checkpoint: renamed",
        "checkpoint: durable",
        "checkpoint: tidied",
    ];
    for (point, seed) in points
        .iter()
        .flat_map(|point| (0..5).map(move |s| (point, s)))
    {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.build().unwrap()
        };
        let (disk, before) = runtime().block_on(async {
            let (disk, engine) = based(seed).await;
            engine.delete(id(3)).await.unwrap();
            let before = listed(&engine, usize::MAX).await;
            disk.flip_bit(&base_of(&engine), 300 * 8).unwrap();
            disk.cut_at(point, 0);
            let _ = engine.list(None, usize::MAX).await;
            for _ in 0..TURNS {
                if disk.is_cut() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            assert!(disk.is_cut(), "{point} was not passed");
            (disk, before)
        });
        disk.power_cut();
        runtime().block_on(async {
            let engine = open(&disk).await;
            assert_eq!(listed(&engine, usize::MAX).await, before, "{point}");
            is_as_the_segments_say(&disk, &engine).await;
        });
    }
}

#[tokio::test]
async fn without_room_it_stays_an_error_and_heals_when_there_is_room() {
    let (disk, engine) = based(4).await;
    disk.flip_bit(&base_of(&engine), 300 * 8).unwrap();
    let free = disk.space().unwrap().free;
    disk.set_free(0);
    let (mut good, mut bad) = (0, 0);
    for number in (0..COUNT).chain(0..COUNT) {
        match engine.find(&id(number)).await {
            Ok(entry) => good += u64::from(entry.is_some()),
            Err(IndexError::Damaged { .. }) => bad += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(good + bad, 2 * COUNT, "something counts as gone");
    assert!(bad > 50, "{bad}");
    disk.set_free(free);
    assert_eq!(healed(&engine).await.len() as u64, COUNT);
    is_as_the_segments_say(&disk, &engine).await;
}

#[tokio::test]
async fn a_fragment_that_is_in_no_segment_any_more_is_not_counted() {
    let (disk, engine) = based(5).await;
    let base = base_of(&engine);
    let at = engine.shared.entry(&id(1)).unwrap().unwrap();
    let segment = crate::segment::segment_name(at.segment);
    // Header and closing record, and the row that knew of them.
    let extent = crate::extent_bytes(u64::from(at.max_bytes)) as usize;
    disk.poke(&segment, u64::from(at.offset), &vec![0; extent])
        .unwrap();
    disk.zero(&base).unwrap();
    assert!(engine.find(&id(1)).await.is_err());
    let entries = healed(&engine).await;
    assert_eq!(entries.len() as u64, COUNT - 1);
    assert_eq!(found(&engine, 1).await, None);
    assert_eq!(engine.stats().await.unwrap().fragments, COUNT - 1);
    let digests = |engine: &Engine| {
        (0..3)
            .map(|g| engine.digests(GroupId(g)))
            .collect::<Vec<_>>()
    };
    let journal = journal_name(engine.shared.index().base.as_ref().unwrap().number);
    assert!(disk.open(&journal).is_ok());
    let healed = digests(&engine);
    drop(engine);
    let engine = open(&disk).await;
    assert!(engine.report().resumed);
    assert_eq!(digests(&engine), healed);
}

//! The index on disk: what a start reads, and what it does with damage.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use holdfast_runtime::Disk;
use holdfast_runtime::memory_disk::MemoryDisk;

use super::world::*;
use crate::fatal::Fatal;
use crate::index::Place;
use crate::scan::Scan;
use crate::{Engine, FragmentState};

const BASE: &str = "blobs/index-00000001";
const JOURNAL: &str = "blobs/index-00000001.journal";
const COUNT: u64 = 200;

/// Fragments in a base, and some more since, noted in the journal.
async fn saved() -> (MemoryDisk, Engine) {
    let disk = disk();
    let engine = open(&disk).await;
    for number in 0..COUNT {
        put(&engine, number, 100).await.unwrap();
    }
    engine.checkpoint().await.unwrap();
    for number in COUNT..COUNT + 20 {
        put(&engine, number, 100).await.unwrap();
    }
    for number in 0..10 {
        engine.delete(id(number)).await.unwrap();
    }
    (disk, engine)
}

async fn all_there(engine: &Engine) {
    assert_eq!(listed(engine, 1000).await.len() as u64, COUNT + 10);
    for number in 0..10 {
        assert_eq!(found(engine, number).await, None);
    }
    for number in 10..COUNT + 20 {
        engine.verify(id(number)).await.unwrap();
    }
}

#[tokio::test]
async fn a_start_looks_only_at_what_is_newer_than_the_index() {
    let (disk, engine) = saved().await;
    let after_kill = open(&disk.duplicate()).await;
    let report = after_kill.report();
    assert!(report.resumed);
    assert_eq!(report.looked_at, 20, "{report:?}");
    all_there(&after_kill).await;
    engine.save().await.unwrap();
    let after_stop = open(&disk).await;
    assert_eq!(after_stop.report().looked_at, 0);
    all_there(&after_stop).await;
}

#[tokio::test]
async fn a_damaged_index_is_no_index_and_deletes_stay_deleted() {
    let files = [
        (BASE, 100),
        (BASE, 40),
        (BASE, 3 * 4096 + 20),
        (JOURNAL, 20),
        (JOURNAL, 45),
        (JOURNAL, 3 * 512 + 45),
    ];
    for (file, byte) in files {
        let (disk, engine) = saved().await;
        drop(engine);
        disk.flip_bit(file, byte * 8 + 1).unwrap();
        let engine = open(&disk).await;
        assert!(!engine.report().resumed, "{file}, byte {byte}");
        all_there(&engine).await;
        engine.checkpoint().await.unwrap();
        drop(engine);
        let engine = open(&disk).await;
        assert!(engine.report().resumed);
        all_there(&engine).await;
    }
    for file in [BASE, JOURNAL] {
        let (disk, engine) = saved().await;
        drop(engine);
        disk.remove(file).unwrap();
        let engine = open(&disk).await;
        assert!(!engine.report().resumed);
        all_there(&engine).await;
    }
}

#[tokio::test]
async fn fragments_of_a_segment_that_is_gone_are_not_listed() {
    let (disk, engine) = saved().await;
    engine.save().await.unwrap();
    drop(engine);
    disk.remove("blobs/segment-00000000").unwrap();
    let engine = open(&disk).await;
    let report = engine.report();
    assert!(report.resumed && report.lost > 50, "{report:?}");
    for entry in listed(&engine, 1000).await {
        engine.verify(entry.id).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_found_corrupt_is_remembered() {
    let (disk, engine) = saved().await;
    let at = engine.shared.entry(&id(50)).unwrap().unwrap();
    let name = crate::segment::segment_name(at.segment);
    disk.flip_bit(&name, (u64::from(at.offset) + 4096) * 8)
        .unwrap();
    assert!(engine.verify(id(50)).await.is_err());
    engine.save().await.unwrap();
    drop(engine);
    let engine = open(&disk).await;
    let state = found(&engine, 50).await.map(|entry| entry.state);
    assert_eq!(state, Some(FragmentState::Corrupt));
}

#[tokio::test]
async fn many_retries_at_once_note_each_extent_once() {
    let (disk, engine) = saved().await;
    let len = |disk: &MemoryDisk| disk.open(JOURNAL).unwrap().len().unwrap();
    let before = len(&disk);
    stream::iter(0..2000)
        .for_each_concurrent(64, |number| {
            let engine = engine.clone();
            async move {
                let again = put(&engine, COUNT + number % 20, 100).await;
                assert!(again.is_ok_and(|written| written.existed));
            }
        })
        .await;
    engine.reclaim().await.unwrap();
    // An extent each, of some 40 bytes, and the sector of each round.
    let grown = len(&disk) - before;
    assert!(grown < 2000 * 600, "{grown} bytes");
}

#[tokio::test]
async fn a_new_index_survives_a_power_cut_at_once() {
    for seed in 0..20 {
        let disk = MemoryDisk::new(64 << 20, seed);
        let engine = open(&disk).await;
        for number in 0..COUNT {
            put(&engine, number, 100).await.unwrap();
        }
        engine.checkpoint().await.unwrap();
        disk.power_cut();
        let engine = open(&disk).await;
        let report = engine.report();
        assert!(report.resumed, "seed {seed}: {report:?}");
        assert_eq!(report.fragments, COUNT);
    }
}

#[tokio::test]
async fn deletes_go_on_without_any_room_and_are_not_undone_by_the_index() {
    let (disk, engine) = saved().await;
    disk.set_free(0);
    for number in 10..60 {
        assert!(engine.delete(id(number)).await.unwrap());
        // What a delete gives back is taken at once.
        disk.set_free(0);
    }
    drop(engine);
    let engine = open(&disk).await;
    assert!(!engine.report().resumed, "the index was given up");
    for number in 10..60 {
        assert_eq!(found(&engine, number).await, None);
    }
}

#[tokio::test]
async fn what_happens_while_a_base_is_made_is_in_its_journal() {
    for polls in 0..20 {
        let (disk, engine) = saved().await;
        let make = async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            engine.checkpoint().await
        };
        let others = async {
            for number in 0..5 {
                put(&engine, 300 + number, 100).await.unwrap();
                engine.delete(id(20 + number)).await.unwrap();
            }
        };
        let (made, ()) = futures_util::future::join(make, others).await;
        made.unwrap();
        let expected = listed(&engine, 1000).await;
        disk.end_process();
        let engine = open(&disk).await;
        assert!(engine.report().resumed);
        assert_eq!(listed(&engine, 1000).await, expected, "{polls} polls");
    }
}

/// The journal of an index that was lost may outlive a segment it speaks of:
/// what is written afterwards must not take that place.
#[test]
fn a_segment_that_an_old_journal_speaks_of_is_not_begun_again() {
    let disk = disk();
    disk.create_dir("blobs").unwrap();
    let fatal = Fatal::new(Arc::new(|reason| panic!("{reason}")));
    let next = |condemned: &[Place]| {
        let condemned = condemned.iter().copied().collect();
        Scan::full(&disk, &fatal, condemned).unwrap().next_segment
    };
    assert_eq!(next(&[]), 0);
    assert_eq!(next(&[(2, 4096), (7, 4096), (7, 8192)]), 8);
}

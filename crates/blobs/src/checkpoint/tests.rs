//! What happens between two steps of making a base.

use std::sync::atomic::Ordering;

use holdfast_runtime::Disk;
use holdfast_runtime::memory_disk::MemoryDisk;

use super::{MAX_JOURNAL_BYTES, Merging};
use crate::index::IndexSlice;
use crate::index::journal::Line;
use crate::tests::world::*;

/// A base fails for want of room when its journal is begun, and before what was
/// frozen is given back the old journal gets a line: all that this line speaks
/// for must be in it, or the next start does not look for it.
#[tokio::test]
async fn a_line_after_a_base_that_failed_has_everything_that_is_new() {
    let disk = disk();
    let engine = open(&disk).await;
    put(&engine, 1, 100).await.unwrap();
    engine.checkpoint().await.unwrap();
    put(&engine, 2, 100).await.unwrap();
    let shared = engine.shared.clone();
    let merging = Merging::begin(&shared).unwrap();
    let (frozen, old) = shared.index().freeze();
    put(&engine, 3, 100).await.unwrap();
    let rows = IndexSlice::whole(frozen, old);
    let (base, number) = shared.write_base(rows, |_, _| {}).unwrap();
    let free = disk.space().unwrap().free;
    disk.set_free(0);
    assert!(shared.switch_base(base, number, None).is_err());
    disk.set_free(free);
    shared.write_line().unwrap();
    disk.power_cut();
    drop(merging);
    let engine = open(&disk).await;
    assert!(engine.report().resumed);
    for number in 1..4 {
        let read = get_all(&engine, number).await;
        assert_eq!(read.unwrap(), data(number, 100), "{number}");
    }
}

#[tokio::test]
async fn a_journal_that_has_grown_too_long_is_replaced() {
    let disk = MemoryDisk::new(512 << 20, 1);
    let engine = open(&disk).await;
    put(&engine, 1, 100).await.unwrap();
    engine.checkpoint().await.unwrap();
    {
        let mut state = engine.shared.keeper.state();
        let journal = state.journal.as_mut().unwrap();
        while journal.bytes() <= MAX_JOURNAL_BYTES {
            let rows = vec![0; 8 << 20];
            journal.write_changes(rows, Line::default()).unwrap();
        }
    }
    put(&engine, 2, 100).await.unwrap();
    engine.save().await.unwrap();
    assert!(engine.shared.keeper.long.load(Ordering::SeqCst));
    put(&engine, 3, 100).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!engine.shared.keeper.long.load(Ordering::SeqCst));
    {
        let state = engine.shared.keeper.state();
        assert!(state.journal.as_ref().unwrap().bytes() < 1 << 20);
    }
    let engine = open(&disk).await;
    assert!(engine.report().resumed);
    assert_eq!(listed(&engine, 10).await.len(), 3);
}

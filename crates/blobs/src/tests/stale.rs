//! Records that are whole and do not belong where they are read: from another
//! place, from an earlier time, or from an earlier life of the file. Each has
//! its right checksum; what tells it is the place and the file that it names.

use holdfast_runtime::Disk;
use holdfast_runtime::memory_disk::MemoryDisk;

use super::three::*;
use super::world::*;
use crate::format::{closing_at, extent_bytes};
use crate::{Engine, FragmentState, ReadError};

const BASE: &str = "blobs/index-00000001";
const JOURNAL: &str = "blobs/index-00000001.journal";

fn closing(number: u64) -> u64 {
    start(number) + closing_at(LEN as u64)
}

fn copy(disk: &MemoryDisk, from: u64, to: u64, len: usize) {
    let bytes = disk.peek(FILE, from, len).unwrap();
    disk.poke(FILE, to, &bytes).unwrap();
}

/// Fragment 1 is known to be bad, or to be damage; the others are whole.
async fn told(engine: &Engine, context: &str) {
    let state = found(engine, 1).await.map(|entry| entry.state);
    match state {
        Some(FragmentState::Corrupt) => {}
        None => assert_eq!(engine.report().damaged, 1, "{context}"),
        Some(FragmentState::Whole) => {
            let bad = engine.verify(id(1)).await;
            assert!(matches!(bad, Err(ReadError::Corrupt { .. })), "{context}");
        }
    }
    for number in [0, 2] {
        let bytes = get_all(engine, number).await.unwrap();
        assert_eq!(bytes, data(number, LEN), "{context}");
        engine.verify(id(number)).await.unwrap();
    }
}

#[tokio::test]
async fn records_of_another_place_are_told() {
    // The header of one extent over that of another, its closing record, both.
    for (what, places) in [
        ("header", vec![(start(0), start(1))]),
        ("closing record", vec![(closing(0), closing(1))]),
        ("both", vec![(start(0), start(1)), (closing(0), closing(1))]),
        ("closing record over a header", vec![(closing(0), start(1))]),
    ] {
        let (disk, engine) = three().await;
        for (from, to) in places {
            copy(&disk, from, to, 4096);
        }
        told(&engine, what).await;
        drop(engine);
        told(&open(&disk).await, what).await;
    }
}

#[tokio::test]
async fn a_free_record_of_another_place_frees_nothing() {
    let (disk, engine) = three().await;
    put(&engine, 3, LEN).await.unwrap();
    engine.delete(id(3)).await.unwrap();
    copy(&disk, start(3), start(1), 4096);
    drop(engine);
    let engine = open(&disk).await;
    let entry = found(&engine, 1).await.expect("it was acknowledged");
    assert_eq!(entry.state, FragmentState::Corrupt);
    told(&engine, "free record").await;
}

#[tokio::test]
async fn a_write_that_was_lost_is_told() {
    // What was there before, which nobody ever wrote to again, is still there.
    let whole = extent_bytes(LEN as u64) as usize;
    for (what, at, len) in [
        ("header", start(1), 4096),
        ("a block", start(1) + 4096 + 65_536, 65_536),
        ("closing record", closing(1), 4096),
        ("all of it", start(1), whole),
    ] {
        let disk = disk();
        let engine = open(&disk).await;
        put(&engine, 0, LEN).await.unwrap();
        let before = disk.peek(FILE, at, len).unwrap();
        for number in 1..3 {
            put(&engine, number, LEN).await.unwrap();
        }
        disk.poke(FILE, at, &before).unwrap();
        let read = engine.verify(id(1)).await;
        assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{what}");
        told(&engine, what).await;
        engine.save().await.unwrap();
        let again = open(&disk.duplicate()).await;
        told(&again, what).await;
        // Without a closing record nobody can tell it from one that was never
        // finished; with an index, it is known all the same.
        if what != "closing record" {
            without_base(&disk);
            told(&open(&disk).await, what).await;
        }
    }
}

#[tokio::test]
async fn what_an_earlier_life_of_the_file_wrote_is_told() {
    // The same fragments at the same places of a segment of the same number,
    // with other bytes: each record and checksum of it is right in itself.
    let (disk, engine) = three().await;
    let earlier = MemoryDisk::new(64 << 20, 1);
    let other = std::sync::Arc::new(earlier.clone());
    let (old, _) = try_open(other, 99, SETTINGS).await.unwrap();
    for number in 0..3 {
        let put = old.put_small(
            header(id(number)),
            data(number + 70, LEN),
            Default::default(),
        );
        put.await.unwrap();
    }
    let whole = extent_bytes(LEN as u64) as usize;
    let extent = earlier.peek(FILE, start(1), whole).unwrap();
    assert_ne!(extent, disk.peek(FILE, start(1), whole).unwrap());
    disk.poke(FILE, start(1), &extent).unwrap();
    let read = get_all(&engine, 1).await;
    assert!(matches!(read, Err(ReadError::Corrupt { .. })));
    told(&engine, "running").await;
    drop(engine);
    let engine = open(&disk).await;
    assert_eq!(found(&engine, 1).await, None);
    told(&engine, "opened").await;
}

/// Fragments in a base, one of them deleted since.
async fn indexed() -> (MemoryDisk, Engine) {
    let disk = disk();
    let engine = open(&disk).await;
    for number in 0..200 {
        put(&engine, number, 100).await.unwrap();
    }
    engine.checkpoint().await.unwrap();
    engine.delete(id(5)).await.unwrap();
    (disk, engine)
}

async fn all_but_five(disk: &MemoryDisk, context: &str) {
    let engine = open(disk).await;
    assert!(!engine.report().resumed, "{context}: it was believed");
    assert_eq!(listed(&engine, 1000).await.len(), 199, "{context}");
    assert_eq!(found(&engine, 5).await, None, "{context}");
    for number in (0..200).filter(|number| *number != 5) {
        engine.verify(id(number)).await.unwrap();
    }
}

#[tokio::test]
async fn blocks_and_files_of_the_index_that_are_not_its_own_are_told() {
    // A block of another place.
    let (disk, engine) = indexed().await;
    let block = disk.peek(BASE, 0, 4096).unwrap();
    disk.poke(BASE, 4096, &block).unwrap();
    let mut bad = 0;
    for number in (0..200).filter(|number| *number != 5) {
        match engine.shared.entry(&id(number)) {
            Ok(at) => assert!(at.is_some(), "{number} counts as gone"),
            Err(_) => bad += 1,
        }
    }
    assert!((77..=78).contains(&bad), "{bad}");
    // Of this one the index is healed meanwhile.
    let disk = disk.duplicate();
    drop(engine);
    all_but_five(&disk, "misdirected").await;
    // Files that read as zeros.
    for file in [BASE, JOURNAL] {
        let (disk, engine) = indexed().await;
        drop(engine);
        disk.zero(file).unwrap();
        all_but_five(&disk, file).await;
    }
    // A base, and a journal, that an earlier index had.
    for kind in ["", ".journal"] {
        let (disk, engine) = indexed().await;
        let len = |name: &str| disk.open(name).unwrap().len().unwrap();
        let name = format!("{BASE}{kind}");
        let old = disk.peek(&name, 0, len(&name) as usize).unwrap();
        put(&engine, 200, 100).await.unwrap();
        engine.checkpoint().await.unwrap();
        engine.delete(id(200)).await.unwrap();
        let name = format!("blobs/index-00000002{kind}");
        disk.open(&name).unwrap().set_len(old.len() as u64).unwrap();
        disk.poke(&name, 0, &old).unwrap();
        drop(engine);
        all_but_five(&disk, &name).await;
    }
}

#[tokio::test]
async fn a_closing_record_of_another_place_is_told_also_where_there_is_no_data() {
    let disk = disk();
    let engine = open(&disk).await;
    for number in 0..3 {
        put(&engine, number, 0).await.unwrap();
    }
    let closing = |number: u64| 4096 + number * extent_bytes(0) + closing_at(0);
    copy(&disk, closing(0), closing(1), 4096);
    // Its key and its header would be those of another.
    let read = engine.read(id(1), 0..1).await.map(|(meta, _)| meta);
    assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    drop(engine);
    let engine = open(&disk).await;
    let state = found(&engine, 1).await.map(|entry| entry.state);
    assert_eq!(state, Some(FragmentState::Corrupt));
    for number in [0, 2] {
        engine.verify(id(number)).await.unwrap();
    }
}

//! Bits flipped, extents misdirected, files zeroed: never a wrong byte, and
//! never silence.

use super::three::*;
use super::world::*;
use crate::format::{closing_at, extent_bytes};
use crate::{Engine, FragmentState, ReadError};

async fn others_are_whole(engine: &Engine, bad: u64) {
    for number in (0..3).filter(|number| *number != bad) {
        assert_eq!(get_all(engine, number).await.unwrap(), data(number, LEN));
        engine.verify(id(number)).await.unwrap();
    }
}

async fn state(engine: &Engine, number: u64) -> Option<FragmentState> {
    found(engine, number).await.map(|entry| entry.state)
}

#[tokio::test]
async fn a_flipped_bit_of_data_is_never_served() {
    let (disk, engine) = three().await;
    let random = Seeded::new(5);
    for _ in 0..20 {
        let bit = (start(1) + 4096) * 8 + random.below(LEN as u64 * 8);
        disk.flip_bit(FILE, bit).unwrap();
        let bad = get_all(&engine, 1).await;
        assert!(matches!(bad, Err(ReadError::Corrupt { .. })));
        assert_eq!(state(&engine, 1).await, Some(FragmentState::Corrupt));
        disk.flip_bit(FILE, bit).unwrap();
    }
    assert_eq!(engine.stats().await.unwrap().corrupt, 1);
    // A range beside the bad block can still be read.
    disk.flip_bit(FILE, (start(1) + 4096) * 8).unwrap();
    let rest = get(&engine, id(1), 65_536..LEN as u64).await.unwrap();
    assert_eq!(rest, &data(1, LEN)[65_536..]);
    others_are_whole(&engine, 1).await;
    // Written anew it is whole, now and after a restart.
    put(&engine, 1, LEN).await.unwrap();
    assert_eq!(state(&engine, 1).await, Some(FragmentState::Whole));
    assert_eq!(engine.stats().await.unwrap().corrupt, 0);
    drop(engine);
    let engine = open(&disk).await;
    assert_eq!(get_all(&engine, 1).await.unwrap(), data(1, LEN));
}

#[tokio::test]
async fn a_flipped_bit_of_a_header_is_reported_wherever_it_is() {
    for number in 0..3 {
        for byte in [0, 5, 9, 13, 17, 25, 33, 40, 100] {
            let (disk, engine) = three().await;
            drop(engine);
            disk.flip_bit(FILE, (start(number) + byte) * 8 + 3).unwrap();
            let opened = try_open(std::sync::Arc::new(disk.clone()), 1, SETTINGS).await;
            let engine = opened.unwrap().0;
            let report = engine.report();
            assert_eq!((report.fragments, report.corrupt), (3, 1), "{report:?}");
            assert_eq!(state(&engine, number).await, Some(FragmentState::Corrupt));
            others_are_whole(&engine, number).await;
            put(&engine, number, LEN).await.unwrap();
            engine.verify(id(number)).await.unwrap();
            engine.reclaim().await.unwrap();
            drop(engine);
            let engine = open(&disk).await;
            assert_eq!(engine.report().corrupt, 0);
            engine.verify(id(number)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_header_that_rots_under_a_running_engine_is_found_by_scrubbing() {
    let (disk, engine) = three().await;
    disk.flip_bit(FILE, (start(2) + 50) * 8).unwrap();
    let bad = engine.verify(id(2)).await;
    assert!(matches!(bad, Err(ReadError::Corrupt { .. })));
    assert_eq!(state(&engine, 2).await, Some(FragmentState::Corrupt));
}

#[tokio::test]
async fn a_flipped_bit_of_a_closing_record_is_reported() {
    let closing = closing_at(LEN as u64);
    for byte in [0, 5, 9, 13, 17, 25, 33, 60, 130] {
        let (disk, engine) = three().await;
        disk.flip_bit(FILE, (start(1) + closing + byte) * 8)
            .unwrap();
        let bad = get_all(&engine, 1).await;
        assert!(matches!(bad, Err(ReadError::Corrupt { .. })), "byte {byte}");
        drop(engine);
        let engine = open(&disk).await;
        assert_eq!(engine.report().corrupt, 1);
        assert_eq!(state(&engine, 1).await, Some(FragmentState::Corrupt));
        assert!(get_all(&engine, 1).await.is_err());
        others_are_whole(&engine, 1).await;
        engine.delete(id(1)).await.unwrap();
        drop(engine);
        assert_eq!(open(&disk).await.report().corrupt, 0);
    }
}

#[tokio::test]
async fn an_extent_written_over_another_is_told() {
    let (disk, engine) = three().await;
    let extent = disk.peek(FILE, start(0), extent_bytes(LEN as u64) as usize);
    disk.poke(FILE, start(1), &extent.unwrap()).unwrap();
    let bad = get_all(&engine, 1).await;
    assert!(matches!(bad, Err(ReadError::Corrupt { .. })));
    drop(engine);
    let engine = open(&disk).await;
    assert_eq!(engine.report().damaged, 1, "{:?}", engine.report());
    assert_eq!(state(&engine, 1).await, None);
    others_are_whole(&engine, 1).await;
    // What is damaged is kept, and reported again.
    put(&engine, 1, LEN).await.unwrap();
    drop(engine);
    let engine = open(&disk).await;
    assert_eq!(engine.report().damaged, 1);
    engine.verify(id(1)).await.unwrap();
    others_are_whole(&engine, 1).await;
}

#[tokio::test]
async fn a_block_of_another_place_is_told() {
    let (disk, engine) = three().await;
    let first = disk.peek(FILE, start(0) + 4096, 65_536).unwrap();
    // Of another fragment, then of another place of the same.
    disk.poke(FILE, start(1) + 4096, &first).unwrap();
    assert!(matches!(
        get_all(&engine, 1).await,
        Err(ReadError::Corrupt { .. })
    ));
    disk.poke(FILE, start(0) + 4096 + 65_536, &first).unwrap();
    assert!(matches!(
        get_all(&engine, 0).await,
        Err(ReadError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn a_segment_of_zeros_is_damage_and_no_empty_segment() {
    let (disk, engine) = three().await;
    drop(engine);
    disk.poke(FILE, 0, &vec![0; 1 << 20]).unwrap();
    let engine = open(&disk).await;
    assert_eq!(engine.report().damaged, 1);
    put(&engine, 1, LEN).await.unwrap();
    drop(engine);
    let engine = open(&disk).await;
    assert_eq!((engine.report().damaged, engine.report().fragments), (1, 1));
    assert_eq!(get_all(&engine, 1).await.unwrap(), data(1, LEN));
}

#[tokio::test]
async fn a_first_block_that_is_bad_costs_no_fragment() {
    let (disk, engine) = three().await;
    drop(engine);
    disk.poke(FILE, 0, &[0; 4096]).unwrap();
    let engine = open(&disk).await;
    assert!(engine.report().damaged >= 1);
    others_are_whole(&engine, 9).await;
    put(&engine, 5, LEN).await.unwrap();
    drop(engine);
    let engine = open(&disk).await;
    others_are_whole(&engine, 9).await;
    engine.verify(id(5)).await.unwrap();
}

#[tokio::test]
async fn zeros_in_place_of_an_extent_are_damage_while_something_follows() {
    for number in 0..2 {
        let (disk, engine) = three().await;
        drop(engine);
        let zeros = vec![0; extent_bytes(LEN as u64) as usize];
        disk.poke(FILE, start(number), &zeros).unwrap();
        let engine = open(&disk).await;
        assert_eq!(engine.report().damaged, 1);
        others_are_whole(&engine, number).await;
    }
}

#[tokio::test]
async fn a_torn_end_is_freed_and_is_no_damage() {
    let (disk, engine) = three().await;
    drop(engine);
    // The beginning of a header that did not get all of its bytes.
    let head = disk.peek(FILE, start(0), 30).unwrap();
    disk.poke(FILE, start(3), &head).unwrap();
    let engine = open(&disk).await;
    let report = engine.report();
    assert_eq!((report.torn, report.damaged, report.corrupt), (1, 0, 0));
    others_are_whole(&engine, 9).await;
    put(&engine, 4, LEN).await.unwrap();
    drop(engine);
    let engine = open(&disk).await;
    assert_eq!(engine.report().torn, 0);
    others_are_whole(&engine, 9).await;
    engine.verify(id(4)).await.unwrap();
}

#[tokio::test]
async fn bytes_that_look_like_a_record_are_only_bytes() {
    let (disk, engine) = three().await;
    // A client that guessed everything but the random number of the segment.
    let block = crate::format::padded_record(
        crate::format::kind::FREE,
        0,
        1 << 40,
        &crate::format::FreePayload {
            offset: start(3) + 4096,
            bytes: 4096,
        },
    );
    let closing = crate::Closing::default();
    let put = engine.put_small(header(id(3)), block.into(), closing);
    put.await.unwrap();
    drop(engine);
    disk.poke(FILE, start(3), &[1; 4096]).unwrap();
    let engine = open(&disk).await;
    assert_eq!(state(&engine, 3).await, Some(FragmentState::Corrupt));
    others_are_whole(&engine, 9).await;
}

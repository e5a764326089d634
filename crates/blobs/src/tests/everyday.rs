//! Without anything going wrong, or only full.

use std::sync::Arc;

use holdfast_model::Generation;
use holdfast_model::{ObjectKey, Timestamp};

use super::world::*;
use crate::{Closing, EngineSettings, FragmentState, ReadError, WriteError};

const SIZES: [usize; 12] = [
    0, 1, 511, 4096, 4097, 65_535, 65_536, 65_537, 200_000, 262_144, 262_145, 700_000,
];

#[tokio::test]
async fn fragments_of_all_sizes_are_read_back_also_after_a_restart() {
    let disk = disk();
    let engine = open(&disk).await;
    for (number, size) in SIZES.into_iter().enumerate() {
        let written = put(&engine, number as u64, size).await.unwrap();
        assert_eq!((written.bytes, written.existed), (size as u64, false));
    }
    for engine in [engine, open(&disk).await] {
        for (number, size) in SIZES.into_iter().enumerate() {
            let number = number as u64;
            assert_eq!(get_all(&engine, number).await.unwrap(), data(number, size));
            engine.verify(id(number)).await.unwrap();
        }
        let stats = engine.stats().await.unwrap();
        assert_eq!(stats.fragments, SIZES.len() as u64);
        assert_eq!(stats.bytes, SIZES.iter().sum::<usize>() as u64);
        let report = engine.report();
        assert_eq!((report.damaged, report.corrupt, report.torn), (0, 0, 0));
    }
}

#[tokio::test]
async fn pieces_of_any_size_make_the_same_fragment() {
    let disk = disk();
    let engine = open(&disk).await;
    let all = data(1, 600_001);
    for (number, piece) in [1, 7, 4096, 65_536, 99_999, 600_001]
        .into_iter()
        .enumerate()
    {
        let id = id(number as u64);
        let mut writer = engine.begin(header(id), 700_000).await.unwrap();
        let mut rest = all.clone();
        // A byte at a time would take a while: so for the first ones alone.
        while !rest.is_empty() {
            let step = if rest.len() < 500_000 {
                50_000.max(piece)
            } else {
                piece.max(17)
            };
            writer
                .write(rest.split_to(step.min(rest.len())))
                .await
                .unwrap();
        }
        let key = ObjectKey::new("a key").unwrap();
        let closing = Closing {
            key: Some(key.clone()),
            expires: Some(Timestamp(9)),
            checksum: Some(crc32c::crc32c(&all)),
        };
        writer.finish(closing).await.unwrap();
        assert_eq!(get(&engine, id, 0..u64::MAX).await.unwrap(), all);
        let meta = open(&disk).await.verify(id).await.unwrap();
        assert_eq!(meta.header, header(id));
        assert_eq!((meta.key, meta.expires), (Some(key), Some(Timestamp(9))));
    }
}

#[tokio::test]
async fn a_range_gives_its_bytes_and_no_others() {
    let engine = open(&disk()).await;
    let all = data(1, 300_000);
    put(&engine, 1, all.len()).await.unwrap();
    let random = Seeded::new(3);
    for _ in 0..200 {
        let start = random.below(300_001);
        let end = start + random.below(300_001);
        let expected = &all[start as usize..(end as usize).min(all.len())];
        assert_eq!(get(&engine, id(1), start..end).await.unwrap(), expected);
    }
    let beyond = get(&engine, id(1), 300_001..400_000).await;
    assert!(matches!(beyond, Err(ReadError::Range { .. })));
    let absent = get(&engine, id(2), 0..1).await;
    assert!(matches!(absent, Err(ReadError::NotFound(_))));
}

#[tokio::test]
async fn bytes_other_than_announced_are_refused() {
    let engine = open(&disk()).await;
    let closing = Closing {
        checksum: Some(1),
        ..Closing::default()
    };
    let wrong = engine.put_small(header(id(1)), data(1, 100), closing).await;
    assert!(matches!(wrong, Err(WriteError::Checksum { .. })));
    let mut writer = engine.begin(header(id(1)), 100).await.unwrap();
    let long = writer.write(data(1, 101)).await;
    assert!(matches!(long, Err(WriteError::TooLong { .. })));
    let large = engine.begin(header(id(1)), 2 << 20).await;
    assert!(matches!(large, Err(WriteError::TooLarge { .. })));
    assert_eq!(listed(&engine, 10).await, vec![]);
}

#[tokio::test]
async fn the_same_fragment_twice_is_a_retry_and_another_of_its_name_is_refused() {
    let engine = open(&disk()).await;
    put(&engine, 1, 5000).await.unwrap();
    assert!(put(&engine, 1, 5000).await.unwrap().existed);
    let other = engine
        .put_small(header(id(1)), data(2, 5000), Closing::default())
        .await;
    assert!(matches!(other, Err(WriteError::Exists(_))));
    assert_eq!(get_all(&engine, 1).await.unwrap(), data(1, 5000));
}

#[tokio::test]
async fn a_fragment_of_a_newer_generation_replaces_the_older() {
    let disk = disk();
    let engine = open(&disk).await;
    put(&engine, 1, 5000).await.unwrap();
    let mut newer = header(id(1));
    newer.generation = Generation(6);
    let written = engine.put_small(newer, data(1, 5000), Closing::default());
    assert!(!written.await.unwrap().existed);
    engine.reclaim().await.unwrap();
    drop(engine);
    let engine = open(&disk).await;
    assert_eq!(found(&engine, 1).await.unwrap().generation, Generation(6));
    engine.verify(id(1)).await.unwrap();
    engine.delete(id(1)).await.unwrap();
    assert_eq!(found(&engine, 1).await, None);
    assert_eq!(listed(&open(&disk).await, 10).await, vec![]);
}

#[tokio::test]
async fn a_list_is_sorted_and_paged() {
    let engine = open(&disk()).await;
    for number in 0..20 {
        put(&engine, number, 100).await.unwrap();
    }
    let all = listed(&engine, 100).await;
    assert_eq!(all.len(), 20);
    assert!(all.is_sorted_by_key(|entry| entry.id));
    assert!(all.iter().all(|entry| entry.state == FragmentState::Whole));
    let mut paged = Vec::new();
    while let page = engine
        .list(paged.last().map(|e: &crate::FragmentEntry| e.id), 7)
        .await
        .unwrap()
        && !page.is_empty()
    {
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

#[tokio::test]
async fn writers_that_finish_together_share_one_sync() {
    let disk = disk();
    let engine = open(&disk).await;
    put(&engine, 100, 100).await.unwrap();
    let mut writers = Vec::new();
    for number in 0..8 {
        let mut writer = engine.begin(header(id(number)), 1000).await.unwrap();
        writer.write(data(number, 1000)).await.unwrap();
        writers.push(writer);
    }
    let before = disk.syncs();
    let finishes = writers.into_iter().map(|w| w.finish(Closing::default()));
    let done = futures_util::future::join_all(finishes).await;
    assert!(done.iter().all(Result::is_ok));
    let syncs = disk.syncs() - before;
    assert!((1..=2).contains(&syncs), "{syncs} syncs for 8 writers");
}

#[tokio::test]
async fn a_writer_that_is_dropped_leaves_nothing() {
    let disk = disk();
    let engine = open(&disk).await;
    let free = disk_free(&disk);
    let mut writer = engine.begin(header(id(1)), 500_000).await.unwrap();
    writer.write(data(1, 400_000)).await.unwrap();
    drop(writer);
    engine.reclaim().await.unwrap();
    assert_eq!(listed(&engine, 10).await, vec![]);
    let used = free - disk_free(&disk);
    // The segment's reservation less the extent that was given up.
    assert!(used < (1 << 20) - 490_000, "{used} bytes are still used");
    assert_eq!(open(&disk).await.report().incomplete, 0);
}

fn disk_free(disk: &holdfast_runtime::memory_disk::MemoryDisk) -> u64 {
    holdfast_runtime::Disk::space(disk).unwrap().free
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_again_after_a_delete() {
    let disk = holdfast_runtime::memory_disk::MemoryDisk::new(4 << 20, 1);
    let (engine, heard) = try_open(Arc::new(disk.clone()), 1, SETTINGS).await.unwrap();
    let mut taken = 0;
    let refused = loop {
        match put(&engine, taken, 200_000).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WriteError::Full), "{refused}");
    assert!(taken >= 15, "only {taken} fragments of 200 KB on 4 MiB");
    assert!(engine.stats().await.unwrap().full);
    assert!(disk_free(&disk) >= 64 << 10, "the reserve is not there");
    for number in 0..5 {
        engine.delete(id(number)).await.unwrap();
    }
    put(&engine, 1000, 200_000).await.unwrap();
    // The operating system may say it before we see it coming.
    let writer = engine.begin(header(id(2000)), 100).await;
    disk.set_free(0);
    drop(writer);
    let refused = put(&engine, 2001, 300_000).await.unwrap_err();
    assert!(matches!(refused, WriteError::Full), "{refused}");
    assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());
    for number in 5..taken {
        assert_eq!(
            get_all(&engine, number).await.unwrap(),
            data(number, 200_000)
        );
    }
}

#[tokio::test]
async fn segments_without_fragments_are_removed() {
    let disk = disk();
    let engine = open(&disk).await;
    for number in 0..20 {
        put(&engine, number, 300_000).await.unwrap();
    }
    let before = engine.stats().await.unwrap().segments;
    assert!(before >= 6, "{before} segments");
    for number in 0..20 {
        engine.delete(id(number)).await.unwrap();
        engine.delete(id(number)).await.unwrap();
    }
    assert_eq!(engine.stats().await.unwrap().segments, 1);
    let again = open(&disk).await;
    assert_eq!(again.report().fragments, 0);
    put(&again, 1, 300_000).await.unwrap();
}

#[tokio::test]
async fn the_engine_runs_on_a_real_file_system() {
    use holdfast_runtime::host::disk::Directory;
    let dir = tempfile::tempdir().unwrap();
    let settings = EngineSettings {
        segment_bytes: 4 << 20,
        reserve_bytes: Some(0),
    };
    for round in 0..3 {
        let disk = Arc::new(Directory::open(dir.path()).unwrap());
        let (engine, heard) = try_open(disk, round, settings).await.unwrap();
        for number in 0..30 {
            let number = number + round * 20;
            put(&engine, number, 250_000).await.unwrap();
            assert_eq!(
                get_all(&engine, number).await.unwrap(),
                data(number, 250_000)
            );
        }
        for number in 0..10 {
            engine.delete(id(number + round * 20)).await.unwrap();
        }
        let report = engine.report();
        assert_eq!((report.damaged, report.corrupt, report.torn), (0, 0, 0));
        assert_eq!(listed(&engine, 1000).await.len() as u64, 20 + round * 10);
        assert!(heard.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_delete_of_older_generations_leaves_what_was_written_since() {
    let engine = open(&disk()).await;
    put(&engine, 1, 1000).await.unwrap();
    let own = found(&engine, 1).await.unwrap().generation;
    engine.delete_below(id(1), Some(own)).await.unwrap();
    engine.verify(id(1)).await.unwrap();
    let next = holdfast_model::Generation(own.0 + 1);
    engine.delete_below(id(1), Some(next)).await.unwrap();
    assert_eq!(found(&engine, 1).await, None);
}

#[tokio::test]
async fn blocks_of_known_checksums_and_plain_pieces_make_the_same_fragment() {
    const BLOCK: usize = crate::BLOCK_BYTES;
    let disk = disk();
    let engine = open(&disk).await;
    // Lengths of pieces, and which of them come with their checksum.
    let ways: [&[(usize, bool)]; 6] = [
        &[(BLOCK, true); 9],
        &[(BLOCK, true), (BLOCK, true), (BLOCK, true), (100, true)],
        &[(BLOCK, true), (BLOCK, false), (BLOCK, true), (BLOCK, true)],
        &[(100, false), (BLOCK, true), (BLOCK, true)],
        &[(BLOCK, true), (300_000, false), (BLOCK, true), (5, true)],
        &[(100, true)],
    ];
    for (number, way) in (0..).zip(ways) {
        let len = way.iter().map(|(len, _)| len).sum();
        let mut rest = data(number, len);
        let mut writer = engine.begin(header(id(number)), len as u64).await.unwrap();
        for (len, known) in way {
            let piece = rest.split_to(*len);
            let written = if *known {
                let checksum = crc32c::crc32c(&piece);
                writer.write_verified(piece, checksum).await
            } else {
                writer.write(piece).await
            };
            written.unwrap();
        }
        let whole = data(number, len);
        let closing = Closing {
            checksum: Some(crc32c::crc32c(&whole)),
            ..Closing::default()
        };
        writer.finish(closing).await.unwrap();
        assert_eq!(get_all(&engine, number).await.unwrap(), whole);
        engine.verify(id(number)).await.unwrap();
    }
    let mut writer = engine.begin(header(id(49)), 100).await.unwrap();
    let long = writer.write_verified(data(49, BLOCK), 0).await;
    assert!(matches!(long, Err(WriteError::TooLong { .. })));
    // Bytes that changed in memory after their checksum was compared.
    let mut writer = engine.begin(header(id(50)), BLOCK as u64).await.unwrap();
    let checksum = crc32c::crc32c(&data(50, BLOCK));
    writer
        .write_verified(data(51, BLOCK), checksum)
        .await
        .unwrap();
    writer.finish(Closing::default()).await.unwrap();
    let read = get_all(&engine, 50).await;
    assert!(matches!(read, Err(ReadError::Corrupt { .. })));
}

//! Objects on their way in.

use std::time::Duration;

use bytes::Bytes;
use holdfast_client::ClusterError;
use holdfast_client::writer::INTENT_AFTER;
use holdfast_metadata::command::{Command, MAX_CHUNKS_PER_COMMAND};
use holdfast_model::Representation;
use holdfast_model::record::{INLINE_LIMIT_BYTES, MAX_CHUNK_BYTES};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::fake::{Fake, Fault, GENERATION, data, disk, read, write, writer};

const CHUNK: usize = MAX_CHUNK_BYTES as usize;

#[tokio::test(start_paused = true)]
async fn what_is_written_is_on_three_nodes_and_read_back() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let all = data(2 * CHUNK + 12_345);
    let written = write(&cluster, &all, 100_003).await.unwrap();
    fake.commit(&written);
    assert_eq!(written.size, all.len() as u64);
    let sha256: [u8; 32] = Sha256::digest(&all).into();
    assert_eq!(written.sha256, sha256);
    assert_eq!(written.generation, Some(GENERATION));
    let shapes: Vec<_> = written
        .chunks
        .iter()
        .map(|c| (c.index, c.size as usize, c.fragments.len()))
        .collect();
    assert_eq!(shapes, [(0, CHUNK, 3), (1, CHUNK, 3), (2, 12_345, 3)]);
    for n in 1..=3 {
        assert_eq!(fake.fragments(n), 3);
    }
    let back = read(&cluster, written.size, &written.representation, 0..u64::MAX).await;
    assert!(back.unwrap() == all);
}

#[tokio::test(start_paused = true)]
async fn up_to_the_limit_an_object_stays_inline() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    for len in [0, 1, INLINE_LIMIT_BYTES as usize] {
        let all = data(len);
        let written = write(&cluster, &all, 1_000).await.unwrap();
        assert!(
            matches!(&written.representation, Representation::Inline { bytes, .. } if *bytes == all)
        );
        let back = read(&cluster, len as u64, &written.representation, 0..u64::MAX).await;
        assert!(back.unwrap() == all);
    }
    let longer = write(&cluster, &data(INLINE_LIMIT_BYTES as usize + 1), 1_000).await;
    assert!(matches!(
        longer.unwrap().representation,
        Representation::Chunked { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn one_dead_node_leaves_chunks_of_two_fragments() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    // Dead, and not yet known to be.
    fake.fault(3, Fault::Dead);
    let all = data(CHUNK + 1);
    let written = write(&cluster, &all, 1 << 20).await.unwrap();
    fake.commit(&written);
    for chunk in &written.chunks {
        assert_eq!(chunk.fragments.len(), 2);
        assert!(chunk.fragments.iter().all(|place| place.disk != disk(3)));
    }
    let back = read(&cluster, written.size, &written.representation, 0..u64::MAX).await;
    assert!(back.unwrap() == all);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_or_stalls_in_mid_chunk_is_left_behind() {
    for fault in [
        Fault::BreaksAfter(3 << 20),
        Fault::StallsAfter(3 << 20),
        Fault::LosesAnswers,
    ] {
        let fake = Fake::new();
        let cluster = fake.cluster().await;
        fake.fault(2, fault);
        let all = data(3 * CHUNK);
        let started = Instant::now();
        let written = write(&cluster, &all, 1 << 20).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(10), "{fault:?}");
        fake.commit(&written);
        for chunk in &written.chunks {
            assert_eq!(chunk.fragments.len(), 2, "{fault:?}");
            assert!(chunk.fragments.iter().all(|place| place.disk != disk(2)));
        }
        let back = read(&cluster, written.size, &written.representation, 0..u64::MAX).await;
        assert!(back.unwrap() == all, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_two_nodes_gone_in_mid_chunk_an_upload_fails_and_leaves_nothing() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let all = data(2 * CHUNK);
    let mut writer = writer(&cluster);
    writer.write(all.slice(..CHUNK + (1 << 20))).await.unwrap();
    fake.fault(2, Fault::BreaksAfter(0));
    fake.fault(3, Fault::BreaksAfter(0));
    let error = match writer.write(all.slice(CHUNK + (1 << 20)..)).await {
        Err(error) => error,
        Ok(()) => panic!("a chunk was taken by one node"),
    };
    assert!(
        matches!(error, ClusterError::NotEnoughNodes { have: 1, need: 2 }),
        "{error:?}"
    );
    assert!(error.retry_after().is_some());
    writer.abort().await;
    for n in 1..=3 {
        assert_eq!(fake.fragments(n), 0, "node {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_dropped_makes_no_half_a_fragment() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let mut writer = writer(&cluster);
    writer.write(data(1 << 20)).await.unwrap();
    drop(writer);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for n in 1..=3 {
        assert_eq!(fake.fragments(n), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_keeps_its_upload_and_records_its_intent() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let mut writer = writer(&cluster);
    let all = data(5 << 20);
    for piece in all.chunks(1 << 20) {
        writer.write(all.slice_ref(piece)).await.unwrap();
        tokio::time::sleep(INTENT_AFTER / 2).await;
    }
    let written = writer.finish().await.unwrap();
    assert_eq!(written.chunks[0].fragments.len(), 3);
    let upload = written.representation.uploads().next().unwrap();
    let commands = &fake.world().commands;
    assert!(matches!(
        &commands[..],
        [(_, Command::BeginUpload { upload: u, generation: GENERATION, .. })] if *u == upload
    ));
}

#[tokio::test(start_paused = true)]
async fn long_chunk_lists_go_ahead_of_the_commit() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let mut writer = writer(&cluster);
    let chunks = 3 * MAX_CHUNKS_PER_COMMAND + 5;
    for _ in 0..chunks {
        writer.write(data(20_000)).await.unwrap();
        writer.cut_chunk();
    }
    let written = writer.finish().await.unwrap();
    assert!(written.chunks.len() <= MAX_CHUNKS_PER_COMMAND);
    fake.commit(&written);
    assert_eq!(fake.world().rows.len(), chunks);
    let begun = |c: &Command| matches!(c, Command::BeginUpload { .. });
    assert!(begun(&fake.world().commands[0].1));
    let Representation::Chunked { parts, .. } = &written.representation else {
        panic!("inline");
    };
    assert_eq!(
        (parts[0].chunks as usize, parts[0].chunk_bytes),
        (chunks, 20_000)
    );
    let all: Bytes = data(20_000).repeat(chunks).into();
    let back = read(&cluster, written.size, &written.representation, 0..u64::MAX).await;
    assert!(back.unwrap() == all);
}

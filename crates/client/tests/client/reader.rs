//! Objects on their way out.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::StreamExt;
use holdfast_client::{Cluster, ClusterError, MemoryBudget, ObjectPlace, Written, read_record};
use holdfast_metadata::command::Command;
use holdfast_model::attributes::{ContentHeaders, VersionKind};
use holdfast_model::record::{Coding, MAX_CHUNK_BYTES};
use holdfast_model::{
    AccessKeyId, BucketId, Content, ObjectKey, ObjectRecord, Representation, Timestamp, VersionId,
};

use crate::fake::{Fake, Fault, data, disk, read, write, writer};

const CHUNK: u64 = MAX_CHUNK_BYTES;

async fn stored(fake: &Fake, cluster: &Cluster, all: &Bytes) -> Written {
    let written = write(cluster, all, 1 << 20).await.unwrap();
    fake.commit(&written);
    written
}

fn ranges(size: u64) -> Vec<std::ops::Range<u64>> {
    let block = 64 << 10;
    vec![
        0..0,
        0..1,
        1..2,
        block - 1..block + 1,
        block..2 * block,
        5 * block + 7..9 * block + 3,
        CHUNK - 1..CHUNK,
        CHUNK - 1..CHUNK + 1,
        CHUNK..CHUNK + 1,
        CHUNK + 5..size,
        size - 1..size,
        size - 1..size + 100,
        size..size + 1,
        0..size,
    ]
}

#[tokio::test(start_paused = true)]
async fn a_range_is_exactly_its_bytes() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let all = data(2 * CHUNK as usize + 777);
    let size = all.len() as u64;
    let written = stored(&fake, &cluster, &all).await;
    for range in ranges(size) {
        let got = read(&cluster, size, &written.representation, range.clone())
            .await
            .unwrap();
        let expected = &all[range.start as usize..range.end.min(size) as usize];
        assert!(got == expected, "{range:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_goes_on_at_the_byte_where_a_fragment_failed() {
    for fault in [
        Fault::BreaksAfter(0),
        Fault::BreaksAfter(1_000_001),
        Fault::StallsAfter(2_500_000),
        Fault::FlipsAt(3_000_000),
        Fault::FlipsAt(0),
        Fault::Dead,
        Fault::Corrupt,
    ] {
        let fake = Fake::new();
        let cluster = fake.cluster().await;
        let all = data(2 * CHUNK as usize);
        let size = all.len() as u64;
        let written = stored(&fake, &cluster, &all).await;
        // Two of three: sooner or later a reader meets them first.
        fake.fault(2, fault);
        fake.fault(3, fault);
        for range in [0..size, 100_000..CHUNK + 100_000] {
            let got = read(&cluster, size, &written.representation, range.clone()).await;
            let expected = &all[range.start as usize..range.end as usize];
            assert!(got.unwrap() == expected, "{fault:?} {range:?}");
        }
        let world = fake.world();
        let tried = world.nodes[&2].downloads + world.nodes[&3].downloads;
        assert!(tried > 0 || fault == Fault::Dead, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_no_fragment_is_good_the_reader_fails_after_right_bytes_only() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let all = data(CHUNK as usize);
    let written = stored(&fake, &cluster, &all).await;
    for n in 1..=3 {
        fake.fault(n, Fault::FlipsAt(800_000));
    }
    let mut pieces = holdfast_client::read_object(
        &cluster,
        crate::fake::GROUP,
        CHUNK,
        &written.representation,
        Vec::new(),
        0..CHUNK,
        holdfast_client::MemoryBudget::new(1 << 20),
    );
    let mut got = Vec::new();
    let error = loop {
        match pieces
            .next()
            .await
            .expect("the stream ended as if all were well")
        {
            Ok(piece) => got.extend_from_slice(&piece),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, ClusterError::DataUnavailable { chunk: 0, .. }),
        "{error:?}"
    );
    assert!(got.len() < CHUNK as usize && all.starts_with(&got));
    assert!(pieces.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn missing_and_corrupt_fragments_are_reported() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let all = data(CHUNK as usize);
    let written = stored(&fake, &cluster, &all).await;
    fake.fault(2, Fault::Corrupt);
    fake.world().nodes.get_mut(&3).unwrap().fragments.clear();
    // Node 1 is tried last in one of these.
    for _ in 0..20 {
        let got = read(&cluster, CHUNK, &written.representation, 0..CHUNK).await;
        assert!(got.unwrap() == all);
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let mut disks: Vec<_> = fake
        .world()
        .commands
        .iter()
        .filter_map(|(_, command)| match command {
            Command::ReportMissing { fragments } => Some(fragments.clone()),
            _ => None,
        })
        .flatten()
        .map(|missing| missing.place.disk)
        .collect();
    disks.sort_unstable();
    disks.dedup();
    assert_eq!(disks, [disk(2), disk(3)]);
}

#[tokio::test(start_paused = true)]
async fn compressed_chunks_give_the_same_ranges() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    // Half of it can be compressed, half cannot.
    let mut all = data(CHUNK as usize).to_vec();
    all.extend((0..CHUNK as usize + 999).map(|n| (n / 1_000) as u8));
    let size = all.len() as u64;
    let mut coded = writer(&cluster).coded();
    for chunk in all.chunks(CHUNK as usize) {
        let frame = zstd::bulk::compress(chunk, 3).unwrap();
        coded.write(frame.into()).await.unwrap();
        coded.cut_coded_chunk(chunk.len() as u32);
    }
    let written = coded.finish().await.unwrap();
    fake.commit(&written);
    assert_eq!(written.chunks.len(), 3);
    fake.fault(2, Fault::FlipsAt(200_000));
    fake.fault(3, Fault::BreaksAfter(100_000));
    for range in ranges(size) {
        let got = read(&cluster, size, &written.representation, range.clone())
            .await
            .unwrap();
        let expected = &all[range.start as usize..range.end.min(size) as usize];
        assert!(got == expected, "{range:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn compressed_inline_data_gives_the_same_ranges_and_no_wrong_size() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let all = vec![7u8; 300_000];
    let inline = Representation::Inline {
        bytes: zstd::bulk::compress(&all, 3).unwrap().into(),
        coding: Coding::Zstd,
    };
    for range in [0..300_000, 5..6, 299_999..300_000, 100_000..200_001] {
        let got = read(&cluster, 300_000, &inline, range.clone())
            .await
            .unwrap();
        assert!(got == all[range.start as usize..range.end as usize]);
    }
    for wrong in [299_999, 300_001] {
        assert!(read(&cluster, wrong, &inline, 0..wrong).await.is_err());
    }
}

/// The record of an object that is stored like that.
fn record(representation: &Representation, size: u64) -> ObjectRecord {
    ObjectRecord {
        bucket: BucketId::from_bytes([1; 16]),
        version: VersionId::from_bytes([2; 16]),
        key: ObjectKey::new("object").unwrap(),
        owner: AccessKeyId::from_bytes([3; 16]),
        created: Timestamp(1_700_000_000_000),
        expires: None,
        content: Content {
            filename: None,
            mime: "text/plain".to_owned(),
            size,
            sha256: [4; 32],
            etag: "e".to_owned(),
            checksums: BTreeMap::new(),
        },
        representation: representation.clone(),
        downloads: None,
        password: None,
        delete_token: None,
        metadata: BTreeMap::new(),
        tags: BTreeMap::new(),
        derived: Vec::new(),
        revision: 1,
        fingerprint: None,
        kind: VersionKind::Null,
        headers: ContentHeaders::default(),
    }
}

/// Reads a quarter of an object, has `meanwhile` done to it, and reads the rest.
async fn read_around(
    meanwhile: impl AsyncFnOnce(&Fake, &Cluster, &Bytes, ObjectRecord),
) -> (Bytes, Vec<u8>, Result<(), ClusterError>) {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let all = data(4 * CHUNK as usize);
    let written = stored(&fake, &cluster, &all).await;
    let first = record(&written.representation, all.len() as u64);
    let at = ObjectPlace {
        group: crate::fake::GROUP,
        bucket: BucketId::from_bytes([1; 16]),
        key: first.key.clone(),
    };
    let budget = MemoryBudget::new(64 << 20);
    let range = 0..all.len() as u64;
    let mut pieces = read_record(&cluster, at, &first, Vec::new(), range, budget);
    let mut got = Vec::new();
    while got.len() < CHUNK as usize {
        got.extend_from_slice(&pieces.next().await.unwrap().unwrap());
    }
    meanwhile(&fake, &cluster, &all, first).await;
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => got.extend_from_slice(&piece),
            Err(error) => return (all, got, Err(error)),
        }
    }
    (all, got, Ok(()))
}

/// What a task does: writes it anew; what was there is deleted after a while.
async fn write_anew(fake: &Fake, cluster: &Cluster, all: &Bytes) -> Representation {
    for n in 1..=3 {
        fake.world().nodes.get_mut(&n).unwrap().fragments.clear();
    }
    stored(fake, cluster, all).await.representation
}

#[tokio::test(start_paused = true)]
async fn what_is_written_anew_under_its_reader_is_read_on_where_it_is() {
    let (all, got, end) = read_around(async |fake, cluster, all, mut record| {
        record.representation = write_anew(fake, cluster, all).await;
        record.revision += 1;
        fake.world().record = Some(record);
    })
    .await;
    end.unwrap();
    assert!(got == all);
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_or_written_over_under_its_reader_ends_with_an_error() {
    let deleted = read_around(async |fake, cluster, all, _| {
        write_anew(fake, cluster, all).await;
    });
    let same = read_around(async |fake, cluster, all, record| {
        write_anew(fake, cluster, all).await;
        fake.world().record = Some(record);
    });
    let over = read_around(async |fake, cluster, all, mut record| {
        record.representation = write_anew(fake, cluster, all).await;
        record.version = VersionId::from_bytes([9; 16]);
        fake.world().record = Some(record);
    });
    for (all, got, end) in [deleted.await, same.await, over.await] {
        assert!(
            matches!(end, Err(ClusterError::DataUnavailable { .. })),
            "{end:?}"
        );
        assert!(got.len() < all.len() && all.starts_with(&got));
    }
}

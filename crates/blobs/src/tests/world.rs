//! What the tests share: a world with nothing in it but a disk.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::TryStreamExt;
use holdfast_model::{
    BucketId, ClusterId, FragmentHeader, FragmentId, Generation, GroupId, Redundancy, UploadId,
    VersionId,
};
use holdfast_runtime::Disk;
use holdfast_runtime::memory_disk::MemoryDisk;
pub(crate) use holdfast_runtime::still::Seeded;
use holdfast_runtime::still::env;

use crate::{
    Closing, Engine, EngineSettings, FragmentEntry, OpenError, ReadError, WriteError, Written,
};

pub(crate) const SETTINGS: EngineSettings = EngineSettings {
    segment_bytes: 1 << 20,
    reserve_bytes: Some(64 << 10),
};

/// What the fatal hook heard.
pub(crate) type Heard = Arc<Mutex<Vec<String>>>;

pub(crate) async fn try_open(
    disk: Arc<dyn Disk>,
    seed: u64,
    settings: EngineSettings,
) -> Result<(Engine, Heard), OpenError> {
    let heard = Heard::default();
    let hook = heard.clone();
    let hook = Arc::new(move |reason| hook.lock().unwrap().push(reason));
    let engine = Engine::open(disk, &env(seed), settings, hook).await?;
    Ok((engine, heard))
}

pub(crate) async fn open(disk: &MemoryDisk) -> Engine {
    let disk = Arc::new(disk.clone());
    try_open(disk, 7, SETTINGS).await.unwrap().0
}

pub(crate) fn disk() -> MemoryDisk {
    MemoryDisk::new(64 << 20, 1)
}

pub(crate) fn id(number: u64) -> FragmentId {
    let mut upload = [0; 16];
    upload[..8].copy_from_slice(&number.to_be_bytes());
    FragmentId {
        group: GroupId((number % 3) as u16),
        upload: UploadId::from_bytes(upload),
        chunk: 0,
        index: 1,
    }
}

pub(crate) fn header(id: FragmentId) -> FragmentHeader {
    FragmentHeader {
        id,
        cluster: ClusterId::from_bytes([1; 16]),
        bucket: BucketId::from_bytes([2; 16]),
        version: VersionId::from_bytes([3; 16]),
        redundancy: Redundancy::copies(3),
        stripe_bytes: 256 << 10,
        generation: Generation(5),
        encryption_key: None,
    }
}

/// Bytes that differ from fragment to fragment and from block to block.
pub(crate) fn data(number: u64, len: usize) -> Bytes {
    let seeded = Seeded::new(number.wrapping_mul(77));
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&seeded.number().to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

pub(crate) async fn put(engine: &Engine, number: u64, len: usize) -> Result<Written, WriteError> {
    let bytes = data(number, len);
    let closing = Closing {
        checksum: Some(crc32c::crc32c(&bytes)),
        ..Closing::default()
    };
    engine.put_small(header(id(number)), bytes, closing).await
}

/// All of a range, with each block's checksum compared.
pub(crate) async fn get(
    engine: &Engine,
    id: FragmentId,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, ReadError> {
    let (_, blocks) = engine.read(id, range.clone()).await?;
    let blocks: Vec<_> = blocks.try_collect().await?;
    let mut all = Vec::new();
    for block in blocks {
        assert_eq!(block.offset, range.start + all.len() as u64);
        assert_eq!(block.checksum, crc32c::crc32c(&block.data));
        assert!(block.data.len() <= crate::BLOCK_BYTES && !block.data.is_empty());
        all.extend_from_slice(&block.data);
    }
    Ok(all)
}

pub(crate) async fn get_all(engine: &Engine, number: u64) -> Result<Vec<u8>, ReadError> {
    get(engine, id(number), 0..u64::MAX).await
}

/// Takes the bases of the index away, and journals of others than the newest:
/// one still speaks of deletes, and one that was only begun of deletes that
/// nobody was told of.
pub(crate) fn without_base(disk: &MemoryDisk) {
    let mut names = disk.list("blobs").unwrap_or_default();
    names.retain(|name| name.starts_with("index-"));
    let newest = names.iter().filter(|name| !name.contains('.')).max();
    let journal = newest.map(|name| format!("{name}.journal"));
    for name in names.iter().filter(|name| Some(*name) != journal.as_ref()) {
        disk.remove(&format!("blobs/{name}")).unwrap();
    }
}

pub(crate) async fn found(engine: &Engine, number: u64) -> Option<FragmentEntry> {
    engine.find(&id(number)).await.unwrap()
}

pub(crate) async fn listed(engine: &Engine, limit: usize) -> Vec<FragmentEntry> {
    engine.list(None, limit).await.unwrap()
}

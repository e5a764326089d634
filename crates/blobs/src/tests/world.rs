//! What the tests share: a world with nothing in it but a disk.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt};
use holdfast_model::{
    BucketId, ClusterId, FragmentHeader, FragmentId, Generation, GroupId, Redundancy, Timestamp,
    UploadId, VersionId,
};
use holdfast_runtime::disk::{File, Space};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{
    Address, Call, Clock, Disk, Entropy, Env, Reply, Tasks, Transport, TransportError,
};

use crate::{
    Closing, Engine, EngineSettings, FragmentEntry, OpenError, ReadError, WriteError, Written,
};

/// Blocking work runs where it is asked for, after the other tasks had a turn:
/// a run of one thread, the same every time.
struct InlineTasks;

impl Tasks for InlineTasks {
    #[allow(clippy::disallowed_methods, reason = "the tests' own executor")]
    fn spawn(&self, _: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        async move {
            tokio::task::yield_now().await;
            work();
        }
        .boxed()
    }
}

/// Numbers from a seed (SplitMix64), also the tests' own.
pub(super) struct Seeded(AtomicU64);

impl Seeded {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(super) fn number(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(step, Ordering::SeqCst).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.number() % bound
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.number() as u8;
        }
    }
}

struct NoClock;

impl Clock for NoClock {
    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

struct NoTransport;

impl Transport for NoTransport {
    fn call(&self, to: &Address, _: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let error = TransportError::Connect {
            to: to.clone(),
            reason: "there is nobody".into(),
        };
        std::future::ready(Err(error)).boxed()
    }
}

pub(super) fn env(seed: u64) -> Env {
    Env {
        clock: Arc::new(NoClock),
        entropy: Arc::new(Seeded::new(seed)),
        tasks: Arc::new(InlineTasks),
        transport: Arc::new(NoTransport),
    }
}

pub(super) const SETTINGS: EngineSettings = EngineSettings {
    segment_bytes: 1 << 20,
    reserve_bytes: Some(64 << 10),
};

/// What the fatal hook heard.
pub(super) type Heard = Arc<Mutex<Vec<String>>>;

pub(super) async fn try_open(
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

pub(super) async fn open(disk: &MemoryDisk) -> Engine {
    let disk = Arc::new(disk.clone());
    try_open(disk, 7, SETTINGS).await.unwrap().0
}

pub(super) fn disk() -> MemoryDisk {
    MemoryDisk::new(64 << 20, 1)
}

pub(super) fn id(number: u64) -> FragmentId {
    let mut upload = [0; 16];
    upload[..8].copy_from_slice(&number.to_be_bytes());
    FragmentId {
        group: GroupId((number % 3) as u16),
        upload: UploadId::from_bytes(upload),
        chunk: 0,
        index: 1,
    }
}

pub(super) fn header(id: FragmentId) -> FragmentHeader {
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
pub(super) fn data(number: u64, len: usize) -> Bytes {
    let seeded = Seeded::new(number.wrapping_mul(77));
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&seeded.number().to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

pub(super) async fn put(engine: &Engine, number: u64, len: usize) -> Result<Written, WriteError> {
    let bytes = data(number, len);
    let closing = Closing {
        checksum: Some(crc32c::crc32c(&bytes)),
        ..Closing::default()
    };
    engine.put_small(header(id(number)), bytes, closing).await
}

/// All of a range, with each block's checksum compared.
pub(super) async fn get(
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

pub(super) async fn get_all(engine: &Engine, number: u64) -> Result<Vec<u8>, ReadError> {
    get(engine, id(number), 0..u64::MAX).await
}

/// Takes the bases of the index away, and journals of others than the newest:
/// one still speaks of deletes, and one that was only begun of deletes that
/// nobody was told of.
pub(super) fn without_base(disk: &MemoryDisk) {
    let mut names = disk.list("blobs").unwrap_or_default();
    names.retain(|name| name.starts_with("index-"));
    let newest = names.iter().filter(|name| !name.contains('.')).max();
    let journal = newest.map(|name| format!("{name}.journal"));
    for name in names.iter().filter(|name| Some(*name) != journal.as_ref()) {
        disk.remove(&format!("blobs/{name}")).unwrap();
    }
}

pub(super) async fn found(engine: &Engine, number: u64) -> Option<FragmentEntry> {
    engine.find(&id(number)).await.unwrap()
}

pub(super) async fn listed(engine: &Engine, limit: usize) -> Vec<FragmentEntry> {
    engine.list(None, limit).await.unwrap()
}

/// A disk whose file system knows neither holes nor reservations.
pub(super) struct Plain(pub MemoryDisk);

struct PlainFile(Arc<dyn File>);

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

impl Disk for Plain {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(PlainFile(self.0.open(name)?)))
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(PlainFile(self.0.create(name)?)))
    }
    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.0.create_dir(name)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn space(&self) -> io::Result<Space> {
        self.0.space()
    }
}

impl File for PlainFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        unsupported()
    }
    fn punch_hole(&self, _: u64, _: u64) -> io::Result<()> {
        unsupported()
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

//! Compaction with a disk that writes wrongly, and with readers on the way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{FutureExt, TryStreamExt};
use holdfast_model::{ObjectKey, Timestamp};
use holdfast_runtime::Disk;
use holdfast_runtime::disk::File;
use holdfast_runtime::memory_disk::{AlteredDisk, MemoryDisk};

use super::world::*;
use crate::{Closing, Compactor, Engine};

const LEN: usize = 150_000;

/// A file that, when told to, writes data with a bit flipped and says nothing.
struct SpoilingFile(Arc<dyn File>, Arc<AtomicBool>);

impl File for SpoilingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut data = data.to_vec();
        // Records are left alone: what they say is then believed.
        if self.1.load(Ordering::SeqCst) && !data.starts_with(b"HFR!") {
            data[LEN / 2] ^= 4;
        }
        self.0.write_all_at(&data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.allocate(offset, len)
    }
    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.punch_hole(offset, len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

/// One fragment left in each of some segments: number 0, 6, 12 and so on.
pub(super) async fn sparse(disk: Arc<dyn Disk>) -> Engine {
    let (engine, _) = try_open(disk, 1, SETTINGS).await.unwrap();
    for number in 0..36 {
        put(&engine, number, LEN).await.unwrap();
    }
    for number in (0..36).filter(|number| number % 6 != 0) {
        engine.delete(id(number)).await.unwrap();
    }
    engine
}

async fn compact_all(engine: &Engine) -> u64 {
    let mut compactor = Compactor::new(engine.clone());
    let mut moved = 0;
    loop {
        let step = compactor.step().await.unwrap();
        moved += step.moved;
        if step.idle {
            return moved;
        }
    }
}

async fn all_whole(engine: &Engine) {
    for number in (0..36).step_by(6) {
        assert_eq!(get_all(engine, number).await.unwrap(), data(number, LEN));
        engine.verify(id(number)).await.unwrap();
    }
    assert_eq!(engine.stats().await.unwrap().corrupt, 0);
}

#[tokio::test]
async fn sparse_segments_become_few() {
    let disk = disk();
    let engine = sparse(Arc::new(disk.clone())).await;
    let before = engine.stats().await.unwrap().segments;
    assert!(compact_all(&engine).await >= 4);
    let after = engine.stats().await.unwrap().segments;
    assert!(after + 3 <= before, "{before} segments, then {after}");
    all_whole(&engine).await;
    disk.power_cut();
    all_whole(&open(&disk).await).await;
}

#[tokio::test]
async fn a_fragment_that_moves_carries_all_that_it_did_before() {
    let engine = sparse(Arc::new(disk())).await;
    // Beside what is nearly empty, and then nearly alone in its own segment.
    let mut header = header(id(1_000));
    header.encryption_key = Some(12);
    let closing = Closing {
        key: ObjectKey::new("a/b").ok(),
        expires: Some(Timestamp(11)),
        checksum: None,
    };
    let put = engine.put_small(header.clone(), data(1_000, LEN), closing.clone());
    put.await.unwrap();
    for number in 2_000..2_036 {
        put_and_forget(&engine, number).await;
    }
    let before = engine.verify(id(1_000)).await.unwrap();
    let place = place_of(&engine, 1_000);
    compact_all(&engine).await;
    assert_ne!(place_of(&engine, 1_000), place, "it has not moved");
    let after = engine.verify(id(1_000)).await.unwrap();
    assert_eq!(after, before);
    assert_eq!(after.header, header);
    assert_eq!((after.key, after.expires), (closing.key, closing.expires));
}

async fn put_and_forget(engine: &Engine, number: u64) {
    put(engine, number, LEN).await.unwrap();
    engine.delete(id(number)).await.unwrap();
}

fn place_of(engine: &Engine, number: u64) -> (u32, u32) {
    let at = engine.shared.entry(&id(number)).unwrap().unwrap();
    (at.segment, at.offset)
}

#[tokio::test]
async fn a_copy_that_is_not_what_was_written_never_replaces_its_original() {
    let disk = disk();
    let spoil = Arc::new(AtomicBool::new(false));
    let told = spoil.clone();
    let spoiling = AlteredDisk::new(disk.clone())
        .with_files(move |file| Arc::new(SpoilingFile(file, told.clone())));
    let engine = sparse(Arc::new(spoiling)).await;
    spoil.store(true, Ordering::SeqCst);
    assert_eq!(compact_all(&engine).await, 0);
    spoil.store(false, Ordering::SeqCst);
    all_whole(&engine).await;
    disk.power_cut();
    let engine = open(&disk).await;
    all_whole(&engine).await;
    assert!(compact_all(&engine).await >= 4);
    all_whole(&engine).await;
}

#[tokio::test]
async fn a_reader_whose_place_has_gone_goes_on_in_the_new_one() {
    // Longer than a stripe, so that the read has begun when the move comes.
    const LONG: usize = 600_000;
    let disk = disk();
    let settings = crate::EngineSettings {
        segment_bytes: 4 << 20,
        ..SETTINGS
    };
    let (engine, _) = try_open(Arc::new(disk), 1, settings).await.unwrap();
    for number in 0..8 {
        put(&engine, number, LONG).await.unwrap();
    }
    for number in 1..8 {
        engine.delete(id(number)).await.unwrap();
    }
    let (_, mut blocks) = engine.read(id(0), 0..u64::MAX).await.unwrap();
    let mut all = blocks.try_next().await.unwrap().unwrap().data.to_vec();
    assert_eq!(compact_all(&engine).await, 1);
    while let Some(block) = blocks.try_next().await.unwrap() {
        all.extend_from_slice(&block.data);
    }
    assert_eq!(all, data(0, LONG));
}

#[test]
fn a_delete_while_its_fragment_moves_is_not_undone_by_a_power_cut() {
    use futures_util::future::{Either, select};
    for seed in 0..80 {
        let disk = MemoryDisk::new(64 << 20, seed);
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.build().unwrap()
        };
        runtime().block_on(async {
            let engine = sparse(Arc::new(disk.clone())).await;
            let mut compactor = Compactor::new(engine.clone());
            let mut step = Box::pin(compactor.step());
            // The delete comes at each of the move's steps.
            for _ in 0..seed % 6 {
                if step.as_mut().now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let delete = Box::pin(engine.delete(id(0)));
            match select(step, delete).await {
                Either::Left((_, delete)) => assert!(delete.await.unwrap()),
                Either::Right((deleted, _)) => assert!(deleted.unwrap()),
            }
            // At once: what compaction would still have done is not done.
            disk.power_cut();
        });
        runtime().block_on(async {
            let engine = open(&disk).await;
            assert_eq!(found(&engine, 0).await, None, "seed {seed}");
        });
    }
}

//! Two things at once, each held at a named point until the other has come as
//! far as it can.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use futures_util::FutureExt;
use holdfast_model::Generation;
use holdfast_runtime::memory_disk::{AlteredDisk, MemoryDisk};

use super::world::*;
use crate::segment::Found;
use crate::{Closing, Compactor, Engine};

/// Turns of the executor after which whoever has not gone on waits for somebody.
const TURNS: usize = 200;

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.build().unwrap()
}

/// Polls in each of its turns, also those that others need to come to an end
/// after it is done.
async fn as_far_as_it_can<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut output = None;
    for _ in 0..TURNS {
        if output.is_none() {
            output = (&mut *future).now_or_never();
        }
        tokio::task::yield_now().await;
    }
    output
}

/// A delete stops when its note is durable and the header is still there; then
/// the journal gets a line, which is all that a start reads of what was before.
#[test]
fn what_is_on_its_way_out_when_a_line_is_taken_is_freed_by_the_next_start() {
    for seed in 0..20 {
        let disk = MemoryDisk::new(64 << 20, seed);
        let place = runtime().block_on(async {
            let engine = open(&disk).await;
            for number in 0..4 {
                put(&engine, number, 50_000).await.unwrap();
            }
            engine.checkpoint().await.unwrap();
            let place = engine.shared.entry(&id(1)).unwrap().unwrap();
            let mut delete = Box::pin(engine.delete(id(1)));
            for _ in 0..TURNS {
                if disk.points().contains_key("delete: note synced") {
                    break;
                }
                assert!(delete.as_mut().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
            drop(delete);
            let points = disk.points();
            assert!(points.contains_key("delete: note synced"));
            assert!(!points.contains_key("delete: header overwritten"));
            engine.save().await.unwrap();
            place
        });
        disk.power_cut();
        runtime().block_on(async {
            let engine = open(&disk).await;
            assert!(engine.report().resumed);
            assert_eq!(found(&engine, 1).await, None);
            let extent = engine.shared.extent(&place).unwrap();
            let head = extent.segment.record_at(extent.offset).unwrap();
            let free = matches!(head, Some((_, Found::Free(_))));
            assert!(free, "seed {seed}: its room is lost");
            // The journal that spoke of it goes with its base.
            engine.checkpoint().await.unwrap();
        });
        without_base(&disk);
        runtime().block_on(async {
            let engine = open(&disk).await;
            assert!(!engine.report().resumed);
            assert_eq!(found(&engine, 1).await, None, "seed {seed}: it came back");
            for number in [0, 2, 3] {
                engine.verify(id(number)).await.unwrap();
            }
        });
    }
}

/// Does `other`, which `prepare` makes, while compaction of fragment 0 stands
/// still: after it has taken the id and begun the copy, and before the copy's
/// closing record.
fn while_a_fragment_moves<F, Other, Fut>(prepare: F) -> MemoryDisk
where
    F: AsyncFnOnce(Engine) -> Other,
    Other: FnOnce() -> Fut,
    Fut: Future<Output = ()>,
{
    let disk = disk();
    let armed = Arc::new(AtomicBool::new(false));
    let (arrived, arrival) = mpsc::channel();
    let (resume, resumed) = mpsc::channel::<()>();
    let resumed = Mutex::new(resumed);
    let in_hook = armed.clone();
    let hooked = AlteredDisk::new(disk.clone()).told(move |point| {
        if point == "write: header written" && in_hook.swap(false, Ordering::SeqCst) {
            arrived.send(()).unwrap();
            resumed.lock().unwrap().recv().unwrap();
        }
    });
    let own = runtime();
    let engine = own.block_on(super::compaction::sparse(Arc::new(hooked)));
    let mut compactor = Compactor::new(engine.clone());
    let compaction =
        move || runtime().block_on(async move { compactor.step().await.unwrap().moved });
    own.block_on(async {
        let other = prepare(engine.clone()).await;
        let mut other = Box::pin(other());
        armed.store(true, Ordering::SeqCst);
        #[allow(clippy::disallowed_methods, reason = "a thread that stands still")]
        let thread = std::thread::spawn(compaction);
        arrival.recv().unwrap();
        let done = as_far_as_it_can(&mut other).await;
        resume.send(()).unwrap();
        // All that compaction still does comes first: it runs in a thread of its
        // own, and a disk in memory has no files without names.
        let moved = thread.join().unwrap();
        assert!(
            done.is_none(),
            "it did not wait for the fragment that moves"
        );
        assert_eq!(moved, 1);
        other.await;
    });
    disk
}

#[test]
fn a_writer_waits_for_the_fragment_that_moves() {
    // Its closing record would have an earlier number than the copy's, and after
    // a crash the copy of the older generation would count.
    let disk = while_a_fragment_moves(async |engine: Engine| {
        let mut newer = header(id(0));
        newer.generation = Generation(6);
        let mut writer = engine.begin(newer, 150_000).await.unwrap();
        writer.write(data(0, 150_000)).await.unwrap();
        async move || {
            writer.finish(Closing::default()).await.unwrap();
        }
    });
    disk.power_cut();
    runtime().block_on(async {
        let engine = open(&disk).await;
        let entry = found(&engine, 0).await.unwrap();
        assert_eq!(entry.generation, Generation(6));
        engine.verify(id(0)).await.unwrap();
    });
}

#[test]
fn a_delete_waits_for_the_fragment_that_moves() {
    let disk = while_a_fragment_moves(async |engine: Engine| {
        async move || assert!(engine.delete(id(0)).await.unwrap())
    });
    disk.power_cut();
    runtime().block_on(async {
        assert_eq!(found(&open(&disk).await, 0).await, None);
    });
}

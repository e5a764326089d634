//! Each sync of the engine fails in turn: the disk counts as failed, whoever
//! waited hears so, nothing more is taken, and what was acknowledged before is
//! there at the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_runtime::memory_disk::{AlteredDisk, MemoryDisk};

use super::world::*;
use crate::{Compactor, Engine, WriteError};

const LEN: usize = 150_000;

/// What is asked, and the named point before the sync that fails.
const SYNCS: &[(&str, &str)] = &[
    ("put", "write: closing record written"),
    ("delete", "delete: noted"),
    ("delete", "delete: header overwritten"),
    ("line", "line: written"),
    ("checkpoint", "checkpoint: written"),
    ("checkpoint", "checkpoint: synced"),
    ("compact", "compact: copied"),
    ("compact", "delete: noted"),
    ("compact", "delete: header overwritten"),
];

async fn ask(engine: &Engine, what: &str) -> bool {
    match what {
        "put" => put(engine, 100, LEN).await.is_ok(),
        "delete" => engine.delete(id(0)).await.is_ok(),
        "line" => engine.save().await.is_ok(),
        "checkpoint" => engine.checkpoint().await.is_ok(),
        _ => Compactor::new(engine.clone()).step().await.is_ok(),
    }
}

#[tokio::test]
async fn a_sync_that_fails_anywhere_ends_the_disk() {
    for (what, point) in SYNCS {
        let disk = MemoryDisk::new(64 << 20, 1);
        let armed = Arc::new(AtomicBool::new(false));
        let hooked = AlteredDisk::new(disk.clone()).told({
            let (disk, armed, point) = (disk.clone(), armed.clone(), *point);
            move |reached| {
                if reached == point && armed.swap(false, Ordering::SeqCst) {
                    disk.fail_next_sync();
                }
            }
        });
        let (engine, heard) = try_open(Arc::new(hooked), 1, SETTINGS).await.unwrap();
        for number in 0..36 {
            put(&engine, number, LEN).await.unwrap();
        }
        for number in (0..36).filter(|number| number % 6 != 0) {
            engine.delete(id(number)).await.unwrap();
        }
        engine.checkpoint().await.unwrap();
        put(&engine, 50, 100).await.unwrap();
        armed.store(true, Ordering::SeqCst);
        assert!(!ask(&engine, what).await, "{what}, {point}: it went on");
        assert!(
            !armed.load(Ordering::SeqCst),
            "{what} does not pass {point}"
        );
        assert_eq!(heard.lock().unwrap().len(), 1, "{what}, {point}");
        // Later syncs would succeed, and would lie.
        let more = put(&engine, 51, 100).await;
        assert!(
            matches!(more, Err(WriteError::Failed(_))),
            "{what}, {point}"
        );
        for what in ["delete", "line", "checkpoint", "compact"] {
            assert!(!ask(&engine, what).await, "{what} after {point}");
        }
        drop(engine);
        disk.power_cut();
        let engine = open(&disk).await;
        assert_eq!(engine.report().damaged, 0, "{what}, {point}");
        for number in [6, 12, 18, 24, 30, 50] {
            engine.verify(id(number)).await.unwrap();
        }
        for number in (0..36).filter(|number| number % 6 != 0) {
            assert_eq!(found(&engine, number).await, None, "{what}, {point}");
        }
    }
}

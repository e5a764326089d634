//! Three fragments, one after the other in one segment.

use holdfast_runtime::memory_disk::MemoryDisk;

use super::world::*;
use crate::Engine;
use crate::format::extent_bytes;

/// Bytes of each.
pub(super) const LEN: usize = 150_000;
/// The segment.
pub(super) const FILE: &str = "blobs/segment-00000000";

pub(super) async fn three() -> (MemoryDisk, Engine) {
    let disk = disk();
    let engine = open(&disk).await;
    for number in 0..3 {
        put(&engine, number, LEN).await.unwrap();
    }
    (disk, engine)
}

/// Where a fragment begins in the segment.
pub(super) fn start(number: u64) -> u64 {
    4096 + number * extent_bytes(LEN as u64)
}

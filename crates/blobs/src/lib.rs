//! The disk engine: fragments of objects in append-only segments, and the
//! framing of records that the Raft log shares.
//!
//! It promises that a fragment is durable when its writing is answered, that no
//! byte is handed out whose checksum does not match, that what was deleted does
//! not come back, and that damage is reported and never cut off. The layout on
//! disk is in `docs/formats.md`.

mod checkpoint;
mod compact;
mod digest;
mod engine;
mod fatal;
mod format;
mod index;
mod open;
mod reader;
mod reclaim;
pub mod record;
mod room;
mod rounds;
mod scan;
mod segment;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use checkpoint::CheckpointError;
pub use compact::{CompactError, Compacted, Compactor};
pub use digest::{Digest, fragment_hash};
pub use engine::{
    Engine, EngineSettings, EngineStats, FragmentEntry, FragmentState, MAX_SEGMENT_BYTES,
    standard_reserve,
};
pub use fatal::{Failed, OnFatal};
pub use format::{BLOCK_BYTES, STRIPE_BYTES, extent_bytes};
pub use index::IndexError;
pub use open::{OpenError, ScanReport};
pub use reader::{Block, Blocks, FragmentMeta, ReadError};
pub use reclaim::DeleteError;
pub use store::FragmentStore;
pub use writer::{Closing, FragmentWriter, WriteError, Written};

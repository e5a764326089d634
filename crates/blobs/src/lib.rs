//! The disk engine: fragments of objects in append-only segments, and the
//! framing of records that the Raft log shares.

pub mod record;

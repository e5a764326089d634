//! The engine on a disk in memory that is cut, filled, damaged and replaced
//! behind its back.

mod compaction;
mod crash;
mod damage;
mod everyday;
mod failed_syncs;
mod healing;
mod index;
mod interleaving;
mod model;
mod plain;
mod stale;
mod three;
pub(crate) mod world;

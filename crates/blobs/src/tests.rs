//! The engine on a disk in memory that is cut, filled, damaged and replaced
//! behind its back.

mod compaction;
mod crash;
mod damage;
mod everyday;
mod index;
mod model;
mod world;

//! The engine on a disk in memory that is cut, filled, damaged and replaced
//! behind its back.

mod everyday;
mod world;

//! The HTTP API against groups that really apply commands: one node in memory,
//! with the state machine of the metadata crate behind it.

mod access;
mod downloads;
mod files;
mod uploads;
mod world;

//! The HTTP API against groups that really apply commands: one node in memory,
//! with the state machine of the metadata crate behind it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test ends where something is not as it should be, also in its helpers"
)]

mod access;
mod clocks;
mod downloads;
mod files;
mod stats;
mod uploads;
mod world;

//! What the suites share, and the suite of faults over real processes:
//! `cargo test -p holdfast-e2e`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a test from outside; the simulation has no part in it"
)]

pub mod content;
pub mod dev;
pub mod gateway;
pub mod http;
pub mod kubernetes;
pub mod level;
pub mod processes;
pub mod redundancy;
pub mod wait;

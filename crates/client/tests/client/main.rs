//! The client against a cluster of nodes in memory: what it promises when
//! nodes die, stall, lie or lose answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, outside of their functions"
)]

mod fake;
mod reader;
mod router;
mod writer;

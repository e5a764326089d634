//! The client against a cluster of nodes in memory: what it promises when
//! nodes die, stall, lie or lose answers.

mod fake;
mod reader;
mod router;
mod writer;

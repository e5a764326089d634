//! Metadata groups: the only place where truth is decided.
//!
//! A group is a Raft group that owns slots of object keys. [`command`] and
//! [`query`] say what can be asked of one, [`protocol`] how nodes are called;
//! [`state`] applies commands to the ordered store of [`store`], and `raft`
//! runs all groups of a node in one loop over one log.

pub mod command;
pub mod log;
pub mod protocol;
pub mod query;
pub mod raft;
pub mod state;
pub mod store;
pub mod wire;

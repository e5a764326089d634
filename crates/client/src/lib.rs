//! How gateways, workers and tools reach a cluster: who leads what, where
//! fragments go, and objects of any size as streams of bounded memory.
//!
//! [`Cluster`] keeps a view of the cluster and routes commands and queries to
//! the groups' leaders. [`ObjectWriter`] and [`read_object`] move the bytes of
//! objects. [`StorageNodeClient`] calls one node, and [`StorageNodeManager`]
//! knows all of them. Nothing here decides anything about an object: that is
//! the groups' part.

pub mod birth;
pub mod blocks;
pub mod budget;
pub mod census;
pub mod cluster;
pub mod error;
pub mod laggards;
mod manager;
pub mod node;
pub mod reader;
pub mod time;
pub mod writer;

pub use budget::{MemoryBudget, Permit};
pub use cluster::{Cluster, ClusterSettings, GroupView, LookedUp, ObjectPlace};
pub use error::{CallError, ClusterError};
pub use manager::{Health, NodeView, StorageNodeManager};
pub use node::StorageNodeClient;
pub use reader::{read_object, read_record};
pub use writer::{ObjectTarget, ObjectWriter, Written};

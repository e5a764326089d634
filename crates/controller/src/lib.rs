//! The cluster's own controller: what keeps a cluster whole without anybody
//! looking. Every storage node runs it.
//!
//! Where group 0 is led it watches the nodes, computes the next layout, moves
//! group members and leaders. Where a metadata group is led it repairs the
//! group's chunks, empties disks that are to go, deletes garbage and orphans,
//! and counts what is really on the disks (the census). On every node it
//! scrubs the node's own disk.
//!
//! It promises:
//! 1. What it knows of the cluster it has been told through [`Cluster`], by its
//!    own node too; what it decides it decides in pure functions (`plan_*`), and
//!    each order carries the epoch, or the rows, that it was computed from, so
//!    that whoever receives it refuses an old one. Two controllers that both
//!    believe they lead do each other no harm.
//! 2. An old copy stays until the new one is durable and has been read back.
//! 3. A fragment nobody refers to is deleted only once its group's floor has
//!    passed its generation and a linearizable read has shown no reference.
//! 4. Health is counted on the disks, never in a queue.
//!
//! [`Cluster`]: holdfast_client::Cluster

mod census;
mod chunk_plan;
mod claims;
mod cluster_work;
mod collector;
mod compaction;
mod controller;
mod copy;
mod drain;
mod error;
mod facts;
mod leaders;
mod learners;
mod members;
mod nodes;
mod pace;
mod permit;
mod progress;
mod repair;
mod scrub;
mod settings;
mod shared;
mod spans;
mod throttle;
mod worker;

#[cfg(test)]
mod scenario;

pub use census::Census;
pub use compaction::{CompactDisk, CompactionStep, CompactionTotals};
pub use controller::{Controller, ControllerParts};
pub use error::WorkError;
pub use permit::{PermitCase, PermitError, PermitRefusal, may_take_permit};
pub use progress::Progress;
pub use settings::{ControllerSettings, MIN_BYTES_PER_SECOND, SettingsError};
pub use worker::{WorkerState, WorkerView};

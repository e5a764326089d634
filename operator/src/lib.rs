//! The operator: turns StorageCluster resources into running clusters, and tells
//! the truth about them.
//!
//! A reconcile is five steps, a file each: [`observe`] reads the API server and
//! asks the cluster's own nodes, [`validate`] makes of it the one type that
//! builders read or the sentences that say what to change, [`lifecycle`] decides
//! purely what to do next, [`apply`] does it, and [`report`] writes the status.
//! Nothing is kept between two of them but what saves work: every decision is
//! made of what is there, so that an operator that dies anywhere goes on.
//!
//! The data's safety is not the operator's: before a storage node is stopped the
//! cluster itself grants the maintenance permit, or refuses.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the operator works on an API server: the simulation runs none of it"
)]

pub mod apply;
pub mod certificates;
pub mod context;
pub mod credentials;
pub mod drift;
pub mod error;
pub mod health;
pub mod lease;
pub mod lifecycle;
pub mod loaded;
pub mod memory;
pub mod nodes;
pub mod observe;
pub mod parts;
pub mod probe;
pub mod process;
pub mod provisioning;
pub mod reconcile;
pub mod report;
pub mod rotation;
pub mod run;
pub mod secrets;
pub mod settings;
pub mod validate;
pub mod workloads;

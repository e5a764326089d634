//! From a StorageCluster to the Kubernetes objects that it means: pure functions.
//!
//! [`validate`] turns a resource, and what the lifecycle has decided about it,
//! into a [`Cluster`], the one type that everything here reads; or into
//! sentences that say what to change. [`desired`] turns that into objects, whole
//! and in the order of application, and leaves nothing to decide. Nothing here
//! looks at a cluster, a clock or a disk, so a plan can be printed, compared and
//! kept as golden text.
//!
//! Promises: the same cluster gives the same bytes; a change of the number of
//! nodes changes numbers alone, never a pod's template; selectors and claim
//! templates' names are the same for ever; every pod fits the Pod Security
//! level `restricted`; credentials are in no object.

mod account;
pub mod brokers;
mod budget;
mod cache;
mod cluster;
mod desired;
mod gateway;
mod merge;
mod monitoring;
pub mod names;
pub mod network;
mod nodes;
mod object;
mod pods;
pub mod quantity;
mod queue;
mod template;
pub mod tls;
mod validate;
mod worker;

pub use cluster::{Cluster, Decisions, Images, OptionalKinds};
pub use desired::{Child, ChildKind, DesiredState, desired};
pub use object::without_nulls;
pub use validate::{Contradiction, MAX_NAME_CHARACTERS, Reason, budgets, validate};

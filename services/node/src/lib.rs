//! The storage node: fragments on a disk, and the metadata groups on it.
//!
//! [`Node`] is the whole of it over [`holdfast_runtime::Env`] and a disk, so
//! that the simulation runs the very same code; [`run`] puts it behind HTTP on
//! a machine.

pub mod birth;
mod ending;
pub mod fragments;
pub mod identity;
pub mod limits;
mod liveness;
pub mod load;
pub mod node;
mod peers;
pub mod process;
pub mod restore;
mod run;
mod seal;
mod server;
pub mod settings;

pub use birth::{FoundingError, found_cluster};
pub use ending::LAST_START;
pub use holdfast_metadata::log::LogSettings;
pub use limits::LimitSettings;
pub use node::{Node, NodeParts, StartError};
pub use run::{RunError, RunParts, Running, host_env, run, start, start_on};
pub use settings::NodeSettings;

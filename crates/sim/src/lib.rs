//! Whole clusters in one thread: the real nodes over a simulated clock,
//! network and disks, all drawn from one seed, so that a failed run is
//! replayed by its number.
//!
//! tokio's `current_thread` runtime with paused time is the executor: nothing
//! in it runs in parallel, and time goes on only when everybody waits.

pub mod checks;
pub mod faults;
pub mod history;
pub mod journal;
pub mod machine;
pub mod network;
pub mod orders;
pub mod plain_put;
pub mod points;
pub mod scenario;
pub mod trace;
pub mod workload;
pub mod world;

pub use machine::{Machine, MachineTasks};
pub use network::Network;
pub use scenario::{Report, Run, run_seed, run_with};
pub use trace::Trace;
pub use world::{World, run};

//! What everything else takes from the world: time, randomness, tasks, disks
//! and the network, as traits that the simulation replaces, and the edge of a
//! process: settings, telemetry, shutdown.
//!
//! Code that the simulation runs takes an [`Env`] and uses nothing else of the
//! world, so that a seed replays a run.

pub mod clock;
pub mod credential;
pub mod disk;
pub mod entropy;
pub mod fatal;
pub mod host;
pub mod memory_disk;
pub mod pulse;
pub mod secrets;
pub mod server_url;
pub mod settings;
pub mod shutdown;
pub mod still;
pub mod tasks;
pub mod telemetry;
pub mod transport;
pub mod trusted;

use std::sync::Arc;

pub use clock::Clock;
pub use credential::Credential;
pub use disk::{Disk, File};
pub use entropy::Entropy;
pub use fatal::{Fatal, OnFatal};
pub use pulse::{Beat, Pulse};
pub use server_url::ServerUrl;
pub use shutdown::Shutdown;
pub use tasks::{Tasks, TasksExt};
pub use transport::{Address, Body, Call, Reply, Transport, TransportError};

/// The world as one process sees it.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Concurrency.
    pub tasks: Arc<dyn Tasks>,
    /// The other processes.
    pub transport: Arc<dyn Transport>,
}

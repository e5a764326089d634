//! Holdfast as the processes that it is in production, to be broken on purpose:
//! storage nodes, gateways and workers from the target directory, on free ports
//! of the loopback address, with data in temporary directories, and a RabbitMQ
//! and a Redis of their own.
//!
//! Promises: whatever was started is ended, by its own process id, also when a
//! test panics; nothing is skipped where a program is missing, the test fails
//! with a sentence that says what to run. A wait is a predicate with a deadline.

mod cluster;
mod ports;
mod program;
mod secured;
mod servers;
mod shape;
mod socket;

pub use cluster::{Cluster, Member, SECRET, TOKEN};
pub use ports::free_port;
pub use program::{Program, binary, next_release};
pub use secured::{Authority, Secured, believing};
pub use servers::{RabbitMq, Redis, Shown};
pub use shape::Shape;
pub use socket::Cut;

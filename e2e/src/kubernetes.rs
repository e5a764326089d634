//! StorageClusters in a running Kubernetes cluster, as tests and measurements
//! use them: made, watched, loaded and broken.
//!
//! Pods and Services must be reachable from this machine.

pub mod chart;
pub mod children;
pub mod issuer;
pub mod kinds;
pub mod machines;
pub mod outages;
pub mod roll;
pub mod room;
pub mod spec;
pub mod state;
pub mod told;
pub mod traffic;
pub mod trust;

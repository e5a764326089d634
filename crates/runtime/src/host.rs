//! The real world behind the traits. What is in here the simulation replaces,
//! so here alone the operating system is called.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these are the adapters that the simulation replaces"
)]

pub mod descriptors;
pub mod disk;
pub mod http;
pub mod operations;
pub mod pace;
pub mod serve;
pub mod signals;
pub mod system;
pub mod tls;

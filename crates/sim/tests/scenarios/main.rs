//! Clusters in simulated time, each with its own story: how one is born and
//! loses nobody's objects, faults with a name, and one scenario for each
//! promise that code could break in silence.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod buckets;
mod client_clock;
mod copies;
mod counted;
mod drains;
mod first_light;
mod full;
mod leaders;
mod losses;
mod named;
mod objects;
mod permits;
mod points;
mod promises;
mod releases;
mod steady;
mod still;
mod support;
mod syncs;

//! What the plan promises, shown on whole resources.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test ends where something is not as it should be, also in its helpers"
)]

mod alerts;
mod contradictions;
mod fields;
mod golden;
mod network;
mod security;
mod stability;
mod support;
mod typed;

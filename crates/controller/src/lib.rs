//! crates/controller

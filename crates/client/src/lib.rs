//! crates/client

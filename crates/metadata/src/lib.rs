//! crates/metadata

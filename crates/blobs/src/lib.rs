//! crates/blobs

//! What a node's listener allows. Its clients are the cluster's own processes.

use std::time::Duration;

use holdfast_runtime::host::serve::ServeLimits;

/// A call holds a connection for as long as it lasts, so this bounds calls too.
pub const LIMITS: ServeLimits = ServeLimits {
    name: "node",
    connections: 8_192,
    // A peer that does not send its request's head in this time is not one.
    // Longer than callers keep a silent connection (30 s), so that none of theirs is
    // closed while they send on it.
    head_deadline: Duration::from_secs(45),
    // Two blocks of a fragment with their headers.
    buffer_bytes: 256 << 10,
    headers: 100,
    // What is left of the end's time once leadership is handed over.
    drain: Duration::from_secs(10),
};

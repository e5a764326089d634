//! What the gateway's listener allows.

use std::time::Duration;

use holdfast_runtime::host::serve::ServeLimits;
use holdfast_runtime::shutdown::DRAIN_DEADLINE;

/// Connections wait without holding more than a few KiB each; a request takes
/// a place of its own ([`crate::app::App::admit_request`]).
pub const LIMITS: ServeLimits = ServeLimits {
    name: "gateway",
    connections: 8_192,
    head_deadline: Duration::from_secs(15),
    // 64 KiB of head; large enough that bodies move in few reads.
    buffer_bytes: 64 << 10,
    headers: 100,
    drain: DRAIN_DEADLINE,
};

//! What a node says of itself.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use holdfast_metadata::protocol::Status;
use holdfast_model::ClusterState;

use super::Node;

impl Node {
    /// What it says of itself; costs no IO.
    pub fn status(&self) -> Status {
        let identity = self.identity();
        let groups = self.groups.get();
        Status {
            node: identity.node,
            disk: identity.disk,
            cluster: identity.cluster,
            incarnation: identity.incarnation,
            wire_version: identity
                .active
                .map_or(self.supports.wire.min, |active| active.wire),
            supports: self.supports,
            recorded: identity.active,
            now: self.env.clock.wall(),
            state: groups
                .and_then(|groups| groups.shared().state())
                .map(|state| Box::new(ClusterState::clone(&state))),
            space: *self.space.lock().unwrap_or_else(PoisonError::into_inner),
            groups: groups
                .map(|groups| groups.shared().statuses())
                .unwrap_or_default(),
            draining: self.draining.load(Ordering::Relaxed),
            disk_hangs: groups.is_some_and(|groups| groups.shared().disk_hangs()),
            started: self.started,
            address: self.address.0.clone(),
            zone: self.zone.clone(),
            host: self.host.clone(),
        }
    }
}

//! What a node answers about maintenance: through its own controller, which
//! asks the groups wherever their leaders are.

use holdfast_controller::{Census, Controller, PermitError};
use holdfast_metadata::protocol::{
    CensusReport, GroupCensus, NodeError, PermitRequest, ReleaseRequest, SealRequest,
};
use holdfast_model::{Epoch, GroupId, Permit};
use holdfast_runtime::{Fatal, TasksExt};

use super::Node;
use crate::seal;

/// The longest reason of a permit, in bytes: it travels with the cluster's state.
const MAX_REASON_BYTES: usize = 200;

impl Node {
    fn running_controller(&self) -> Result<&Controller, NodeError> {
        self.controller().ok_or(NodeError::NotBorn)
    }

    pub(super) fn census_report(&self) -> Result<CensusReport, NodeError> {
        let controller = self.running_controller()?;
        let groups = controller.census().into_iter();
        Ok(CensusReport {
            groups: groups
                .map(|(group, census)| counts(group, &census))
                .collect(),
            chunks_to_copy: controller.repair_progress().left(),
        })
    }

    pub(super) async fn permit(&self, request: PermitRequest) -> Result<Permit, NodeError> {
        if !(1..=MAX_REASON_BYTES).contains(&request.reason.len()) {
            return Err(NodeError::Invalid(format!(
                "a reason has 1 to {MAX_REASON_BYTES} bytes"
            )));
        }
        let controller = self.running_controller()?;
        let permit = controller.take_permit(request.node, &request.reason, request.degraded);
        permit.await.map_err(|error| not_permitted(&error))
    }

    /// Takes no further fragments, and waits for those that are being written.
    pub(super) async fn seal(&self, request: SealRequest) -> Result<(), NodeError> {
        let own = self.identity().disk;
        if request.disk != own {
            return Err(NodeError::Mistaken(format!("this is disk {own}")));
        }
        let disk = self.disk.clone();
        let kept = self
            .env
            .tasks
            .blocking(move || seal::keep(disk.as_ref(), request.epoch));
        if let Err(error) = kept.await.ok_or(NodeError::ShuttingDown)? {
            return Err(match Fatal::of_disk("sealing", &error) {
                // Nothing is sealed, and whoever asked asks again.
                Fatal::NoRoom(_) => NodeError::DiskFull,
                fatal => {
                    (self.on_fatal)(fatal);
                    NodeError::DiskFailed
                }
            });
        }
        self.seal.close(request.epoch);
        self.seal.quiet().await;
        Ok(())
    }

    /// The layout that the node knows, if its disk takes data in it.
    pub(super) fn taking_since(&self) -> Option<Epoch> {
        let state = self.groups.get()?.shared().state()?;
        let own = self.identity();
        let node = state.layout.nodes.get(&own.node)?;
        (node.disk == own.disk && node.takes_data()).then_some(state.layout.epoch)
    }

    pub(super) async fn release(&self, request: ReleaseRequest) -> Result<(), NodeError> {
        let controller = self.running_controller()?;
        let release = controller.release_permit(request.epoch);
        release.await.map_err(|error| not_permitted(&error))
    }
}

fn not_permitted(error: &PermitError) -> NodeError {
    NodeError::NotPermitted(error.to_string())
}

fn counts(group: GroupId, census: &Census) -> GroupCensus {
    GroupCensus {
        group,
        objects: census.objects,
        degraded: census.degraded,
        unavailable: census.unavailable,
        lost: census.lost,
        missing: census.missing,
        silent_disks: census.silent_disks,
        epoch: census.epoch,
        time: census.time,
    }
}

#[cfg(test)]
#[path = "maintenance_tests.rs"]
mod tests;

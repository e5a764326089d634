//! What a node answers about maintenance: through its own controller, which
//! asks the groups wherever their leaders are.

use holdfast_controller::{Census, Controller, PermitError};
use holdfast_metadata::protocol::{
    CensusReport, GroupCensus, NodeError, PermitRequest, ReleaseRequest,
};
use holdfast_model::{GroupId, Permit};

use super::Node;

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
        let permit = controller.take_permit(request.node, &request.reason);
        permit.await.map_err(|error| not_permitted(&error))
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

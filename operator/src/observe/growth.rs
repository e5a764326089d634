//! What Kubernetes says about volumes that are to grow.
//!
//! A class may forbid it. Where it allows it, the driver may still refuse: newer
//! API servers say so in the claim's conditions, older resizers in events only.

use std::collections::BTreeMap;

use holdfast_crd::StorageCluster;
use holdfast_plan::quantity::bytes;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::events::{self, said_at, shortened};
use crate::context::Context;
use crate::error::{Attempt, OperatorError};

/// Conditions of a claim that say that it does not grow.
const REFUSALS: [&str; 2] = ["ControllerResizeError", "NodeResizeError"];
/// What a claim's status says of its size when no try will ever succeed.
const INFEASIBLE: &str = "Infeasible";
/// The reason of events of a resizer that has failed.
const FAILED: &str = "VolumeResizeFailed";
/// An event that is older is of an earlier try: a resizer tries at least every
/// five minutes.
const RECENT_SECONDS: i64 = 600;
/// The most claims whose events are looked for in a round: what a driver says of
/// one it says of all.
const MAX_ASKED: usize = 3;

/// Whether claims that are too small may grow; `None` where none is, or it is not
/// known.
pub(super) async fn may_grow(
    context: &Context,
    resource: &StorageCluster,
    claims: &BTreeMap<u32, PersistentVolumeClaim>,
) -> Result<Option<bool>, OperatorError> {
    let wanted = &resource.spec.nodes.storage.size;
    let smaller = claims.values().find(|claim| is_smaller(claim, wanted));
    let class = smaller.and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone());
    let Some(class) = class else { return Ok(None) };
    let api: Api<StorageClass> = Api::all(context.client.clone());
    let found = api
        .get_opt(&class)
        .await
        .attempt(|| format!("reading StorageClass {class}"))?;
    Ok(found.map(|class| class.allow_volume_expansion.unwrap_or(false)))
}

/// Why a claim that is to grow does not, as the API server and the resizer say.
pub(super) async fn refused_growth(
    context: &Context,
    resource: &StorageCluster,
    claims: &BTreeMap<u32, PersistentVolumeClaim>,
) -> Result<Option<String>, OperatorError> {
    let wanted = &resource.spec.nodes.storage.size;
    // A volume that was kept of a node that is gone grows with nobody.
    let ours = claims
        .range(..resource.spec.nodes.replicas)
        .map(|(_, claim)| claim);
    let growing: Vec<_> = ours.filter(|claim| is_to_grow(claim, wanted)).collect();
    if let Some(said) = growing.iter().find_map(|claim| refused_by_status(claim)) {
        return Ok(Some(said));
    }
    let namespace = resource.namespace().unwrap_or_default();
    for claim in growing.into_iter().take(MAX_ASKED) {
        let name = claim.name_any();
        let events = events::of_claims(context, &namespace, Some(&name), FAILED).await?;
        let now = Timestamp::now().as_second();
        if let Some(said) = refused_by_events(&name, &events, now) {
            return Ok(Some(said));
        }
    }
    Ok(None)
}

/// Whether a claim has a volume, and is to have a larger one.
fn is_to_grow(claim: &PersistentVolumeClaim, wanted: &Quantity) -> bool {
    let has = claim.status.as_ref().and_then(|status| {
        let capacity = status.capacity.as_ref()?.get("storage")?;
        bytes(capacity)
    });
    has.is_some_and(|has| Some(has) < bytes(wanted))
}

fn refused_by_status(claim: &PersistentVolumeClaim) -> Option<String> {
    let status = claim.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let refused = conditions
        .find(|one| one.status == "True" && REFUSALS.contains(&one.type_.as_str()))
        .map(|one| one.message.clone().unwrap_or_else(|| one.type_.clone()));
    let stuck = || {
        let resources = status.allocated_resource_statuses.as_ref()?;
        let said = resources
            .get("storage")
            .filter(|said| said.ends_with(INFEASIBLE))?;
        Some(said.clone())
    };
    refused
        .or_else(stuck)
        .map(|why| tell(&claim.name_any(), &why))
}

fn refused_by_events(claim: &str, events: &[Event], now_seconds: i64) -> Option<String> {
    let newest = events.iter().max_by_key(|event| said_at(event))?;
    let recent = now_seconds - said_at(newest) <= RECENT_SECONDS;
    recent.then(|| tell(claim, newest.message.as_deref().unwrap_or(FAILED)))
}

fn tell(claim: &str, why: &str) -> String {
    format!("volume {claim} does not grow: {}", shortened(why))
}

/// Whether a claim asks for less than `wanted`.
pub fn is_smaller(claim: &PersistentVolumeClaim, wanted: &Quantity) -> bool {
    let asked = claim.spec.as_ref().and_then(|spec| {
        let requests = spec.resources.as_ref()?.requests.as_ref()?;
        bytes(requests.get("storage")?)
    });
    asked < bytes(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(status: Value) -> PersistentVolumeClaim {
        let value = json!({"metadata": {"name": "data-0-demo-node-1"}, "status": status});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_claim_is_to_grow_when_its_volume_is_smaller_than_asked() {
        let wanted = Quantity("3Gi".into());
        let has = |size: &str| claim(json!({"capacity": {"storage": size}}));
        assert!(is_to_grow(&has("2Gi"), &wanted));
        assert!(!is_to_grow(&has("3072Mi"), &wanted));
        assert!(!is_to_grow(&claim(json!({})), &wanted), "no volume yet");
    }

    #[test]
    fn a_driver_that_refuses_is_told_by_the_claims_status() {
        let with = |kind: &str, status: &str| {
            let condition =
                json!({"type": kind, "status": status, "message": "no room in the pool"});
            refused_by_status(&claim(json!({"conditions": [condition]})))
        };
        let told = with("ControllerResizeError", "True").unwrap();
        assert!(told.contains("data-0-demo-node-1") && told.ends_with("no room in the pool"));
        assert_eq!(with("ControllerResizeError", "False"), None);
        assert_eq!(with("FileSystemResizePending", "True"), None);
        let never = json!({"allocatedResourceStatuses": {"storage": "NodeResizeInfeasible"}});
        assert!(
            refused_by_status(&claim(never))
                .unwrap()
                .contains("Infeasible")
        );
        let goes = json!({"allocatedResourceStatuses": {"storage": "NodeResizePending"}});
        assert_eq!(refused_by_status(&claim(goes)), None);
    }

    #[test]
    fn a_resizers_newest_event_counts_while_it_is_recent() {
        let event = |time: &str, message: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "involvedObject": {}, "reason": FAILED,
                "lastTimestamp": time, "message": message,
            }))
            .unwrap()
        };
        let events = [
            event("1970-01-01T00:20:00Z", "the quota is used up"),
            event("1970-01-01T00:10:00Z", "earlier"),
        ];
        let told = refused_by_events("data-0-demo-node-1", &events, 1_260).unwrap();
        assert!(told.ends_with("the quota is used up"), "{told}");
        assert_eq!(refused_by_events("c", &events, 1_801), None);
        assert_eq!(refused_by_events("c", &[], 0), None);
    }
}

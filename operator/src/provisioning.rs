//! Volumes that nobody makes: what the provisioner says of a claim of a storage
//! node is an event of the claim, which nobody looks for, and the pod that waits
//! for it says nothing of the reason.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use kube::ResourceExt;

use crate::context::Context;
use crate::error::OperatorError;
use crate::lifecycle::{Note, Verdict};
use crate::observe::Observed;
use crate::observe::events::{self, said_at, shortened};

/// As provisioners call it: see `ProvisioningFailed` in Kubernetes' volume events.
const REASON: &str = "ProvisioningFailed";
/// What a missing volume looks like from the pod's side, and is not the reason.
const CONSEQUENCE: &str = "NoMachine";

/// Says of a storage node's claim that it gets no volume, and what its
/// provisioner says. Nothing is asked while every claim has one.
///
/// # Errors
/// When the API server does not answer, or a right is missing.
pub async fn tell(
    context: &Context,
    observed: &Observed,
    verdict: &mut Verdict,
) -> Result<(), OperatorError> {
    let known = verdict.stalled.as_ref().map(|(reason, _)| *reason);
    let told = known.is_some_and(|reason| reason != CONSEQUENCE);
    let idle = observed.resource.spec.suspend || verdict.hibernated;
    if told || idle || !observed.claims.values().any(is_pending) {
        return Ok(());
    }
    let events = events::of_claims(context, &observed.namespace, None, REASON).await?;
    if let Some(sentence) = find_failure(&observed.claims, &events) {
        verdict.notes.push(Note {
            about: "volumes",
            warning: true,
            reason: REASON,
            sentence: sentence.clone(),
        });
        verdict.stalled = Some((REASON, sentence));
    }
    Ok(())
}

/// Whether a claim has no volume.
fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref();
    spec.is_none_or(|spec| spec.volume_name.is_none())
        && claim.metadata.deletion_timestamp.is_none()
}

/// What is said of the first claim without a volume of which anything is said.
fn find_failure(claims: &BTreeMap<u32, PersistentVolumeClaim>, events: &[Event]) -> Option<String> {
    claims
        .values()
        .filter(|claim| is_pending(claim))
        .find_map(|claim| {
            let uid = claim.uid();
            let of_it = events.iter().filter(|event| {
                event.reason.as_deref() == Some(REASON)
                    && uid.is_some()
                    && event.involved_object.uid == uid
            });
            let why = of_it.max_by_key(|event| said_at(event))?.message.as_ref()?;
            Some(sentence(claim, why))
        })
}

fn sentence(claim: &PersistentVolumeClaim, why: &str) -> String {
    let requests = claim.spec.as_ref().and_then(|spec| {
        let resources = spec.resources.as_ref()?;
        resources.requests.as_ref()?.get("storage")
    });
    let size = requests.map_or("an unknown size", |size| size.0.as_str());
    let why = shortened(why);
    format!(
        "volume claim {} asks for {size} and gets no volume: {why}; mend what makes volumes and it goes on by itself, or ask for less: a size cannot be taken back, so delete the StorageCluster and the claims that have no volume, and make it again",
        claim.name_any()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(ordinal: u32, uid: &str, volume: Option<&str>) -> (u32, PersistentVolumeClaim) {
        let claim = json!({
            "metadata": {"name": format!("data-0-demo-node-{ordinal}"), "uid": uid},
            "spec": {
                "volumeName": volume,
                "resources": {"requests": {"storage": "25Gi"}},
            },
        });
        (ordinal, serde_json::from_value(claim).unwrap())
    }

    fn event(uid: &str, reason: &str, minute: u32, message: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {},
            "involvedObject": {"kind": "PersistentVolumeClaim", "uid": uid},
            "reason": reason,
            "message": message,
            "lastTimestamp": format!("2026-01-01T00:{minute:02}:00Z"),
        }))
        .unwrap()
    }

    #[test]
    fn what_the_provisioner_said_last_of_a_claim_without_a_volume_is_told() {
        let claims = [
            claim(0, "zero", Some("pv-0")),
            claim(1, "one", None),
            claim(2, "two", None),
        ];
        let events = [
            event("zero", REASON, 9, "it had its trouble before"),
            event("two", REASON, 2, "at most 20Gi"),
            event("two", REASON, 1, "not yet"),
            event("one", "WaitForFirstConsumer", 3, "waiting"),
            event("another", REASON, 4, "of a claim of that name before"),
        ];
        let told = find_failure(&claims.into(), &events).unwrap();
        for words in ["data-0-demo-node-2", "25Gi", "at most 20Gi"] {
            assert!(told.contains(words), "{words} in: {told}");
        }
    }

    #[test]
    fn nothing_is_told_while_every_claim_has_a_volume_or_nothing_is_said() {
        let bound = [claim(0, "zero", Some("pv-0"))].into();
        let failed = [event("zero", REASON, 1, "at most 20Gi")];
        assert_eq!(find_failure(&bound, &failed), None);
        let waits = [claim(0, "zero", None)].into();
        assert_eq!(find_failure(&waits, &[]), None);
    }
}

//! Brokers whose number changes, or the size of their volumes, are made anew, all
//! of them.
//!
//! The queue has a majority of the brokers that it was declared with: taken away
//! one by one they leave it without, and those that are added never carry it. The
//! template of their volumes is fixed with the StatefulSet, and volumes never shrink.
//! Nothing on their volumes is needed: the outboxes give their hints again.

use holdfast_plan::{Child, ChildKind, names, quantity};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::observe::Observed;

/// What is to be done with the brokers' StatefulSet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Brokers {
    /// Applied as any other object.
    Apply,
    /// Deleted, with its pods and volumes.
    Delete,
    /// Not made before what was deleted is gone.
    Wait,
}

/// Decides, for any child.
pub(super) fn decide(observed: &Observed, child: &Child, live: Option<&DynamicObject>) -> Brokers {
    let set = names::workload(&observed.name, names::Component::Rabbitmq);
    if child.kind != ChildKind::StatefulSet || child.name != set {
        return Brokers::Apply;
    }
    let claims = &observed.broker_claims;
    match live {
        Some(live) if live.metadata.deletion_timestamp.is_some() => Brokers::Wait,
        Some(live) if is_other_number(&child.object, &live.data, claims.len()) => Brokers::Delete,
        Some(live) if is_other_size(&child.object, &live.data) => Brokers::Delete,
        Some(_) => Brokers::Apply,
        None if claims.iter().any(is_leaving) => Brokers::Wait,
        None => Brokers::Apply,
    }
}

/// Whether there are others than there shall be. While all are asleep their
/// volumes tell how many there were.
fn is_other_number(desired: &Value, live: &Value, claims: usize) -> bool {
    let number = |object: &Value| {
        let replicas = object.pointer("/spec/replicas")?.as_u64()?;
        usize::try_from(replicas).ok()
    };
    let (Some(wanted), Some(there)) = (number(desired), number(live)) else {
        return false;
    };
    let were = if there == 0 { claims } else { there };
    wanted != 0 && were != 0 && wanted != were
}

/// Whether new volumes would be of another size than those that are there were
/// made with. Brokers that sleep are made anew when they are to wake.
fn is_other_size(desired: &Value, live: &Value) -> bool {
    let size = |object: &Value| {
        let sizes =
            object.pointer("/spec/volumeClaimTemplates/0/spec/resources/requests/storage")?;
        sizes.as_str().map(str::to_owned)
    };
    let wakes = desired.pointer("/spec/replicas").and_then(Value::as_u64) != Some(0);
    let (Some(wanted), Some(there)) = (size(desired), size(live)) else {
        return false;
    };
    wakes && !quantity::same(&wanted, &there)
}

/// Whether a claim goes with a StatefulSet that is gone.
fn is_leaving(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_some() || !claim.owner_references().is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(replicas: u32) -> Value {
        json!({"spec": {"replicas": replicas}})
    }

    #[test]
    fn only_another_number_of_brokers_makes_them_anew() {
        let other = |wanted, there, claims| is_other_number(&set(wanted), &set(there), claims);
        assert!(other(3, 1, 1) && other(1, 3, 3));
        assert!(!other(3, 3, 2), "a volume is on its way");
        // Hibernated, and awake again as before or with another number.
        assert!(!other(0, 3, 3) && !other(3, 0, 3) && !other(3, 0, 0));
        assert!(other(1, 0, 3));
    }

    #[test]
    fn another_size_of_their_volumes_makes_them_anew_when_they_are_awake() {
        let set = |replicas: u32, size: &str| {
            json!({"spec": {"replicas": replicas, "volumeClaimTemplates": [
                {"spec": {"resources": {"requests": {"storage": size}}}},
            ]}})
        };
        assert!(is_other_size(&set(1, "2Gi"), &set(1, "1Gi")));
        assert!(is_other_size(&set(1, "1Gi"), &set(1, "2Gi")));
        assert!(!is_other_size(&set(1, "1Gi"), &set(1, "1024Mi")));
        assert!(
            !is_other_size(&set(0, "2Gi"), &set(1, "1Gi")),
            "it goes to sleep"
        );
        assert!(is_other_size(&set(1, "2Gi"), &set(0, "1Gi")), "it wakes up");
    }

    #[test]
    fn a_claim_of_a_set_that_is_gone_is_waited_for() {
        let claim = |metadata: Value| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x", "uid": "u"}]);
        assert!(is_leaving(&claim(json!({"ownerReferences": owner}))));
        assert!(is_leaving(&claim(
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})
        )));
        assert!(!is_leaving(&claim(json!({}))));
    }
}

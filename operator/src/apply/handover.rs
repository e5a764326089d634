//! How an autoscaler takes over the number of a workload's pods.
//!
//! A field that we no longer apply and nobody else owns falls back to its
//! default: one pod. So the number is applied once more, by itself and in another
//! manager's name, and stays when ours lets go of it; the autoscaler's first write
//! takes it over from there (Kubernetes' page on server-side apply, "Transferring
//! ownership between managers").

use holdfast_plan::{Child, ChildKind, DesiredState};
use serde_json::{Value, json};

use super::owners;

/// In whose name the number is applied.
pub(super) const MANAGER: &str = "holdfast-operator-handover";

/// What to apply before a workload is applied without its number; `None` where
/// there is nothing to hand over.
pub(super) fn plan(desired: &DesiredState, child: &Child, live: Option<&Value>) -> Option<Value> {
    let live = live?;
    let gives_up = child.object.pointer("/spec/replicas").is_none()
        && owners::is_ours(live, &["spec", "replicas"]);
    if child.kind != ChildKind::Deployment || !gives_up {
        return None;
    }
    let now = live.pointer("/spec/replicas").and_then(Value::as_u64);
    // None at all would stay so: an autoscaler leaves a workload alone that was
    // stopped.
    let replicas = now.unwrap_or(1).max(least(desired, &child.name));
    Some(json!({
        "apiVersion": child.kind.api_version(),
        "kind": child.kind.kind(),
        "metadata": {"name": child.name},
        "spec": {"replicas": replicas},
    }))
}

/// The least that an autoscaler of the workload may choose.
fn least(desired: &DesiredState, workload: &str) -> u64 {
    let scalers = desired.children.iter();
    let mut scalers = scalers.filter(|child| child.kind == ChildKind::HorizontalPodAutoscaler);
    let ours = scalers.find(|scaler| {
        let target = scaler.object.pointer("/spec/scaleTargetRef/name");
        target.and_then(Value::as_str) == Some(workload)
    });
    let least = ours.and_then(|scaler| scaler.object.pointer("/spec/minReplicas")?.as_u64());
    least.unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use holdfast_plan::names;

    use super::*;

    fn gateway(replicas: Option<u32>) -> Child {
        let mut object = json!({"spec": {"template": {}}});
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = json!(replicas);
        }
        Child {
            kind: ChildKind::Deployment,
            name: "demo-gateway".into(),
            object,
        }
    }

    fn desired() -> DesiredState {
        DesiredState {
            children: vec![Child {
                kind: ChildKind::HorizontalPodAutoscaler,
                name: "demo-gateway".into(),
                object: json!({"spec": {"minReplicas": 2, "scaleTargetRef": {"name": "demo-gateway"}}}),
            }],
        }
    }

    fn live(replicas: u32, owner: &str) -> Value {
        json!({
            "metadata": {"managedFields": [{"manager": owner, "operation": "Apply",
                "fieldsV1": {"f:spec": {"f:replicas": {}}}}]},
            "spec": {"replicas": replicas},
        })
    }

    fn number(child: &Child, live: Option<&Value>) -> Option<u64> {
        let handed = plan(&desired(), child, live)?;
        handed.pointer("/spec/replicas")?.as_u64()
    }

    #[test]
    fn the_number_that_is_there_stays_when_an_autoscaler_takes_over() {
        let ours = live(8, names::MANAGED_BY);
        assert_eq!(number(&gateway(None), Some(&ours)), Some(8));
        // Woken up, it has none, and not fewer than the least.
        let asleep = live(0, names::MANAGED_BY);
        assert_eq!(number(&gateway(None), Some(&asleep)), Some(2));
    }

    #[test]
    fn nothing_is_handed_over_that_is_not_ours_or_that_we_keep() {
        let handed = live(8, MANAGER);
        assert_eq!(number(&gateway(None), Some(&handed)), None);
        let ours = live(8, names::MANAGED_BY);
        assert_eq!(number(&gateway(Some(3)), Some(&ours)), None);
        assert_eq!(number(&gateway(None), None), None);
    }
}

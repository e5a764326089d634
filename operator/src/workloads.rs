//! What a StatefulSet or a Deployment says of its pods.

use std::collections::BTreeMap;

use holdfast_plan::{ChildKind, names};
use kube::api::DynamicObject;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Where the containers of a workload are.
pub const CONTAINERS: &str = "/spec/template/spec/containers";

/// The images of a workload's containers.
pub fn images(workload: &Value) -> Vec<Option<String>> {
    let containers = workload.pointer(CONTAINERS).and_then(Value::as_array);
    let image = |one: &Value| Some(one.get("image")?.as_str()?.to_owned());
    containers.into_iter().flatten().map(image).collect()
}

/// Whether a Deployment's controller has seen its newest generation, and every
/// pod is of it.
pub fn is_rolled_out(deployment: &Value) -> bool {
    let number = |path: &str| deployment.pointer(path).and_then(Value::as_i64);
    let wanted = number("/spec/replicas").unwrap_or(1);
    number("/status/observedGeneration") == number("/metadata/generation")
        && number("/status/updatedReplicas").unwrap_or(0) == wanted
        && number("/status/replicas").unwrap_or(0) == wanted
}

/// How far the newest template of a workload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// Every pod was made of it, and once all of them were available: one that is
    /// away since then is a loss, and no round.
    Done,
    /// Its controller has not looked at what was written last.
    NotSeen,
    /// It goes round.
    UnderWay,
}

/// How far the newest template of a Deployment, or of a StatefulSet that rolls by
/// itself, is.
///
/// Their controllers keep the end of a round in mind: a Deployment in the reason
/// of its condition Progressing, a StatefulSet in its current revision.
pub fn round(kind: ChildKind, workload: &Value) -> Round {
    let number = |path: &str| workload.pointer(path).and_then(Value::as_i64);
    let count = |path: &str| number(path).unwrap_or(0);
    let seen = number("/status/observedGeneration");
    if seen.is_none() || seen != number("/metadata/generation") {
        return Round::NotSeen;
    }
    let done = match kind {
        ChildKind::StatefulSet => {
            let revision = |path: &str| workload.pointer(path);
            let newest = revision("/status/updateRevision");
            newest.is_some() && newest == revision("/status/currentRevision")
        }
        _ => {
            let updated = count("/status/updatedReplicas");
            let all_up = count("/status/availableReplicas") >= wanted(workload)
                && updated >= wanted(workload);
            updated == count("/status/replicas") && (all_up || was_all_up(workload))
        }
    };
    match done {
        true => Round::Done,
        false => Round::UnderWay,
    }
}

/// How many pods a workload is to have.
pub fn wanted(workload: &Value) -> i64 {
    let replicas = workload.pointer("/spec/replicas").and_then(Value::as_i64);
    replicas.unwrap_or(1)
}

/// How many of its pods are available.
pub fn available(workload: &Value) -> i64 {
    let available = workload.pointer("/status/availableReplicas");
    available.and_then(Value::as_i64).unwrap_or(0)
}

fn was_all_up(deployment: &Value) -> bool {
    let progressing = condition(deployment, "Progressing");
    let reason = progressing.and_then(|one| one.get("reason")?.as_str());
    reason == Some("NewReplicaSetAvailable")
}

/// Why Kubernetes makes no pods of a workload: a quota, an admission policy.
pub fn refused_pods(workload: &Value) -> Option<String> {
    let failure = condition(workload, "ReplicaFailure")?;
    (failure.get("status")?.as_str()? == "True")
        .then(|| failure.get("message")?.as_str().map(str::to_owned))?
}

fn condition<'w>(workload: &'w Value, kind: &str) -> Option<&'w Value> {
    let conditions = workload.pointer("/status/conditions")?.as_array()?;
    let mut all = conditions.iter();
    all.find(|one| one.get("type").and_then(Value::as_str) == Some(kind))
}

/// What tells a workload's template from others, defaults and all.
pub fn template_digest(workload: &Value) -> [u8; 32] {
    let template = workload.pointer("/spec/template").unwrap_or(&Value::Null);
    Sha256::digest(template.to_string()).into()
}

/// The tag that gateways and workers run with, all of them, where it is the one
/// that the storage nodes are to run with.
pub fn common_tag(
    children: &BTreeMap<(ChildKind, String), DynamicObject>,
    name: &str,
) -> Option<String> {
    let live = |kind: ChildKind, name: String| {
        let object = children.get(&(kind, name))?;
        serde_json::to_value(object).ok()
    };
    let tag = tag_of(&live(ChildKind::StatefulSet, names::node_set(name))?)?;
    for part in [names::Component::Gateway, names::Component::Worker] {
        let workload = live(ChildKind::Deployment, names::workload(name, part))?;
        if !is_rolled_out(&workload) || tag_of(&workload)? != tag {
            return None;
        }
    }
    Some(tag)
}

fn tag_of(workload: &Value) -> Option<String> {
    let image = images(workload).into_iter().next()??;
    Some(image.rsplit_once(':')?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(image: &str) -> Value {
        json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [
            {"name": "gateway", "image": image, "args": [image]},
        ]}}}})
    }

    #[test]
    fn a_deployment_is_rolled_out_when_every_pod_is_of_its_newest_generation() {
        let with = |observed: i64, updated: i64, all: i64| {
            let mut deployment = workload("new");
            deployment["metadata"] = json!({"generation": 3});
            deployment["status"] = json!({
                "observedGeneration": observed, "updatedReplicas": updated, "replicas": all,
            });
            is_rolled_out(&deployment)
        };
        assert!(with(3, 2, 2));
        assert!(!with(2, 2, 2) && !with(3, 1, 2) && !with(3, 2, 3));
    }

    #[test]
    fn a_pod_that_is_lost_later_is_no_round() {
        let with = |updated: i64, all: i64, available: i64, reason: &str| {
            let mut deployment = workload("new");
            deployment["metadata"] = json!({"generation": 3});
            deployment["status"] = json!({
                "observedGeneration": 3, "updatedReplicas": updated, "replicas": all,
                "availableReplicas": available,
                "conditions": [{"type": "Progressing", "status": "True", "reason": reason}],
            });
            deployment
        };
        let of = |deployment: &Value| round(ChildKind::Deployment, deployment);
        let (going, gone) = ("ReplicaSetUpdated", "NewReplicaSetAvailable");
        assert_eq!(of(&with(2, 2, 2, gone)), Round::Done);
        assert_eq!(of(&with(2, 2, 1, gone)), Round::Done, "one is away");
        assert_eq!(of(&with(1, 1, 1, gone)), Round::Done, "one is being made");
        assert_eq!(of(&with(2, 2, 1, going)), Round::UnderWay);
        assert_eq!(of(&with(1, 3, 2, gone)), Round::UnderWay, "turned back");
        let mut written = with(2, 2, 2, gone);
        written["metadata"]["generation"] = json!(4);
        assert_eq!(of(&written), Round::NotSeen);
        assert_eq!(of(&workload("new")), Round::NotSeen, "just made");
    }

    #[test]
    fn brokers_have_gone_round_when_their_newest_revision_is_the_current_one() {
        let with = |current: &str, available: i64| {
            json!({
                "metadata": {"generation": 1},
                "spec": {"replicas": 3},
                "status": {"observedGeneration": 1, "currentRevision": current,
                    "updateRevision": "b", "availableReplicas": available},
            })
        };
        let of = |set: &Value| round(ChildKind::StatefulSet, set);
        assert_eq!(of(&with("b", 2)), Round::Done);
        assert_eq!(of(&with("a", 3)), Round::UnderWay);
    }

    #[test]
    fn a_scale_is_no_other_template() {
        let mut scaled = workload("new");
        scaled["spec"]["replicas"] = json!(5);
        assert_eq!(template_digest(&scaled), template_digest(&workload("new")));
        assert_ne!(
            template_digest(&workload("old")),
            template_digest(&workload("new"))
        );
    }

    #[test]
    fn a_quota_that_allows_no_pods_is_read_off_a_deployment() {
        let with = |status: &str| {
            json!({"status": {"conditions": [
                {"type": "ReplicaFailure", "status": status, "message": "exceeded quota: small"},
            ]}})
        };
        assert_eq!(
            refused_pods(&with("True")).as_deref(),
            Some("exceeded quota: small")
        );
        assert_eq!(refused_pods(&with("False")), None);
    }

    #[test]
    fn the_tag_is_common_when_all_parts_have_it_and_none_is_on_its_way() {
        let part = |kind: ChildKind, name: &str, image: &str, updated: i64| {
            let mut object = workload(image);
            object["apiVersion"] = json!("apps/v1");
            object["kind"] = json!(kind.kind());
            object["metadata"] = json!({"name": name, "generation": 1});
            object["status"] =
                json!({"observedGeneration": 1, "updatedReplicas": updated, "replicas": 2});
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            ((kind, name.to_owned()), object)
        };
        let common = |gateway: &str, worker: &str, updated: i64| {
            let children = BTreeMap::from([
                part(ChildKind::StatefulSet, "demo-node", "r/storage:2", 2),
                part(ChildKind::Deployment, "demo-gateway", gateway, 2),
                part(ChildKind::Deployment, "demo-worker", worker, updated),
            ]);
            common_tag(&children, "demo")
        };
        assert_eq!(common("r/gateway:2", "r/worker:2", 2).as_deref(), Some("2"));
        assert_eq!(common("r/gateway:2", "r/worker:1", 2), None);
        assert_eq!(common("r/gateway:2", "r/worker:2", 1), None);
        assert_eq!(common_tag(&BTreeMap::new(), "demo"), None);
    }
}

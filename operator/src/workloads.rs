//! What a StatefulSet or a Deployment says of its pods.

use std::collections::BTreeMap;

use holdfast_plan::{ChildKind, names};
use kube::api::DynamicObject;
use serde_json::Value;

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

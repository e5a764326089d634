//! The order of a new release: storage nodes, then gateways, then workers. What
//! comes later keeps the image that it has until what comes before is done; all
//! else of it is applied at once.

use holdfast_plan::{ChildKind, DesiredState, names};
use serde_json::Value;

use crate::lifecycle::Situation;
use crate::observe::Observed;
use crate::workloads::{CONTAINERS, images, is_rolled_out};

/// Gives workloads whose turn has not come the images that they have, and notes
/// those that are to have others.
pub(super) fn hold_back(
    observed: &Observed,
    mut desired: DesiredState,
    held: &mut Vec<String>,
) -> DesiredState {
    let live = |kind: ChildKind, name: &str| {
        let object = observed.children.get(&(kind, name.to_owned()))?;
        serde_json::to_value(object).ok()
    };
    let nodes = names::node_set(&observed.name);
    let gateways = names::workload(&observed.name, names::Component::Gateway);
    let workers = names::workload(&observed.name, names::Component::Worker);
    let wanted = |kind: ChildKind, name: &str| {
        let mut children = desired.children.iter();
        children
            .find(|child| child.kind == kind && child.name == name)
            .map(|child| child.object.clone())
    };
    let same_images = |kind: ChildKind, name: &str| {
        let (wanted, live) = (wanted(kind, name), live(kind, name));
        wanted.as_ref().map(images) == live.as_ref().map(images)
    };
    let case = Situation::of(observed, 0);
    let nodes_done = same_images(ChildKind::StatefulSet, &nodes)
        && case.newest_revision().is_some()
        && !case.pods.values().any(|pod| case.is_outdated(pod));
    let gateways_done = nodes_done
        && same_images(ChildKind::Deployment, &gateways)
        && live(ChildKind::Deployment, &gateways).is_some_and(|gateways| is_rolled_out(&gateways));
    for (name, may_go) in [(&gateways, nodes_done), (&workers, gateways_done)] {
        let Some(live) = live(ChildKind::Deployment, name).filter(|_| !may_go) else {
            continue;
        };
        for child in &mut desired.children {
            if child.kind == ChildKind::Deployment && child.name == *name {
                let wanted = images(&child.object);
                keep_images(&mut child.object, &live);
                if images(&child.object) != wanted {
                    held.push(name.clone());
                }
            }
        }
    }
    desired
}

fn keep_images(desired: &mut Value, live: &Value) {
    let theirs = live.pointer(CONTAINERS).and_then(Value::as_array);
    let ours = desired
        .pointer_mut(CONTAINERS)
        .and_then(Value::as_array_mut);
    let (Some(theirs), Some(ours)) = (theirs, ours) else {
        return;
    };
    for container in ours {
        let name = container.get("name").cloned();
        let same = theirs.iter().find(|one| one.get("name") == name.as_ref());
        let image = same.and_then(|one| one.get("image")).cloned();
        if let (Some(fields), Some(image)) = (container.as_object_mut(), image) {
            fields.insert("image".into(), image);
        }
    }
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
    fn only_the_image_is_held_back() {
        let mut desired = workload("new");
        keep_images(&mut desired, &workload("old"));
        assert_eq!(images(&desired), [Some("old".to_owned())]);
        assert_eq!(
            desired.pointer("/spec/template/spec/containers/0/args/0"),
            Some(&json!("new"))
        );
    }
}

//! Resources to plan for.

use holdfast_crd::StorageCluster;
use holdfast_plan::{
    Child, ChildKind, Cluster, Contradiction, Decisions, DesiredState, desired, validate,
};
use serde_json::Value;

pub const SMALLEST: &str = include_str!("../resources/smallest.yaml");
pub const EVERYTHING: &str = include_str!("../resources/everything.yaml");
/// The smallest one: TLS is on unless it is written that it is not.
pub const ENCRYPTED: &str = include_str!("../resources/encrypted.yaml");
pub const EXTERNAL: &str = include_str!("../resources/external.yaml");

/// A resource as an API server would have taken it.
pub fn resource(yaml: &str) -> Value {
    let mut resource: Value = serde_yaml_ng::from_str(yaml).unwrap();
    resource["metadata"]["namespace"] = "files".into();
    resource["metadata"]["uid"] = "6f1c7a52-0000-4000-8000-000000000000".into();
    resource["metadata"]["generation"] = 7.into();
    resource
}

pub fn parse(resource: &Value) -> StorageCluster {
    serde_json::from_value(resource.clone()).unwrap()
}

pub fn try_cluster(resource: &Value) -> Result<Cluster, Vec<Contradiction>> {
    let resource = parse(resource);
    let decisions = Decisions::at_rest(&resource.spec, "0.1.0".into());
    validate(&resource, decisions)
}

pub fn cluster(resource: &Value) -> Cluster {
    try_cluster(resource).unwrap()
}

pub fn plan(yaml: &str) -> DesiredState {
    desired(&cluster(&resource(yaml)))
}

pub fn find<'a>(state: &'a DesiredState, kind: ChildKind, name: &str) -> &'a Value {
    let same = |child: &&Child| child.kind == kind && child.name == name;
    let found = state.children.iter().find(same);
    &found.unwrap_or_else(|| panic!("no {kind:?} {name}")).object
}

/// The pod templates, by the names of what holds them.
pub fn pod_templates(state: &DesiredState) -> Vec<(&str, &Value)> {
    state
        .children
        .iter()
        .filter(|child| matches!(child.kind, ChildKind::StatefulSet | ChildKind::Deployment))
        .map(|child| (child.name.as_str(), &child.object["spec"]["template"]))
        .collect()
}

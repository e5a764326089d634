//! The storage nodes: how many, on what volumes, where.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pods::PodTemplate;

/// The storage nodes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// How many. Fewer than before: the highest ordinal is drained, found empty
    /// and then removed, one at a time. `kubectl scale` sets this.
    #[serde(default = "three")]
    #[schemars(range(min = 3, max = 256))]
    pub replicas: u32,
    /// Their volumes.
    pub storage: Storage,
    /// Where they run.
    #[serde(default)]
    pub placement: Placement,
    /// What each needs of processor and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// More for their pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

fn three() -> u32 {
    3
}

/// The volume of each storage node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.storageClassName) == has(oldSelf.storageClassName)"
).message(
    "the class of volumes that exist cannot change: make a new cluster and copy the files"
))]
pub struct Storage {
    /// How large. It can grow where its class allows; it can never shrink.
    #[x_kube(
        validation = Rule::new("quantity(self).compareTo(quantity('1Gi')) >= 0")
            .message("a volume needs at least 1Gi"),
        validation = Rule::new("quantity(self).compareTo(quantity(oldSelf)) >= 0").message(
            "a volume cannot shrink: add smaller nodes and remove the larger ones instead"
        )
    )]
    #[schemars(schema_with = "crate::schema::quantity")]
    pub size: Quantity,
    /// Its StorageClass. Without one, the cluster's default when the node is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "the class of volumes that exist cannot change: make a new cluster and copy the files"
    ))]
    pub storage_class_name: Option<String>,
    /// What becomes of volumes that are no longer used.
    #[serde(default)]
    pub retention: Retention,
}

/// What becomes of volumes that are no longer used.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// When the StorageCluster is deleted. What is retained is found again by a
    /// resource of the same name.
    #[serde(default)]
    pub when_deleted: RetentionPolicy,
    /// When a drained node is removed.
    #[serde(default)]
    pub when_scaled_down: RetentionPolicy,
}

/// Whether something stays.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RetentionPolicy {
    /// It stays until somebody deletes it.
    #[default]
    Retain,
    /// It is deleted.
    Delete,
}

/// Where storage nodes run.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Spread over zones.
    #[serde(default)]
    pub zones: Spread,
    /// Spread over machines.
    #[serde(default)]
    pub hosts: Spread,
    /// The label of machines that names their zone.
    #[serde(default = "zone_key")]
    #[schemars(
        length(min = 1, max = 316),
        pattern(r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")
    )]
    pub zone_key: String,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            zones: Spread::default(),
            hosts: Spread::default(),
            zone_key: zone_key(),
        }
    }
}

fn zone_key() -> String {
    "topology.kubernetes.io/zone".into()
}

/// How strictly something is spread.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Spread {
    /// As far as there is room.
    #[default]
    Preferred,
    /// A node that would break it waits.
    Required,
}

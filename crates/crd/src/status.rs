//! What the operator says of a StorageCluster.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator says of a StorageCluster. Nothing is written when only the
/// time has changed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Default, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::for_kubernetes)]
pub struct StorageClusterStatus {
    /// The generation of the spec that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The identity of the cluster, from its birth on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cluster_id: Option<String>,
    /// The release whose formats the cluster writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub cluster_version: Option<String>,
    /// What the cluster is about, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ClusterPhase>,
    /// Ready, Reconciling, Stalled, Degraded, DataAtRisk and ZoneSpread.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The change of a credential that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
    /// The value of the annotation holdfast.dev/rotate for which everything has
    /// been exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub rotated: Option<String>,
    /// The storage nodes.
    #[serde(default)]
    pub nodes: NodesStatus,
    /// Objects, by the last census.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsStatus>,
    /// Room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// The images that are to run, by part: of the tag that was asked for, or else of
    /// the release that was recorded when the resource was first seen.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 512}))]
    pub images: BTreeMap<String, String>,
}

/// What a cluster is about.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterPhase {
    /// It is being born.
    Creating,
    /// It serves.
    Running,
    /// A new release or configuration goes round.
    Updating,
    /// Nodes come or go, or volumes grow.
    Scaling,
    /// It is stopped, with its volumes kept.
    Hibernated,
    /// The operator leaves it alone.
    Suspended,
    /// Something must be done by a person; the condition Stalled says what.
    Failed,
}

/// The storage nodes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Eq, Default, Debug)]
#[serde(rename_all = "camelCase")]
pub struct NodesStatus {
    /// How many there are.
    pub replicas: u32,
    /// How many are ready.
    pub ready: u32,
    /// Each of them.
    #[serde(default)]
    #[schemars(length(max = 512), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["pod"]))]
    pub list: Vec<NodeStatus>,
}

/// A storage node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The identity of the node, once it has joined: what removedNodes names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub id: Option<String>,
    /// Its pod.
    #[schemars(length(max = 63))]
    pub pod: String,
    /// Its number.
    pub ordinal: u32,
    /// The volume claim that it is on.
    #[serde(rename = "pvcUID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pvc_uid: Option<String>,
    /// The zone that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub zone: Option<String>,
    /// As the cluster sees it.
    #[schemars(length(max = 63))]
    pub state: String,
    /// How full its disk is, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_percent: Option<u32>,
    /// Fragments that are to leave it while it is drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fragments_to_move: Option<u64>,
}

/// Objects, by the last census.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ObjectsStatus {
    /// All whose bytes are in fragments. What is small enough lies in the metadata,
    /// and is not among them.
    pub total: u64,
    /// Those that can be read, with fewer copies than asked for.
    pub degraded: u64,
    /// Those that cannot be read until nodes come back.
    pub unavailable: u64,
    /// Those that cannot be read any more.
    pub lost: u64,
    /// When they were counted.
    pub as_of: Time,
    /// The layout that they were counted in.
    pub epoch: u64,
}

/// Room on the volumes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// All of it, in bytes.
    pub bytes: u64,
    /// How full it is, in percent.
    pub used_percent: u32,
}

/// The change of a credential that is under way.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// Which.
    #[schemars(length(max = 63))]
    pub credential: String,
    /// How far: Adding, Switching or Removing.
    #[schemars(length(max = 63))]
    pub step: String,
    /// Pods that have not yet said that they have the new one.
    #[serde(default)]
    #[schemars(length(max = 512), inner(length(max = 253)))]
    pub waiting_for: Vec<String>,
}

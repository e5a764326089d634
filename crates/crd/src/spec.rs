//! What a StorageCluster asks for.
#![allow(
    clippy::duplicated_attributes,
    reason = "columns of the same type are columns all the same"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::gateway::Gateway;
use crate::image::Image;
use crate::nodes::Nodes;
use crate::queue::Queue;
use crate::redundancy::Redundancy;
use crate::status::StorageClusterStatus;
use crate::tls::Tls;
use crate::worker::Worker;

/// The most nodes that can be named as lost: by then a cluster is another one.
pub const MAX_REMOVED_NODES: usize = 100;

/// A store for files and objects: its nodes, gateways and workers, the queue and
/// the cache between them.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, PartialEq, Debug)]
#[kube(
    group = "holdfast.dev",
    version = "v1alpha1",
    kind = "StorageCluster",
    plural = "storageclusters",
    shortname = "hfc",
    category = "holdfast",
    namespaced,
    cel,
    status = "StorageClusterStatus",
    derive = "PartialEq",
    validation = Rule::new(
        "self.spec.tls.mode == oldSelf.spec.tls.mode || (self.spec.tls.mode != 'Disabled' && \
         oldSelf.spec.tls.mode != 'Disabled') || (self.spec.hibernate && has(oldSelf.status) && \
         has(oldSelf.status.phase) && oldSelf.status.phase == 'Hibernated')"
    )
    .message(
        "TLS is turned on or off while the cluster sleeps: set spec.hibernate to true, wait for \
         the phase Hibernated, change tls.mode, and set spec.hibernate to false"
    ),
    doc = "A store for files and objects that heals itself.",
    scale(
        spec_replicas_path = ".spec.nodes.replicas",
        status_replicas_path = ".status.nodes.replicas"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "What the cluster is about"
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.nodes.ready",
        description = "Storage nodes that are ready"
    ),
    printcolumn(
        name = "Nodes",
        type_ = "integer",
        json_path = ".spec.nodes.replicas",
        description = "Storage nodes asked for"
    ),
    printcolumn(
        name = "Used%",
        type_ = "integer",
        json_path = ".status.capacity.usedPercent",
        description = "How full the volumes are"
    ),
    printcolumn(
        name = "Degraded",
        type_ = "integer",
        json_path = ".status.objects.degraded",
        description = "Objects below their redundancy"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.clusterVersion",
        description = "The release whose formats the cluster writes"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::for_kubernetes)]
#[x_kube(
    validation = Rule::new("self.nodes.replicas >= self.redundancy.copies").message(
        "there must be at least as many nodes as copies: each copy is on a node of its own"
    ),
    validation = Rule::new("self.nodes.replicas >= self.redundancy.metadataReplicas").message(
        "there must be at least as many nodes as replicas of metadata"
    )
)]
pub struct StorageClusterSpec {
    /// The images to run. Without a tag, the operator's own release when the
    /// resource was created; a newer operator changes nothing by itself.
    #[serde(default)]
    pub image: Image,
    /// The storage nodes.
    pub nodes: Nodes,
    /// How many copies there are of everything. Fixed when the cluster is born.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "the redundancy is fixed when the cluster is born: make a new cluster and copy the files"
    ))]
    pub redundancy: Redundancy,
    /// The gateways, which speak HTTP to clients.
    #[serde(default)]
    pub gateway: Gateway,
    /// The workers, which make thumbnails, compress, and delete what has ended.
    #[serde(default)]
    pub worker: Worker,
    /// RabbitMQ, the workers' queue.
    #[serde(default)]
    pub queue: Queue,
    /// Redis, the cache. Its loss costs speed alone.
    #[serde(default)]
    pub cache: Cache,
    /// Encryption between the parts and towards clients.
    #[serde(default)]
    pub tls: Tls,
    /// What is set up for Prometheus and Grafana, where their kinds exist.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Leave everything as it is: the operator changes nothing until this is
    /// false again. Status goes on being told.
    #[serde(default)]
    pub suspend: bool,
    /// Stop all pods and keep volumes, credentials and Services. False wakes the
    /// cluster up again.
    #[serde(default)]
    pub hibernate: bool,
    /// How a new release is taken.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// Nodes given up for lost, by the identity that status.nodes.list shows.
    /// Each one's volume claim is deleted, and what it held is made again from
    /// the other copies. A node that still answers is not given up.
    #[serde(default)]
    #[schemars(
        length(max = 100),
        inner(length(min = 1, max = 64), pattern(r"^[0-9a-f-]+$"))
    )]
    pub removed_nodes: Vec<String>,
}

/// What is set up for monitoring.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// ServiceMonitor, PrometheusRule and dashboard, where their kinds exist.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self { enabled: true }
    }
}

fn yes() -> bool {
    true
}

/// How a new release is taken.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// When new formats may be written, after which an older release is refused.
    #[serde(default)]
    pub finalize: Finalize,
}

/// When new formats may be written.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Finalize {
    /// As soon as every node, gateway and worker runs the new release and the
    /// census is clean.
    #[default]
    Auto,
    /// When the annotation holdfast.dev/finalize names the new release: until
    /// then the older image may come back.
    Manual,
}

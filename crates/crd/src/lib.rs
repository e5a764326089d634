//! The `StorageCluster` resource (`holdfast.dev/v1alpha1`): what a platform team
//! declares, and what the operator says of it.
//!
//! The types here are the only source: the definition in `crds/` is made of them
//! (`cargo run -p holdfast-crd --example print > crds/storageclusters.holdfast.dev.yaml`), and so is the reference in `docs/`. Within v1alpha1 they
//! only grow: every resource that was ever accepted still is.
//!
//! Rules in the schema are for what can never be right (fewer nodes than copies,
//! a volume that shrinks). What depends on the cluster that the resource meets
//! (space, zones, a storage class that cannot expand) is a condition in its
//! status instead, since it may become right by itself.

mod cache;
mod gateway;
mod image;
mod nodes;
mod pods;
mod queue;
mod redundancy;
mod schema;
mod spec;
mod status;
mod tls;
mod worker;

pub use cache::{Cache, CacheType, ManagedCache};
pub use gateway::{Gateway, GatewayAutoscale, GatewayService, Ingress, ServiceType};
pub use image::{Image, PullPolicy};
pub use nodes::{Nodes, Placement, Retention, RetentionPolicy, Spread, Storage};
pub use pods::PodTemplate;
pub use queue::{ExternalSecret, ManagedQueue, Queue, QueueType};
pub use redundancy::{Redundancy, RedundancyType};
pub use spec::{
    Finalize, MAX_REMOVED_NODES, Monitoring, StorageCluster, StorageClusterSpec, Upgrade,
};
pub use status::{
    Capacity, ClusterPhase, NodeStatus, NodesStatus, ObjectsStatus, RotationStatus,
    StorageClusterStatus,
};
pub use tls::{IssuerKind, IssuerRef, Tls, TlsMode};
pub use worker::{Worker, WorkerAutoscale};

//! What the builders read.

use holdfast_crd::{PullPolicy, StorageClusterSpec};

use crate::desired::ChildKind;

/// A cluster of which everything is decided. [`crate::validate`] makes it.
#[derive(Clone, PartialEq, Debug)]
pub struct Cluster {
    /// The resource's name, which begins the name of everything.
    pub name: String,
    /// The namespace of everything.
    pub namespace: String,
    /// The resource's identity, for owner references.
    pub uid: String,
    /// The resource's generation that this is made of.
    pub generation: i64,
    /// What was asked for.
    pub spec: StorageClusterSpec,
    /// What runs.
    pub images: Images,
    /// What the lifecycle has decided.
    pub decisions: Decisions,
}

/// The images, with their tags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Images {
    /// Of storage nodes.
    pub storage: String,
    /// Of gateways.
    pub gateway: String,
    /// Of workers.
    pub worker: String,
    /// Of a broker that the operator runs.
    pub rabbitmq: String,
    /// Of a cache that the operator runs.
    pub redis: String,
    /// When they are pulled.
    pub pull_policy: PullPolicy,
    /// Names of Secrets with credentials for the registry.
    pub pull_secrets: Vec<String>,
}

/// What the operator's lifecycle decides, since the resource does not say it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Decisions {
    /// The release recorded when the resource was created, used where
    /// spec.image.tag is none.
    pub tag: String,
    /// The identity of the cluster, once it is born.
    pub cluster_id: Option<String>,
    /// Storage nodes that run now: moves by one at a time.
    pub storage_replicas: u32,
    /// How many storage nodes others may take away at once: 0 or 1.
    pub storage_disruptions: u32,
    /// Gateways. None where an autoscaler owns the number.
    pub gateway_replicas: Option<u32>,
    /// Workers.
    pub worker_replicas: u32,
    /// No pods run; Services, volumes and configuration stay.
    pub hibernated: bool,
    /// Whether the pods that run speak TLS; `None` where none run.
    pub encrypted: Option<bool>,
    /// Which kinds of others the API server has.
    pub kinds: OptionalKinds,
}

/// Kinds that an API server may lack.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OptionalKinds {
    /// `cert-manager.io/v1` Certificate.
    pub certificate: bool,
    /// `monitoring.coreos.com/v1` ServiceMonitor.
    pub service_monitor: bool,
    /// `monitoring.coreos.com/v1` PrometheusRule.
    pub prometheus_rule: bool,
}

impl OptionalKinds {
    /// Whether the API server has a kind.
    pub const fn has(&self, kind: ChildKind) -> bool {
        match kind {
            ChildKind::Certificate => self.certificate,
            ChildKind::ServiceMonitor => self.service_monitor,
            ChildKind::PrometheusRule => self.prometheus_rule,
            _ => true,
        }
    }
}

impl Decisions {
    /// What is decided about a cluster of `spec` that is healthy and at rest,
    /// whose resource was created under the release `tag`, where all kinds exist:
    /// for showing what a resource comes to.
    pub fn at_rest(spec: &StorageClusterSpec, tag: String) -> Self {
        let (gateway, worker) = (&spec.gateway, &spec.worker);
        Self {
            tag,
            cluster_id: None,
            storage_replicas: spec.nodes.replicas,
            storage_disruptions: 1,
            gateway_replicas: gateway.autoscale.is_none().then_some(gateway.replicas),
            // Nothing waits, so none is needed beyond the least.
            worker_replicas: worker.autoscale.map_or(worker.replicas, |scale| scale.min),
            hibernated: spec.hibernate,
            encrypted: None,
            kinds: OptionalKinds {
                certificate: true,
                service_monitor: true,
                prometheus_rule: true,
            },
        }
    }

    /// `wanted` replicas, or none while the cluster sleeps.
    pub(crate) fn awake(&self, wanted: u32) -> u32 {
        if self.hibernated { 0 } else { wanted }
    }
}

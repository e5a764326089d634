//! All objects of a cluster, in the order of application.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::{account, budget, cache, gateway, monitoring, network, nodes, queue, tls, worker};

/// Everything that is to be there. What carries the cluster's labels and is not
/// among it is to go.
#[derive(Clone, PartialEq, Debug)]
pub struct DesiredState {
    /// In the order of application: what pods need comes before them.
    pub children: Vec<Child>,
}

/// An object that is to be there.
#[derive(Clone, PartialEq, Debug)]
pub struct Child {
    /// Its kind.
    pub kind: ChildKind,
    /// Its name; its namespace is the cluster's.
    pub name: String,
    /// All of it but its status.
    pub object: Value,
}

/// The kinds of children.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChildKind {
    /// Who pods are.
    ServiceAccount,
    /// Settings and scripts.
    ConfigMap,
    /// Addresses.
    Service,
    /// Who may connect to whom.
    NetworkPolicy,
    /// How many may be taken away at once.
    PodDisruptionBudget,
    /// What cert-manager is to make.
    Certificate,
    /// Storage nodes and brokers.
    StatefulSet,
    /// Gateways, workers, the cache.
    Deployment,
    /// The way in from outside.
    Ingress,
    /// How many gateways there are.
    HorizontalPodAutoscaler,
    /// Where Prometheus reads.
    ServiceMonitor,
    /// When somebody is called.
    PrometheusRule,
}

impl ChildKind {
    /// Every kind. Orphans are looked for among all of them.
    pub const ALL: [Self; 12] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::Service,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::Certificate,
        Self::StatefulSet,
        Self::Deployment,
        Self::Ingress,
        Self::HorizontalPodAutoscaler,
        Self::ServiceMonitor,
        Self::PrometheusRule,
    ];

    /// The kind's name.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::ConfigMap => "ConfigMap",
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Certificate => "Certificate",
            Self::StatefulSet => "StatefulSet",
            Self::Deployment => "Deployment",
            Self::Ingress => "Ingress",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::ServiceMonitor => "ServiceMonitor",
            Self::PrometheusRule => "PrometheusRule",
        }
    }

    /// Group and version.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::ServiceAccount | Self::ConfigMap | Self::Service => "v1",
            Self::StatefulSet | Self::Deployment => "apps/v1",
            Self::NetworkPolicy | Self::Ingress => "networking.k8s.io/v1",
            Self::PodDisruptionBudget => "policy/v1",
            Self::Certificate => "cert-manager.io/v1",
            Self::HorizontalPodAutoscaler => "autoscaling/v2",
            Self::ServiceMonitor | Self::PrometheusRule => "monitoring.coreos.com/v1",
        }
    }

    /// The kind's name in paths and rights.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceaccounts",
            Self::ConfigMap => "configmaps",
            Self::Service => "services",
            Self::NetworkPolicy => "networkpolicies",
            Self::PodDisruptionBudget => "poddisruptionbudgets",
            Self::Certificate => "certificates",
            Self::StatefulSet => "statefulsets",
            Self::Deployment => "deployments",
            Self::Ingress => "ingresses",
            Self::HorizontalPodAutoscaler => "horizontalpodautoscalers",
            Self::ServiceMonitor => "servicemonitors",
            Self::PrometheusRule => "prometheusrules",
        }
    }
}

/// The objects that `cluster` means.
pub fn desired(cluster: &Cluster) -> DesiredState {
    let mut children = vec![account::build_account(cluster)];
    children.extend(network::build_policies(cluster));
    children.extend(budget::build_budgets(cluster));
    children.extend(tls::build_certificates(cluster));
    children.extend(nodes::build(cluster));
    children.extend(queue::build(cluster));
    children.extend(cache::build(cluster));
    children.extend(gateway::build(cluster));
    children.push(worker::build_deployment(cluster));
    children.extend(monitoring::build(cluster));
    // Stable: within a kind the order is that of above.
    children.sort_by_key(|child| child.kind);
    DesiredState { children }
}

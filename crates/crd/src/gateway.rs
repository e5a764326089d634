//! The gateways.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pods::PodTemplate;

/// The gateways, which speak HTTP to clients.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// How many, where there is no autoscale.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 256))]
    pub replicas: u32,
    /// Their Service.
    #[serde(default)]
    pub service: GatewayService,
    /// An Ingress to them. None without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
    /// Scale by load, with a HorizontalPodAutoscaler, which then owns the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<GatewayAutoscale>,
    /// What each needs of processor and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// More for their pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            replicas: two(),
            service: GatewayService::default(),
            ingress: None,
            autoscale: None,
            resources: None,
            pod_template: None,
        }
    }
}

fn two() -> u32 {
    2
}

/// The gateways' Service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Eq, Default, Debug)]
#[serde(rename_all = "camelCase")]
pub struct GatewayService {
    /// How it is reached.
    #[serde(rename = "type", default)]
    pub kind: ServiceType,
    /// Annotations, as load balancers want them.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// How a Service is reached.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ServiceType {
    /// Inside of the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// On a port of every machine.
    NodePort,
    /// By a load balancer of the cloud.
    LoadBalancer,
}

/// An Ingress to the gateways.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// The host's name.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// The IngressClass. Without one, the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// The Secret with the certificate for the host. Without one, no TLS there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub tls_secret_name: Option<String>,
    /// Annotations, as Ingress controllers want them. Uploads need a body size
    /// without limit there.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// Between how many gateways the load is spread.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("min is above max"))]
pub struct GatewayAutoscale {
    /// At least so many.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 256))]
    pub min: u32,
    /// At most so many.
    #[schemars(range(min = 1, max = 256))]
    pub max: u32,
    /// The use of processor time, in percent of what a gateway requests, that is aimed at.
    #[serde(default = "percent")]
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_percent: u32,
}

fn percent() -> u32 {
    75
}

//! The workers.

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::pods::PodTemplate;

/// The workers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// How many, where there is no autoscale. With 0, tasks wait.
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 256))]
    pub replicas: u32,
    /// Scale by the tasks that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<WorkerAutoscale>,
    /// What each needs of processor and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// More for their pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            replicas: two(),
            autoscale: None,
            resources: None,
            pod_template: None,
        }
    }
}

fn two() -> u32 {
    2
}

/// Between how many workers the tasks are spread.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("min is above max"))]
pub struct WorkerAutoscale {
    /// At least so many.
    #[serde(default)]
    #[schemars(range(min = 0, max = 256))]
    pub min: u32,
    /// At most so many.
    #[schemars(range(min = 1, max = 256))]
    pub max: u32,
    /// Waiting tasks for which there is a worker more.
    #[serde(default = "tasks")]
    #[schemars(range(min = 1, max = 100_000))]
    pub tasks_per_worker: u32,
}

fn tasks() -> u32 {
    100
}

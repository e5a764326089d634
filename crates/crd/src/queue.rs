//! RabbitMQ.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The workers' queue. Its loss delays tasks and loses none: the groups keep
/// them until they are done.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Default, Debug)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'External' ? has(self.external) : !has(self.external)")
        .message("external is given with type External, and only then"),
    validation = Rule::new("self.type == 'Managed' || !has(self.managed)")
        .message("managed is given with type Managed only")
)]
pub struct Queue {
    /// Whose it is.
    #[serde(rename = "type", default)]
    pub kind: QueueType,
    /// One that the operator runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedQueue>,
    /// One that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalSecret>,
}

/// Whose the queue is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum QueueType {
    /// The operator runs it.
    #[default]
    Managed,
    /// It is there.
    External,
}

/// A RabbitMQ that the operator runs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ManagedQueue {
    /// How many brokers: three go on when one is away. Another number makes others
    /// of them, which take over when all are ready.
    #[serde(default = "one")]
    #[x_kube(validation = Rule::new("self == 1 || self == 3").message("there are 1 or 3 brokers"))]
    pub replicas: u32,
    /// The volume of each. Another size makes other brokers, which take over when
    /// all of them are ready; no task is lost.
    #[serde(default = "storage")]
    #[schemars(schema_with = "crate::schema::quantity")]
    pub storage: Quantity,
    /// The image. Without one, the one that this operator was tested with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub image: Option<String>,
}

impl Default for ManagedQueue {
    fn default() -> Self {
        Self {
            replicas: one(),
            storage: storage(),
            image: None,
        }
    }
}

fn one() -> u32 {
    1
}

fn storage() -> Quantity {
    Quantity("1Gi".into())
}

/// Where something is that the operator does not run.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ExternalSecret {
    /// A Secret of the same namespace, whose key `url` holds the address with its
    /// credentials.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

//! Redis.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::queue::ExternalSecret;

/// The cache of small hot objects. Its loss costs speed alone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Default, Debug)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'External' ? has(self.external) : !has(self.external)")
        .message("external is given with type External, and only then"),
    validation = Rule::new("self.type == 'Managed' || !has(self.managed)")
        .message("managed is given with type Managed only")
)]
pub struct Cache {
    /// Whose it is.
    #[serde(rename = "type", default)]
    pub kind: CacheType,
    /// One that the operator runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedCache>,
    /// One that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalSecret>,
}

/// Whose the cache is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum CacheType {
    /// The operator runs it.
    #[default]
    Managed,
    /// It is there.
    External,
}

/// A Redis that the operator runs. It keeps nothing on disk.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ManagedCache {
    /// How much it may hold.
    #[serde(default = "memory")]
    #[schemars(schema_with = "crate::schema::quantity")]
    pub memory: Quantity,
    /// The image. Without one, the one that this operator was tested with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub image: Option<String>,
}

impl Default for ManagedCache {
    fn default() -> Self {
        Self {
            memory: memory(),
            image: None,
        }
    }
}

fn memory() -> Quantity {
    Quantity("256Mi".into())
}

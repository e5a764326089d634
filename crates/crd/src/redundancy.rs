//! How many copies there are.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much may be lost without losing data.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Redundancy {
    /// By what.
    #[serde(rename = "type", default)]
    pub kind: RedundancyType,
    /// How many copies of everything, each on a node of its own.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 5))]
    pub copies: u32,
    /// How many nodes decide each change together: one of three, or two of five,
    /// may be away.
    #[serde(default = "three")]
    #[x_kube(validation = Rule::new("self == 3 || self == 5").message("there are 3 or 5 replicas of metadata"))]
    pub metadata_replicas: u32,
}

impl Default for Redundancy {
    fn default() -> Self {
        Self {
            kind: RedundancyType::default(),
            copies: three(),
            metadata_replicas: three(),
        }
    }
}

fn three() -> u32 {
    3
}

/// By what data survives.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RedundancyType {
    /// Whole copies.
    #[default]
    Copies,
}

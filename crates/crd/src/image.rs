//! Which images run.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which images run: `<repository>/storage:<tag>`, and `gateway`, `worker` likewise.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The prefix of the images' names.
    #[serde(default = "repository")]
    #[schemars(length(min = 1, max = 255))]
    pub repository: String,
    /// The tag. Without one, the operator's release when the resource was created,
    /// which status.images tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), pattern(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub tag: Option<String>,
    /// When the images are pulled.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Names of Secrets with credentials for the registry.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub pull_secrets: Vec<String>,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            repository: repository(),
            tag: None,
            pull_policy: PullPolicy::default(),
            pull_secrets: Vec::new(),
        }
    }
}

fn repository() -> String {
    "holdfast".into()
}

/// When images are pulled.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PullPolicy {
    /// At each start of a container.
    Always,
    /// Where the machine does not have it.
    #[default]
    IfNotPresent,
    /// Never: the image must be on the machine.
    Never,
}

//! What a cluster of processes is made of.

use std::path::PathBuf;
use std::sync::Arc;

use holdfast_runtime::host::tls::Trust;

use super::cluster::SECRET;
use super::secured::Secured;

/// What to start.
#[derive(Clone, Default)]
pub struct Shape {
    /// Storage nodes.
    pub nodes: usize,
    /// Gateways.
    pub gateways: usize,
    /// Workers.
    pub workers: usize,
    /// Whether there is a RabbitMQ. Without it there is none, and none is needed.
    pub queue: bool,
    /// Further settings of all nodes.
    pub node_settings: Vec<(&'static str, String)>,
    /// Further settings of all gateways.
    pub gateway_settings: Vec<(&'static str, String)>,
    /// Certificates and the credential, and whom the test believes; without
    /// them nothing is encrypted.
    pub secured: Option<(Arc<Secured>, Trust)>,
    /// Where the nodes' data goes, one directory each; a temporary one without.
    pub data: Vec<PathBuf>,
}

impl Shape {
    /// What tells processes their credential.
    pub(super) fn credential(&self) -> Vec<(&'static str, String)> {
        match &self.secured {
            Some((secured, _)) => secured.settings(),
            None => vec![("HOLDFAST_CLUSTER_SECRET", SECRET.to_owned())],
        }
    }
}

//! Who the pods are: nobody.

use serde_json::json;

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};
use crate::object::child;

/// A ServiceAccount without rights and without a token: no pod of ours talks to
/// the API server.
pub(crate) fn build_account(cluster: &Cluster) -> Child {
    child(
        cluster,
        ChildKind::ServiceAccount,
        Component::Cluster,
        names::service_account(&cluster.name),
        json!({"automountServiceAccountToken": false}),
    )
}

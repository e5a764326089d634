//! The workers: a Deployment whose number the operator moves.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::gateway::client_environment;
use crate::names::{self, Component};
use crate::object::child;
use crate::pods::{self, Pod};

/// The container of a worker.
pub(crate) const CONTAINER: &str = "worker";
/// A task that is under way may end; one that does not is done again elsewhere.
const GRACE_SECONDS: u32 = 60;

pub(crate) fn build_deployment(cluster: &Cluster) -> Child {
    let decisions = &cluster.decisions;
    child(
        cluster,
        ChildKind::Deployment,
        Component::Worker,
        names::workload(&cluster.name, Component::Worker),
        json!({"spec": {
            "replicas": decisions.awake(decisions.worker_replicas),
            "selector": {"matchLabels": names::selector(&cluster.name, Component::Worker)},
            "template": build_template(cluster),
        }}),
    )
}

fn build_template(cluster: &Cluster) -> Value {
    let worker = &cluster.spec.worker;
    let container = json!({
        "name": CONTAINER,
        "image": cluster.images.worker,
        "imagePullPolicy": pods::pull_policy(cluster),
        // What it says last is why it does not start: the operator tells it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": client_environment(cluster),
        "ports": [{"name": "metrics", "containerPort": names::METRICS_PORT, "protocol": "TCP"}],
        "readinessProbe": pods::http_probe("/readyz", "metrics", 5, 3),
        "livenessProbe": pods::http_probe("/healthz", "metrics", 10, 6),
        "resources": pods::resources(worker.resources.as_ref(), "256Mi", "1Gi"),
        "securityContext": pods::container_security(),
        "volumeMounts": pods::our_mounts(cluster),
    });
    pods::pod_template(
        cluster,
        Pod {
            component: Component::Worker,
            user: pods::OUR_USER,
            container,
            volumes: pods::our_volumes(cluster, Component::Worker),
            spread: pods::preferred_spread(cluster, Component::Worker),
            apart: false,
            config_hash: None,
            grace: GRACE_SECONDS,
            template: worker.pod_template.as_ref(),
        },
    )
}

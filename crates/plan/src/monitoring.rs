//! What is set up for Prometheus, where its kinds exist: where to read, when
//! somebody is called, and what they look at then.

use serde_json::json;

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};
use crate::object::child;

mod alerts;
mod dashboard;

/// How often Prometheus reads.
const INTERVAL: &str = "30s";

pub(crate) fn build(cluster: &Cluster) -> Vec<Child> {
    if !cluster.spec.monitoring.enabled {
        return Vec::new();
    }
    let kinds = cluster.decisions.kinds;
    let mut children = Vec::new();
    if kinds.service_monitor {
        children.push(build_service(cluster));
        children.push(build_monitor(cluster));
        children.push(dashboard::build_dashboard(cluster));
    }
    if kinds.prometheus_rule {
        children.push(alerts::build_rules(cluster));
    }
    children
}

/// A Service of nothing but metrics, of all parts that have them: the gateway's
/// own may be a load balancer, and metrics are not for the public.
fn build_service(cluster: &Cluster) -> Child {
    child(
        cluster,
        ChildKind::Service,
        Component::Cluster,
        names::metrics_service(&cluster.name),
        json!({"spec": {
            "clusterIP": "None",
            // What is not ready is what somebody wants to know of.
            "publishNotReadyAddresses": true,
            "selector": {
                names::NAME_LABEL: names::APPLICATION,
                names::INSTANCE_LABEL: cluster.name,
                names::METRICS_LABEL: "true",
            },
            "ports": [{
                "name": "metrics",
                "port": names::METRICS_PORT,
                "targetPort": "metrics",
                "protocol": "TCP",
            }],
        }}),
    )
}

fn build_monitor(cluster: &Cluster) -> Child {
    child(
        cluster,
        ChildKind::ServiceMonitor,
        Component::Cluster,
        cluster.name.clone(),
        json!({"spec": {
            "selector": {
                "matchLabels": names::selector(&cluster.name, Component::Cluster),
            },
            "podTargetLabels": [names::COMPONENT_LABEL],
            "endpoints": [{"port": "metrics", "path": "/metrics", "interval": INTERVAL}],
        }}),
    )
}

/// An expression about the metrics of `cluster` alone, which it names `SELECTOR`.
fn of_cluster(cluster: &Cluster, expression: &str) -> String {
    let selector = format!(
        "namespace=\"{}\", service=\"{}\"",
        cluster.namespace,
        names::metrics_service(&cluster.name)
    );
    expression.replace("SELECTOR", &selector)
}

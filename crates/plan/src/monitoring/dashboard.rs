//! A dashboard for Grafana: what the one on call looks at first.
//!
//! It is a ConfigMap with the label by which Grafana's sidecar finds dashboards
//! (`grafana_dashboard`); without a sidecar it can be imported by hand.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};
use crate::object::{child, config_hash};

/// By what the sidecar finds it.
const FOUND_BY: &str = "grafana_dashboard";
/// Grafana's grid is 24 wide: two panels a row.
const WIDTH: usize = 12;
const HEIGHT: usize = 8;

/// A panel. `SELECTOR` in the expression becomes the cluster's own metrics.
struct Panel {
    title: &'static str,
    expression: &'static str,
    legend: &'static str,
    unit: &'static str,
}

const PANELS: [Panel; 10] = [
    Panel {
        title: "Objects below their redundancy",
        expression: "max by (standing) (holdfast_census_objects{SELECTOR})",
        legend: "{{standing}}",
        unit: "short",
    },
    Panel {
        title: "Metadata groups without a leader",
        expression: "min(holdfast_groups_without_leader{SELECTOR})",
        legend: "groups",
        unit: "short",
    },
    Panel {
        title: "Requests",
        expression: "sum by (status) (rate(holdfast_http_requests_total{SELECTOR}[5m]))",
        legend: "{{status}}",
        unit: "reqps",
    },
    Panel {
        title: "Errors by code",
        expression: "sum by (code) (rate(holdfast_http_errors_total{SELECTOR}[5m]))",
        legend: "{{code}}",
        unit: "reqps",
    },
    Panel {
        title: "Bytes to and from clients",
        expression: "sum by (direction) (rate(holdfast_http_bytes_total{SELECTOR}[5m]))",
        legend: "{{direction}}",
        unit: "Bps",
    },
    Panel {
        title: "Turned away, by limit",
        expression: "sum by (limit) (rate(holdfast_refused_total{SELECTOR}[5m]))",
        legend: "{{limit}}",
        unit: "reqps",
    },
    Panel {
        title: "How full the volumes are",
        expression: "max by (pod) (1 - holdfast_node_disk_free_bytes{SELECTOR} / \
                     holdfast_node_disk_capacity_bytes{SELECTOR})",
        legend: "{{pod}}",
        unit: "percentunit",
    },
    Panel {
        title: "Chunks that wait for repair",
        expression: "sum by (pod) (holdfast_repair_waiting_chunks{SELECTOR})",
        legend: "{{pod}}",
        unit: "short",
    },
    Panel {
        title: "Corrupt fragments",
        expression: "max by (pod) (holdfast_node_corrupt_fragments{SELECTOR})",
        legend: "{{pod}}",
        unit: "short",
    },
    Panel {
        title: "Tasks",
        expression: "max by (state) (holdfast_tasks{SELECTOR, state!=\"done\"})",
        legend: "{{state}}",
        unit: "short",
    },
];

pub(super) fn build_dashboard(cluster: &Cluster) -> Child {
    let place = json!([cluster.namespace, cluster.name]);
    let panels = PANELS.iter().enumerate();
    let dashboard = json!({
        // Links to it stay the same when it is made anew.
        "uid": format!("holdfast-{}", config_hash(&place)),
        "title": format!("Holdfast {}/{}", cluster.namespace, cluster.name),
        "tags": [names::APPLICATION],
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
        ]},
        "panels": panels
            .map(|(index, one)| panel(cluster, index, one))
            .collect::<Vec<_>>(),
    });
    let mut config_map = child(
        cluster,
        ChildKind::ConfigMap,
        Component::Cluster,
        names::dashboard(&cluster.name),
        json!({"data": {
            format!("holdfast-{}-{}.json", cluster.namespace, cluster.name): dashboard.to_string(),
        }}),
    );
    if let Some(Value::Object(labels)) = config_map.object.pointer_mut("/metadata/labels") {
        labels.insert(FOUND_BY.into(), "1".into());
    }
    config_map
}

fn panel(cluster: &Cluster, index: usize, panel: &Panel) -> Value {
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    json!({
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {
            "x": index % 2 * WIDTH,
            "y": index / 2 * HEIGHT,
            "w": WIDTH,
            "h": HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [{
            "refId": "A",
            "datasource": source,
            "expr": super::of_cluster(cluster, panel.expression),
            "legendFormat": panel.legend,
        }],
    })
}

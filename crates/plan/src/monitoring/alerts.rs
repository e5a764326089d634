//! When somebody is called: few alerts, each for what clients feel or data
//! suffers, each with a page that says what to do.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::Component;
use crate::object::child;

/// Where the pages are.
const RUNBOOKS: &str = "https://holdfast.dev/docs/runbooks";

/// An alert. `SELECTOR` in the expression becomes the cluster's own metrics.
struct Alert {
    name: &'static str,
    /// The page in docs/runbooks.
    page: &'static str,
    expression: &'static str,
    /// How long it must be so.
    lasting: &'static str,
    severity: &'static str,
    summary: &'static str,
}

const ALERTS: [Alert; 7] = [
    Alert {
        name: "HoldfastObjectsLost",
        page: "objects-lost",
        expression: "max(holdfast_census_objects{SELECTOR, standing=\"lost\"}) > 0",
        lasting: "0m",
        severity: "critical",
        summary: "{{ $value }} objects cannot be read any more",
    },
    Alert {
        name: "HoldfastObjectsUnavailable",
        page: "objects-unavailable",
        expression: "max(holdfast_census_objects{SELECTOR, standing=\"unavailable\"}) > 0",
        lasting: "5m",
        severity: "critical",
        summary: "{{ $value }} objects cannot be read until nodes come back",
    },
    Alert {
        name: "HoldfastObjectsDegraded",
        page: "objects-degraded",
        expression: "max(holdfast_census_objects{SELECTOR, standing=\"degraded\"}) > 0",
        lasting: "15m",
        severity: "warning",
        summary: "{{ $value }} objects have been below their redundancy for 15 minutes",
    },
    Alert {
        name: "HoldfastNoLeader",
        page: "no-leader",
        expression: "min(holdfast_groups_without_leader{SELECTOR}) > 0",
        lasting: "1m",
        severity: "critical",
        summary: "{{ $value }} metadata groups have no leader: their objects are not served",
    },
    Alert {
        name: "HoldfastDiskNearlyFull",
        page: "disk-nearly-full",
        expression: "max by (pod) (1 - holdfast_node_disk_free_bytes{SELECTOR} / \
                     holdfast_node_disk_capacity_bytes{SELECTOR}) > 0.85",
        lasting: "15m",
        severity: "warning",
        summary: "the volume of {{ $labels.pod }} is {{ $value | humanizePercentage }} full",
    },
    Alert {
        name: "HoldfastFailing",
        page: "failing",
        expression: "sum(rate(holdfast_http_requests_total{SELECTOR, status=~\"5..\"}[5m])) / \
                     sum(rate(holdfast_http_requests_total{SELECTOR}[5m])) > 0.05",
        lasting: "5m",
        severity: "critical",
        summary: "{{ $value | humanizePercentage }} of requests fail",
    },
    Alert {
        name: "HoldfastCertificateEnds",
        page: "certificate-ends",
        // Renewed 30 days before: somebody must look long before it ends.
        expression: "min by (pod, use) (holdfast_tls_certificate_not_after_seconds{SELECTOR}) - \
                     time() < 14 * 86400",
        lasting: "1h",
        severity: "warning",
        summary: "the certificate ({{ $labels.use }}) of {{ $labels.pod }} ends in \
                  {{ $value | humanizeDuration }}, and should have been renewed",
    },
];

pub(super) fn build_rules(cluster: &Cluster) -> Child {
    let rules: Vec<Value> = ALERTS.iter().map(|alert| rule(cluster, alert)).collect();
    child(
        cluster,
        ChildKind::PrometheusRule,
        Component::Cluster,
        cluster.name.clone(),
        json!({"spec": {"groups": [{
            "name": format!("holdfast.{}.{}", cluster.namespace, cluster.name),
            "rules": rules,
        }]}}),
    )
}

fn rule(cluster: &Cluster, alert: &Alert) -> Value {
    json!({
        "alert": alert.name,
        "expr": super::of_cluster(cluster, alert.expression),
        "for": alert.lasting,
        "labels": {
            "severity": alert.severity,
            "namespace": cluster.namespace,
            "storagecluster": cluster.name,
        },
        "annotations": {
            "summary": alert.summary,
            "runbook_url": format!("{RUNBOOKS}/{}.md", alert.page),
        },
    })
}

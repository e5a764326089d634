//! The storage nodes: a StatefulSet that replaces no pod by itself, and the
//! headless Service by which its pods have addresses.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};
use crate::object::child;
use crate::pods::{self, Pod};
use crate::tls;

/// The container of a storage node.
pub(crate) const CONTAINER: &str = "node";
/// Where the volume is mounted, and so the node's directory.
const DATA_PATH: &str = "/data/0";
/// What is there to end: leadership is handed over in 25 s, the rest is for
/// calls that run.
const GRACE_SECONDS: u32 = 60;
/// A node may replay its log for 30 minutes before it answers. It is asked every
/// second, so that one that has little to replay is back at once.
const STARTUP_FAILURES: u32 = 1_800;

pub(crate) fn build(cluster: &Cluster) -> Vec<Child> {
    vec![build_service(cluster), build_set(cluster)]
}

/// The addresses of the nodes that others ask first: so many as decide about
/// metadata. Their ordinals are there at every number of nodes, so that no
/// template changes with it.
pub(crate) fn first_addresses(cluster: &Cluster) -> Vec<String> {
    (0..cluster.spec.redundancy.metadata_replicas)
        .map(|ordinal| names::node_address(&cluster.name, &cluster.namespace, ordinal))
        .collect()
}

fn build_service(cluster: &Cluster) -> Child {
    child(
        cluster,
        ChildKind::Service,
        Component::Node,
        names::nodes_service(&cluster.name),
        json!({"spec": {
            "clusterIP": "None",
            // Nodes need each other's addresses in order to become ready.
            "publishNotReadyAddresses": true,
            "selector": names::selector(&cluster.name, Component::Node),
            "ports": [{
                "name": "api",
                "port": names::NODE_PORT,
                "targetPort": "api",
                "protocol": "TCP",
            }],
        }}),
    )
}

fn build_set(cluster: &Cluster) -> Child {
    let decisions = &cluster.decisions;
    child(
        cluster,
        ChildKind::StatefulSet,
        Component::Node,
        names::node_set(&cluster.name),
        json!({"spec": {
            "serviceName": names::nodes_service(&cluster.name),
            "replicas": decisions.awake(decisions.storage_replicas),
            "podManagementPolicy": "Parallel",
            // The operator replaces pods, one by one, when the data allows it.
            "updateStrategy": {"type": "OnDelete"},
            // The operator deletes volumes, by identity, when nothing is on them.
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            },
            "selector": {"matchLabels": names::selector(&cluster.name, Component::Node)},
            "template": build_template(cluster),
            "volumeClaimTemplates": [build_claim(cluster)],
        }}),
    )
}

fn build_claim(cluster: &Cluster) -> Value {
    let storage = &cluster.spec.nodes.storage;
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names::NODE_CLAIM,
            "labels": names::labels(&cluster.name, Component::Node),
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage.storage_class_name,
            "resources": {"requests": {"storage": storage.size}},
        },
    })
}

fn build_template(cluster: &Cluster) -> Value {
    let nodes = &cluster.spec.nodes;
    let mut mounts = vec![json!({"name": names::NODE_CLAIM, "mountPath": DATA_PATH})];
    mounts.extend(pods::our_mounts(cluster));
    let container = json!({
        "name": CONTAINER,
        "image": cluster.images.storage,
        "imagePullPolicy": pods::pull_policy(cluster),
        // What it says last is why it does not start: the operator tells it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": environment(cluster),
        "ports": [
            {"name": "api", "containerPort": names::NODE_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": names::METRICS_PORT, "protocol": "TCP"},
        ],
        // The port of operations opens when the log is replayed.
        "startupProbe": pods::http_probe("/healthz", "metrics", 1, STARTUP_FAILURES),
        // That it has caught up, so that a rollout waits for it; not that a quorum
        // is there: else all would be unready with it, and a disruption budget
        // lets unready pods be evicted.
        "readinessProbe": pods::http_probe("/readyz", "metrics", 2, 3),
        // It says so when its disk or a loop has stood still for 30 s; it is ended
        // a minute later, since a disk may come back by itself.
        "livenessProbe": pods::http_probe("/healthz", "metrics", 10, 6),
        "resources": pods::resources(nodes.resources.as_ref(), "256Mi", "2Gi"),
        "securityContext": pods::container_security(),
        "volumeMounts": mounts,
    });
    pods::pod_template(
        cluster,
        Pod {
            component: Component::Node,
            user: pods::OUR_USER,
            container,
            volumes: pods::our_volumes(cluster, Component::Node),
            spread: pods::node_spread(cluster),
            apart: nodes.placement.hosts == holdfast_crd::Spread::Required,
            config_hash: None,
            grace: GRACE_SECONDS,
            template: nodes.pod_template.as_ref(),
        },
    )
}

/// No zone: the operator tells the cluster where each node is. Nothing that
/// founds: the operator does, once.
fn environment(cluster: &Cluster) -> Vec<Value> {
    let advertised = format!(
        "$(POD_NAME).{}.$(POD_NAMESPACE).svc:{}",
        names::nodes_service(&cluster.name),
        names::NODE_PORT
    );
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let mut environment = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        json!({"name": "HOLDFAST_ADVERTISE", "value": advertised}),
        json!({"name": "HOLDFAST_JOIN", "value": first_addresses(cluster).join(",")}),
        json!({"name": "HOLDFAST_DATA", "value": DATA_PATH}),
        pods::secrets_env(),
        // What the operator and the budget go by: a count by sums costs little.
        json!({"name": "HOLDFAST_CENSUS_INTERVAL", "value": "10s"}),
        json!({"name": "HOLDFAST_LOG_FORMAT", "value": "json"}),
    ];
    environment.extend(tls::env(cluster));
    environment
}

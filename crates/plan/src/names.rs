//! Every name, label, selector and annotation, in one place: the operator finds
//! things by the same functions that named them.
//!
//! Selectors and the names of StatefulSets, Services and claim templates can
//! never change: Kubernetes refuses it, or volumes would be lost from sight. Those
//! of brokers hold nothing that is needed: [`brokers`](crate::brokers).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Who writes our objects: the field manager of server-side apply, and the value
/// of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "holdfast-operator";
/// The value of [`NAME_LABEL`] on everything of a cluster.
pub const APPLICATION: &str = "holdfast";
/// The value of [`NAME_LABEL`] on the operator's own pods.
pub const OPERATOR: &str = "holdfast-operator";
/// The label that says what something belongs to.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// The label with the StorageCluster's name.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// The label with the part: the value is a [`Component`].
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// The label that says who writes the object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The label of the whole that something is part of.
pub const PART_OF_LABEL: &str = "app.kubernetes.io/part-of";
/// The label with the pool of nodes; there is one.
pub const POOL_LABEL: &str = "holdfast.dev/pool";
/// The value of [`POOL_LABEL`].
pub const DEFAULT_POOL: &str = "default";
/// The label with the cluster's identity on what outlives the resource.
pub const CLUSTER_ID_LABEL: &str = "holdfast.dev/cluster-id";
/// The label of pods that serve metrics on [`METRICS_PORT`].
pub const METRICS_LABEL: &str = "holdfast.dev/metrics";
/// The annotation of pod templates with the hash of the configuration that the
/// process reads only when it starts.
pub const CONFIG_HASH: &str = "holdfast.dev/config-hash";
/// A person's word that everything that can be exchanged without others is to be:
/// once for each value.
pub const ROTATE: &str = "holdfast.dev/rotate";
/// A person's word that the generation in its value may go on while objects are
/// below their redundancy.
pub const PROCEED_WHILE_DEGRADED: &str = "holdfast.dev/proceed-while-degraded";
/// A person's word that the release in its value is to be finalised.
pub const FINALIZE: &str = "holdfast.dev/finalize";
/// Of what an object was made last: what is no longer asked for is not seen by
/// looking at what is.
pub const APPLIED: &str = "holdfast.dev/applied";
/// On a volume claim, the node that was removed from it: drained for that, and
/// not because an administrator wanted it drained.
pub const REMOVED_NODE: &str = "holdfast.dev/removed-node";

/// The API of the resource.
pub const API_VERSION: &str = "holdfast.dev/v1alpha1";
/// The kind of the resource.
pub const KIND: &str = "StorageCluster";

/// Where storage nodes are called.
pub const NODE_PORT: u16 = 8000;
/// Where gateways are called.
pub const GATEWAY_PORT: u16 = 5000;
/// Where ours show metrics and health.
pub const METRICS_PORT: u16 = 9090;
/// Where brokers take messages.
pub const AMQP_PORT: u16 = 5672;
/// The same where TLS is on.
pub const AMQPS_PORT: u16 = 5671;
/// Where brokers are managed.
pub const RABBITMQ_MANAGEMENT_PORT: u16 = 15672;
/// The same where TLS is on.
pub const RABBITMQ_MANAGEMENT_TLS_PORT: u16 = 15671;
/// Where a broker's address is asked for by the others.
pub const EPMD_PORT: u16 = 4369;
/// Where brokers talk to each other.
pub const RABBITMQ_CLUSTER_PORT: u16 = 25672;
/// Where the cache is called, with TLS or without.
pub const REDIS_PORT: u16 = 6379;

/// Where brokers take messages, with TLS or without.
pub const fn amqp_port(encrypted: bool) -> u16 {
    if encrypted { AMQPS_PORT } else { AMQP_PORT }
}

/// Where brokers are managed, with TLS or without.
pub const fn rabbitmq_management_port(encrypted: bool) -> u16 {
    if encrypted {
        RABBITMQ_MANAGEMENT_TLS_PORT
    } else {
        RABBITMQ_MANAGEMENT_PORT
    }
}

/// The claim template of storage nodes; a volume is `data-0-demo-node-1`.
pub const NODE_CLAIM: &str = "data-0";
/// The claim template of brokers.
pub const RABBITMQ_CLAIM: &str = "data";

/// The key of the credentials' Secret with which services know each other.
pub const CLUSTER_SECRET_KEY: &str = "cluster-secret";
/// The key with the credential that is taken beside it while it is exchanged.
pub const CLUSTER_SECRET_PREVIOUS_KEY: &str = "cluster-secret-previous";
/// The key with the user of ours in RabbitMQ; without it, `holdfast`.
pub const RABBITMQ_USER_KEY: &str = "rabbitmq-user";
/// The key with that user's password.
pub const RABBITMQ_PASSWORD_KEY: &str = "rabbitmq-password";
/// The key with the password of Redis.
pub const REDIS_PASSWORD_KEY: &str = "redis-password";
/// The key with the password that is taken beside it while it is exchanged.
pub const REDIS_PASSWORD_PREVIOUS_KEY: &str = "redis-password-previous";
/// The key with what brokers know each other by.
pub const ERLANG_COOKIE_KEY: &str = "erlang-cookie";
/// The key of the admin's Secret: the first access key.
pub const ADMIN_TOKEN_KEY: &str = "token";
/// The key of a Secret that names an external queue or cache.
pub const EXTERNAL_URL_KEY: &str = "url";
/// The key of a Secret with a certificate, as Kubernetes has it.
pub const CERTIFICATE_KEY: &str = "tls.crt";
/// The key of a Secret with the certificate's private key.
pub const PRIVATE_KEY_KEY: &str = "tls.key";
/// The key of a Secret with the authorities that are trusted.
pub const AUTHORITIES_KEY: &str = "ca.crt";
/// The first user of ours in RabbitMQ, and what the names of the others begin with.
pub const RABBITMQ_USER: &str = "holdfast";

/// A part of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Component {
    /// Storage nodes.
    Node,
    /// Gateways.
    Gateway,
    /// Workers.
    Worker,
    /// Brokers that the operator runs.
    Rabbitmq,
    /// A cache that the operator runs.
    Redis,
    /// What is of all parts.
    Cluster,
}

impl Component {
    /// The parts that have pods.
    pub const WITH_PODS: [Self; 5] = [
        Self::Node,
        Self::Gateway,
        Self::Worker,
        Self::Rabbitmq,
        Self::Redis,
    ];

    /// As labels and names have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Gateway => "gateway",
            Self::Worker => "worker",
            Self::Rabbitmq => "rabbitmq",
            Self::Redis => "redis",
            Self::Cluster => "cluster",
        }
    }
}

/// The StatefulSet or Deployment of a part: `demo-node`.
pub fn workload(cluster: &str, component: Component) -> String {
    format!("{cluster}-{}", component.as_str())
}

/// The StatefulSet of storage nodes.
pub fn node_set(cluster: &str) -> String {
    workload(cluster, Component::Node)
}

/// The headless Service that gives storage nodes their addresses.
pub fn nodes_service(cluster: &str) -> String {
    format!("{cluster}-nodes")
}

/// The pod of a storage node.
pub fn node_pod(cluster: &str, ordinal: u32) -> String {
    format!("{}-{ordinal}", node_set(cluster))
}

/// The claim of a storage node's volume.
pub fn node_claim(cluster: &str, ordinal: u32) -> String {
    format!("{NODE_CLAIM}-{}", node_pod(cluster, ordinal))
}

/// Where a storage node is called: `demo-node-0.demo-nodes.files.svc:8000`.
pub fn node_address(cluster: &str, namespace: &str, ordinal: u32) -> String {
    format!(
        "{}.{}.{namespace}.svc:{NODE_PORT}",
        node_pod(cluster, ordinal),
        nodes_service(cluster)
    )
}

/// The number in the name of a storage node's pod.
pub fn node_ordinal(cluster: &str, pod: &str) -> Option<u32> {
    let digits = pod.strip_prefix(&node_set(cluster))?.strip_prefix('-')?;
    let ordinal = digits.parse().ok()?;
    // Not "01", and not "+1".
    (node_pod(cluster, ordinal) == pod).then_some(ordinal)
}

/// The Service of gateways.
pub fn gateway_service(cluster: &str) -> String {
    workload(cluster, Component::Gateway)
}

/// Where the gateways are called inside of Kubernetes.
pub fn gateway_address(cluster: &str, namespace: &str) -> String {
    format!(
        "{}.{namespace}.svc:{GATEWAY_PORT}",
        gateway_service(cluster)
    )
}

/// The Service of brokers.
pub fn rabbitmq_service(cluster: &str) -> String {
    workload(cluster, Component::Rabbitmq)
}

/// Where the brokers are managed, inside of Kubernetes.
pub fn rabbitmq_management_address(cluster: &str, namespace: &str, encrypted: bool) -> String {
    format!(
        "{}.{namespace}.svc:{}",
        rabbitmq_service(cluster),
        rabbitmq_management_port(encrypted)
    )
}

/// The headless Service by which brokers find each other.
pub fn rabbitmq_nodes_service(cluster: &str) -> String {
    format!("{cluster}-rabbitmq-nodes")
}

/// The Service of the cache.
pub fn redis_service(cluster: &str) -> String {
    workload(cluster, Component::Redis)
}

/// The headless Service of all that serve metrics.
pub fn metrics_service(cluster: &str) -> String {
    format!("{cluster}-metrics")
}

/// The ConfigMap with the dashboard for Grafana.
pub fn dashboard(cluster: &str) -> String {
    format!("{cluster}-dashboard")
}

/// The ServiceAccount of all pods. It has no rights.
pub fn service_account(cluster: &str) -> String {
    format!("{cluster}-pods")
}

/// The Secret with what services know each other by. The operator makes it.
pub fn credentials_secret(cluster: &str) -> String {
    format!("{cluster}-credentials")
}

/// The Secret with the authorities that are trusted, for clients too: `demo-ca`.
pub fn ca_secret(cluster: &str) -> String {
    format!("{cluster}-ca")
}

/// The Secret with the authority's own key, which the operator alone reads.
pub fn ca_key_secret(cluster: &str) -> String {
    format!("{cluster}-ca-key")
}

/// The Secret with a part's certificate, which its pods mount: `demo-node-tls`.
pub fn certificate_secret(cluster: &str, component: Component) -> String {
    format!("{}-tls", workload(cluster, component))
}

/// The Secret to which cert-manager writes a part's certificate.
pub fn issued_secret(cluster: &str, component: Component) -> String {
    format!("{}-issued", workload(cluster, component))
}

/// The Secret with the first access key. The operator makes it.
pub fn admin_secret(cluster: &str) -> String {
    format!("{cluster}-admin")
}

/// Labels by which everything of a cluster is found, children and Secrets.
pub fn instance_labels(cluster: &str) -> BTreeMap<String, String> {
    [
        (NAME_LABEL, APPLICATION),
        (INSTANCE_LABEL, cluster),
        (MANAGED_BY_LABEL, MANAGED_BY),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The label selector of [`instance_labels`], as the API takes it.
pub fn instance_selector(cluster: &str) -> String {
    instance_labels(cluster)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// All labels of an object of a cluster.
pub fn labels(cluster: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = instance_labels(cluster);
    labels.extend(selector(cluster, component));
    labels.insert(PART_OF_LABEL.into(), APPLICATION.into());
    labels
}

/// Labels of what outlives the resource: its Secrets and volumes.
pub fn lasting_labels(cluster: &Cluster, component: Component) -> BTreeMap<String, String> {
    let mut labels = labels(&cluster.name, component);
    if let Some(id) = &cluster.decisions.cluster_id {
        labels.insert(CLUSTER_ID_LABEL.into(), id.clone());
    }
    labels
}

/// The labels by which a part's pods are selected. They never change.
pub fn selector(cluster: &str, component: Component) -> BTreeMap<String, String> {
    [
        (NAME_LABEL, APPLICATION),
        (INSTANCE_LABEL, cluster),
        (COMPONENT_LABEL, component.as_str()),
        (POOL_LABEL, DEFAULT_POOL),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// What makes an object go when its StorageCluster goes.
pub fn owner_reference(cluster: &Cluster) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": cluster.name,
        "uid": cluster.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

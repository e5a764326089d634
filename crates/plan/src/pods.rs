//! What the pods of all parts have in common: no rights, no root, a read-only
//! root file system, secrets as files, bounded resources.

use holdfast_crd::{PodTemplate, PullPolicy, Spread};
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::merge::merge;
use crate::names::{self, Component};
use crate::tls;

/// The user of our images, as their Dockerfiles have it.
pub(crate) const OUR_USER: u32 = 10001;
/// The user of the images of RabbitMQ and Redis.
pub(crate) const THEIR_USER: u32 = 999;
/// Where secrets are mounted.
const SECRETS_PATH: &str = "/secrets";
/// The volume of secrets.
pub(crate) const SECRETS_VOLUME: &str = "secrets";
/// The volume of what is written and not kept.
pub(crate) const TMP_VOLUME: &str = "tmp";
/// The volume of settings and scripts.
pub(crate) const CONFIG_VOLUME: &str = "config";
/// Owner and group may read. JSON has no octal numbers: this is 0440.
pub(crate) const SECRET_MODE: u32 = 0o440;
/// What may lie in /tmp: ours write nothing there, libraries might.
const TMP_LIMIT: &str = "256Mi";
/// A machine.
const HOST_KEY: &str = "kubernetes.io/hostname";

/// What differs from pod to pod.
pub(crate) struct Pod<'a> {
    pub component: Component,
    pub user: u32,
    pub container: Value,
    pub volumes: Vec<Value>,
    pub spread: Vec<Value>,
    /// Whether no two of them may be on one machine.
    pub apart: bool,
    /// Of what the process reads only when it starts.
    pub config_hash: Option<String>,
    /// How long the process may take to end, in seconds.
    pub grace: u32,
    pub template: Option<&'a PodTemplate>,
}

/// The template of a part's pods.
pub(crate) fn pod_template(cluster: &Cluster, pod: Pod<'_>) -> Value {
    let mut labels = names::labels(&cluster.name, pod.component);
    if pod.user == OUR_USER {
        labels.insert(names::METRICS_LABEL.into(), "true".into());
    }
    let pull_secrets = cluster.images.pull_secrets.iter();
    let pull_secrets: Vec<Value> = pull_secrets.map(|name| json!({"name": name})).collect();
    let mut template = json!({
        "metadata": {
            "labels": labels,
            "annotations": pod.config_hash.map(|hash| json!({names::CONFIG_HASH: hash})),
        },
        "spec": {
            "serviceAccountName": names::service_account(&cluster.name),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "imagePullSecrets": (!pull_secrets.is_empty()).then_some(pull_secrets),
            "terminationGracePeriodSeconds": pod.grace,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": pod.user,
                "runAsGroup": pod.user,
                "fsGroup": pod.user,
                // A volume of millions of files is gone through once at most.
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "affinity": pod.apart.then(|| apart(cluster, pod.component)),
            "topologySpreadConstraints": pod.spread,
            "containers": [pod.container],
            "volumes": pod.volumes,
        },
    });
    crate::object::without_nulls(&mut template);
    if let Some(PodTemplate(more)) = pod.template {
        merge(&mut template, &Value::Object(more.clone()));
    }
    template
}

/// What a container may do: nothing that needs a right.
pub(crate) fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// When images are pulled, as Kubernetes has it.
pub(crate) fn pull_policy(cluster: &Cluster) -> &'static str {
    match cluster.images.pull_policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}

/// What was asked for, or else small requests and a limit of memory. There is no
/// limit of processor time: it would slow down what has time to run.
pub(crate) fn resources(
    asked: Option<&ResourceRequirements>,
    memory_request: &str,
    memory_limit: &str,
) -> Value {
    asked.map_or_else(
        || {
            json!({
                "requests": {"cpu": "100m", "memory": memory_request},
                "limits": {"memory": memory_limit},
            })
        },
        |asked| json!(asked),
    )
}

/// The secrets that a service of ours reads, where `HOLDFAST_SECRETS_DIR` says.
fn our_secrets(cluster: &Cluster) -> Value {
    let credentials = names::credentials_secret(&cluster.name);
    let admin = names::admin_secret(&cluster.name);
    let shared = [
        names::CLUSTER_SECRET_KEY,
        names::RABBITMQ_PASSWORD_KEY,
        names::REDIS_PASSWORD_KEY,
    ];
    let mut volume = secrets_volume(&[
        (&credentials, &shared.map(|key| (key, key))),
        (&admin, &[(names::ADMIN_TOKEN_KEY, "admin-token")]),
    ]);
    // There while the credential is exchanged, or since, and else not.
    let later = [names::CLUSTER_SECRET_PREVIOUS_KEY, names::RABBITMQ_USER_KEY];
    add_optional(&mut volume, &credentials, &later.map(|key| (key, key)));
    volume
}

/// Adds keys to a volume of secrets that may be missing.
pub(crate) fn add_optional(volume: &mut Value, secret: &str, keys: &[(&str, &str)]) {
    let mut source = secret_source(secret, keys);
    if let Some(secret) = source.get_mut("secret").and_then(Value::as_object_mut) {
        secret.insert("optional".into(), true.into());
    }
    if let Some(sources) = volume
        .pointer_mut("/projected/sources")
        .and_then(Value::as_array_mut)
    {
        sources.push(source);
    }
}

/// A volume of secrets: of each Secret the keys, and the files in `cluster/`
/// that they become.
pub(crate) fn secrets_volume(sources: &[(&str, &[(&str, &str)])]) -> Value {
    let source = |(secret, keys): &(&str, &[(&str, &str)])| secret_source(secret, keys);
    json!({
        "name": SECRETS_VOLUME,
        "projected": {
            "defaultMode": SECRET_MODE,
            "sources": sources.iter().map(source).collect::<Vec<_>>(),
        },
    })
}

fn secret_source(secret: &str, keys: &[(&str, &str)]) -> Value {
    let item = |(key, file): &(&str, &str)| json!({"key": key, "path": format!("cluster/{file}"), "mode": SECRET_MODE});
    json!({"secret": {"name": secret, "items": keys.iter().map(item).collect::<Vec<_>>()}})
}

/// Where the secrets are.
pub(crate) fn secrets_env() -> Value {
    json!({"name": "HOLDFAST_SECRETS_DIR", "value": SECRETS_PATH})
}

/// How the secrets are mounted.
pub(crate) fn secrets_mount() -> Value {
    json!({"name": SECRETS_VOLUME, "mountPath": SECRETS_PATH, "readOnly": true})
}

/// The volumes of a part of ours.
pub(crate) fn our_volumes(cluster: &Cluster, part: Component) -> Vec<Value> {
    let mut volumes = vec![our_secrets(cluster), tmp_volume()];
    volumes.extend(tls::volume(cluster, part));
    volumes
}

/// How they are mounted.
pub(crate) fn our_mounts(cluster: &Cluster) -> Vec<Value> {
    let mut mounts = vec![secrets_mount(), tmp_mount()];
    mounts.extend(tls::mount(cluster));
    mounts
}

/// The volume of /tmp.
pub(crate) fn tmp_volume() -> Value {
    json!({"name": TMP_VOLUME, "emptyDir": {"sizeLimit": TMP_LIMIT}})
}

/// The volume of /tmp where settings with a password are written: in memory.
pub(crate) fn memory_tmp_volume() -> Value {
    json!({"name": TMP_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}})
}

/// How /tmp is mounted.
pub(crate) fn tmp_mount() -> Value {
    json!({"name": TMP_VOLUME, "mountPath": "/tmp"})
}

/// Spread as far as there is room.
pub(crate) fn preferred_spread(cluster: &Cluster, component: Component) -> Vec<Value> {
    let preferred = Spread::Preferred;
    let zone_key = &cluster.spec.nodes.placement.zone_key;
    vec![
        spread(cluster, component, zone_key, preferred),
        spread(cluster, component, HOST_KEY, preferred),
    ]
}

/// Spread of the storage nodes, as strict as was asked.
pub(crate) fn node_spread(cluster: &Cluster) -> Vec<Value> {
    let placement = &cluster.spec.nodes.placement;
    let node = Component::Node;
    vec![
        spread(cluster, node, &placement.zone_key, placement.zones),
        // Strictly apart is another matter: see `Pod::apart`.
        spread(cluster, node, HOST_KEY, Spread::Preferred),
    ]
}

/// No two pods of a component on a machine. A spread that is not to be uneven
/// would let as many share one as share each of the others.
fn apart(cluster: &Cluster, component: Component) -> Value {
    json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": HOST_KEY,
        "labelSelector": {"matchLabels": names::selector(&cluster.name, component)},
    }]}})
}

fn spread(cluster: &Cluster, component: Component, key: &str, strictness: Spread) -> Value {
    json!({
        "topologyKey": key,
        "maxSkew": 1,
        "whenUnsatisfiable": match strictness {
            Spread::Preferred => "ScheduleAnyway",
            Spread::Required => "DoNotSchedule",
        },
        "labelSelector": {"matchLabels": names::selector(&cluster.name, component)},
    })
}

/// A probe by HTTP on a named port that never speaks TLS.
pub(crate) fn http_probe(path: &str, port: &str, period: u32, failures: u32) -> Value {
    serving_probe(path, port, None, period, failures)
}

/// A probe by HTTP, or by HTTPS where that is the scheme. The kubelet checks no
/// certificate.
pub(crate) fn serving_probe(
    path: &str,
    port: &str,
    scheme: Option<&str>,
    period: u32,
    failures: u32,
) -> Value {
    json!({
        "httpGet": {"path": path, "port": port, "scheme": scheme},
        "periodSeconds": period,
        // On a machine that is busy an answer takes its time.
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}

/// A probe that a named port takes connections.
pub(crate) fn tcp_probe(port: &str, period: u32, failures: u32) -> Value {
    json!({
        "tcpSocket": {"port": port},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}

//! RabbitMQ: brokers that the operator runs, or the address of others'.

use holdfast_crd::{ManagedQueue, QueueType};
use serde_json::{Value, json};

use crate::brokers;
use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};
use crate::object::{child, config_hash};
use crate::pods::{self, Pod};
use crate::{quantity, tls};

/// The container of a broker.
pub(crate) const CONTAINER: &str = "rabbitmq";
/// The image that this was tested with.
pub(crate) const IMAGE: &str = "rabbitmq:4.0-management";
const ENTRYPOINT: &str = include_str!("scripts/rabbitmq.sh");
/// Where a broker keeps what it has.
const DATA_PATH: &str = "/var/lib/rabbitmq";
/// A broker says good-bye to the others.
const GRACE_SECONDS: u32 = 60;
/// Room on the volume below which it takes no more messages, unless the volume
/// is so small that a fifth of it is less.
const DISK_FREE_LIMIT_BYTES: u64 = 200 << 20;
/// Brokers that wait for each other may take 10 minutes: failures of 2 s.
const STARTUP_FAILURES: u32 = 300;

/// How gateways and workers find the queue.
pub(crate) fn address(cluster: &Cluster) -> Value {
    const NAME: &str = "RABBITMQ_URL";
    match &cluster.spec.queue.external {
        Some(external) if cluster.spec.queue.kind == QueueType::External => {
            external_url(NAME, &external.secret_name)
        }
        _ => {
            let (user, host) = (names::RABBITMQ_USER, names::rabbitmq_service(&cluster.name));
            let encrypted = tls::is_on(&cluster.spec);
            let scheme = if encrypted { "amqps" } else { "amqp" };
            let url = format!("{scheme}://{user}@{host}:{}", names::amqp_port(encrypted));
            json!({"name": NAME, "value": url})
        }
    }
}

/// An address that a Secret of somebody else's holds.
pub(crate) fn external_url(variable: &str, secret: &str) -> Value {
    json!({"name": variable, "valueFrom": {
        "secretKeyRef": {"name": secret, "key": names::EXTERNAL_URL_KEY},
    }})
}

pub(crate) fn build(cluster: &Cluster) -> Vec<Child> {
    let Some(queue) = brokers::managed(&cluster.spec) else {
        return Vec::new();
    };
    let set = brokers::set(&cluster.name, &queue);
    let configuration = configuration(cluster, &queue, &set);
    let hash = config_hash(&configuration);
    vec![
        child(
            cluster,
            ChildKind::ConfigMap,
            Component::Rabbitmq,
            set.clone(),
            json!({"data": configuration}),
        ),
        build_service(cluster, &set),
        build_nodes_service(cluster),
        build_set(cluster, &queue, &set, hash),
    ]
}

fn configuration(cluster: &Cluster, queue: &ManagedQueue, set: &str) -> Value {
    let fifth = quantity::bytes(&queue.storage).map_or(DISK_FREE_LIMIT_BYTES, |bytes| bytes / 5);
    let disk_free_limit = fifth.min(DISK_FREE_LIMIT_BYTES);
    let mut text = format!(
        "loopback_users = none\n\
         log.console = true\n\
         log.console.level = warning\n\
         # Messages are hints of some bytes: this is a million of them.\n\
         vm_memory_high_watermark.absolute = 400MiB\n\
         disk_free_limit.absolute = {disk_free_limit}\n\
         # Those that start together wait for each other, for 10 s.\n\
         cluster_formation.peer_discovery_backend = classic_config\n\
         cluster_formation.discovery_retry_limit = 10\n\
         cluster_formation.discovery_retry_interval = 1000\n"
    );
    if tls::is_on(&cluster.spec) {
        text += &encryption();
    }
    for ordinal in 0..queue.replicas {
        let pod = brokers::pod(set, ordinal);
        text += &format!(
            "cluster_formation.classic_config.nodes.{} = rabbit@{pod}.@DOMAIN@\n",
            ordinal + 1
        );
    }
    json!({"entrypoint.sh": ENTRYPOINT, "rabbitmq.conf": text})
}

/// TLS alone, for messages and for management. Who connects shows a password
/// and no certificate. Brokers read the files again by themselves, every two
/// minutes.
fn encryption() -> String {
    let files = |prefix: &str| {
        [
            ("cacertfile", names::AUTHORITIES_KEY),
            ("certfile", names::CERTIFICATE_KEY),
            ("keyfile", names::PRIVATE_KEY_KEY),
        ]
        .map(|(setting, file)| format!("{prefix}.{setting} = {}/{file}\n", tls::PATH))
        .concat()
    };
    format!(
        "listeners.tcp = none\n\
         listeners.ssl.default = {}\n\
         {}\
         ssl_options.verify = verify_none\n\
         ssl_options.fail_if_no_peer_cert = false\n\
         management.ssl.port = {}\n\
         {}",
        names::AMQPS_PORT,
        files("ssl_options"),
        names::RABBITMQ_MANAGEMENT_TLS_PORT,
        files("management.ssl"),
    )
}

fn build_service(cluster: &Cluster, set: &str) -> Child {
    let encrypted = tls::is_on(&cluster.spec);
    child(
        cluster,
        ChildKind::Service,
        Component::Rabbitmq,
        names::rabbitmq_service(&cluster.name),
        json!({"spec": {
            "selector": brokers::selector(&cluster.name, set),
            "ports": [
                port("amqp", names::amqp_port(encrypted)),
                port("management", names::rabbitmq_management_port(encrypted)),
            ],
        }}),
    )
}

fn build_nodes_service(cluster: &Cluster) -> Child {
    child(
        cluster,
        ChildKind::Service,
        Component::Rabbitmq,
        names::rabbitmq_nodes_service(&cluster.name),
        json!({"spec": {
            "clusterIP": "None",
            // They find each other before they take messages.
            "publishNotReadyAddresses": true,
            "selector": names::selector(&cluster.name, Component::Rabbitmq),
            "ports": [
                port("epmd", names::EPMD_PORT),
                port("cluster", names::RABBITMQ_CLUSTER_PORT),
            ],
        }}),
    )
}

fn port(name: &str, number: u16) -> Value {
    json!({"name": name, "port": number, "targetPort": name, "protocol": "TCP"})
}

fn build_set(cluster: &Cluster, queue: &ManagedQueue, set: &str, hash: String) -> Child {
    child(
        cluster,
        ChildKind::StatefulSet,
        Component::Rabbitmq,
        set.to_owned(),
        json!({"spec": {
            "serviceName": names::rabbitmq_nodes_service(&cluster.name),
            "replicas": cluster.decisions.awake(queue.replicas),
            // Brokers that come back wait for the last that left, whichever it was.
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            // Hints are given again: nothing on these volumes is needed later. They
            // stay while brokers sleep: a StatefulSet that finds the claim of a pod
            // that has just gone does not look again when that is gone as well.
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Delete",
                "whenScaled": "Retain",
            },
            "selector": {"matchLabels": brokers::selector(&cluster.name, set)},
            "template": build_template(cluster, set, hash),
            "volumeClaimTemplates": [{
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": names::RABBITMQ_CLAIM,
                    "labels": names::labels(&cluster.name, Component::Rabbitmq),
                },
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": cluster.spec.nodes.storage.storage_class_name,
                    "resources": {"requests": {"storage": queue.storage}},
                },
            }],
        }}),
    )
}

fn build_container(cluster: &Cluster) -> Value {
    let encrypted = tls::is_on(&cluster.spec);
    let mut mounts = vec![
        json!({"name": names::RABBITMQ_CLAIM, "mountPath": DATA_PATH}),
        json!({"name": pods::CONFIG_VOLUME, "mountPath": "/holdfast", "readOnly": true}),
    ];
    mounts.extend(pods::our_mounts(cluster));
    let container_port =
        |name: &str, number: u16| json!({"name": name, "containerPort": number, "protocol": "TCP"});
    json!({
        "name": CONTAINER,
        "image": cluster.images.rabbitmq,
        "imagePullPolicy": pods::pull_policy(cluster),
        "command": ["/bin/sh", "/holdfast/entrypoint.sh"],
        "env": [
            pods::secrets_env(),
            {"name": "HOME", "value": DATA_PATH},
            // The commands of who looks inside find the broker by this.
            {"name": "RABBITMQ_USE_LONGNAME", "value": "true"},
        ],
        "ports": [
            container_port("amqp", names::amqp_port(encrypted)),
            container_port("management", names::rabbitmq_management_port(encrypted)),
            container_port("epmd", names::EPMD_PORT),
            container_port("cluster", names::RABBITMQ_CLUSTER_PORT),
        ],
        // The port opens when all else is done; asking the broker itself would
        // start an Erlang machine every time.
        "startupProbe": pods::tcp_probe("amqp", 2, STARTUP_FAILURES),
        "readinessProbe": pods::tcp_probe("amqp", 5, 3),
        "livenessProbe": pods::tcp_probe("amqp", 10, 6),
        "resources": pods::resources(None, "256Mi", "1Gi"),
        "securityContext": pods::container_security(),
        "volumeMounts": mounts,
    })
}

fn build_template(cluster: &Cluster, set: &str, hash: String) -> Value {
    let keys = [names::RABBITMQ_PASSWORD_KEY, names::ERLANG_COOKIE_KEY].map(|key| (key, key));
    let credentials = names::credentials_secret(&cluster.name);
    let mut secrets = pods::secrets_volume(&[(&credentials, &keys)]);
    let user = names::RABBITMQ_USER_KEY;
    pods::add_optional(&mut secrets, &credentials, &[(user, user)]);
    let mut template = pods::pod_template(
        cluster,
        Pod {
            component: Component::Rabbitmq,
            user: pods::THEIR_USER,
            container: build_container(cluster),
            volumes: [
                json!({"name": pods::CONFIG_VOLUME, "configMap": {"name": set}}),
                secrets,
                pods::memory_tmp_volume(),
            ]
            .into_iter()
            .chain(tls::volume(cluster, Component::Rabbitmq))
            .collect(),
            spread: pods::preferred_spread(cluster, Component::Rabbitmq),
            apart: false,
            config_hash: Some(hash),
            grace: GRACE_SECONDS,
            template: None,
        },
    );
    if let Some(labels) = template.pointer_mut("/metadata/labels") {
        labels[brokers::LABEL] = set.into();
    }
    template
}

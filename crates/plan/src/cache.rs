//! Redis: a cache that the operator runs, or the address of another.

use holdfast_crd::{CacheType, ManagedCache};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};
use crate::object::{child, config_hash};
use crate::pods::{self, Pod};
use crate::{quantity, queue, tls};

/// The container of the cache.
pub(crate) const CONTAINER: &str = "redis";
/// The image that this was tested with.
pub(crate) const IMAGE: &str = "redis:8.0";
const ENTRYPOINT: &str = include_str!("scripts/redis.sh");
/// What Redis needs beside what it holds: itself, its clients' buffers.
const OVERHEAD_BYTES: u64 = 64 << 20;
/// It keeps nothing that it would have to write.
const GRACE_SECONDS: u32 = 10;

/// The managed cache, where there is one.
pub(crate) fn managed(cluster: &Cluster) -> Option<ManagedCache> {
    let cache = &cluster.spec.cache;
    (cache.kind == CacheType::Managed).then(|| cache.managed.clone().unwrap_or_default())
}

/// How gateways and workers find the cache.
pub(crate) fn address(cluster: &Cluster) -> Value {
    const NAME: &str = "REDIS_URL";
    match &cluster.spec.cache.external {
        Some(external) if cluster.spec.cache.kind == CacheType::External => {
            queue::external_url(NAME, &external.secret_name)
        }
        _ => {
            let host = names::redis_service(&cluster.name);
            let scheme = if tls::is_on(&cluster.spec) {
                "rediss"
            } else {
                "redis"
            };
            json!({"name": NAME, "value": format!("{scheme}://{host}:{}", names::REDIS_PORT)})
        }
    }
}

pub(crate) fn build(cluster: &Cluster) -> Vec<Child> {
    let Some(cache) = managed(cluster) else {
        return Vec::new();
    };
    let memory = quantity::bytes(&cache.memory).unwrap_or_default();
    let listening = if tls::is_on(&cluster.spec) {
        encryption()
    } else {
        String::new()
    };
    let configuration = json!({
        "entrypoint.sh": ENTRYPOINT,
        "redis.conf": format!(
            "bind * -::*\n\
             unixsocket /tmp/redis.sock\n\
             unixsocketperm 700\n\
             save \"\"\n\
             appendonly no\n\
             dir /tmp\n\
             maxmemory {memory}\n\
             maxmemory-policy allkeys-lru\n\
             {listening}"
        ),
    });
    let hash = config_hash(&configuration);
    vec![
        child(
            cluster,
            ChildKind::ConfigMap,
            Component::Redis,
            names::workload(&cluster.name, Component::Redis),
            json!({"data": configuration}),
        ),
        build_service(cluster),
        build_deployment(cluster, memory, hash),
    ]
}

/// TLS alone. Who connects shows a password and no certificate.
fn encryption() -> String {
    format!(
        "port 0\n\
         tls-port {}\n\
         tls-cert-file {path}/{}\n\
         tls-key-file {path}/{}\n\
         tls-ca-cert-file {path}/{}\n\
         tls-auth-clients no\n",
        names::REDIS_PORT,
        names::CERTIFICATE_KEY,
        names::PRIVATE_KEY_KEY,
        names::AUTHORITIES_KEY,
        path = tls::PATH,
    )
}

fn build_service(cluster: &Cluster) -> Child {
    child(
        cluster,
        ChildKind::Service,
        Component::Redis,
        names::redis_service(&cluster.name),
        json!({"spec": {
            "selector": names::selector(&cluster.name, Component::Redis),
            "ports": [{
                "name": "redis",
                "port": names::REDIS_PORT,
                "targetPort": "redis",
                "protocol": "TCP",
            }],
        }}),
    )
}

fn build_deployment(cluster: &Cluster, memory: u64, hash: String) -> Child {
    child(
        cluster,
        ChildKind::Deployment,
        Component::Redis,
        names::workload(&cluster.name, Component::Redis),
        json!({"spec": {
            "replicas": cluster.decisions.awake(1),
            // Two caches at once would only be filled twice.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": names::selector(&cluster.name, Component::Redis)},
            "template": build_template(cluster, memory, hash),
        }}),
    )
}

fn build_template(cluster: &Cluster, memory: u64, hash: String) -> Value {
    // Its allocator wastes some: half more than it may hold.
    let limit = memory
        .saturating_add(memory / 2)
        .saturating_add(OVERHEAD_BYTES);
    let mut mounts =
        vec![json!({"name": pods::CONFIG_VOLUME, "mountPath": "/holdfast", "readOnly": true})];
    mounts.extend(pods::our_mounts(cluster));
    let container = json!({
        "name": CONTAINER,
        "image": cluster.images.redis,
        "imagePullPolicy": pods::pull_policy(cluster),
        "command": ["/bin/sh", "/holdfast/entrypoint.sh"],
        "env": [pods::secrets_env()],
        "ports": [{"name": "redis", "containerPort": names::REDIS_PORT, "protocol": "TCP"}],
        "readinessProbe": pods::tcp_probe("redis", 2, 3),
        "livenessProbe": pods::tcp_probe("redis", 10, 6),
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"memory": limit.to_string()},
        },
        "securityContext": pods::container_security(),
        "volumeMounts": mounts,
    });
    let config_map = names::workload(&cluster.name, Component::Redis);
    let credentials = names::credentials_secret(&cluster.name);
    let (password, previous) = (
        names::REDIS_PASSWORD_KEY,
        names::REDIS_PASSWORD_PREVIOUS_KEY,
    );
    let mut secrets = pods::secrets_volume(&[(&credentials, &[(password, password)])]);
    // There while the password is exchanged, and else not.
    pods::add_optional(&mut secrets, &credentials, &[(previous, previous)]);
    pods::pod_template(
        cluster,
        Pod {
            component: Component::Redis,
            user: pods::THEIR_USER,
            container,
            volumes: [
                json!({"name": pods::CONFIG_VOLUME, "configMap": {"name": config_map}}),
                secrets,
                pods::memory_tmp_volume(),
            ]
            .into_iter()
            .chain(tls::volume(cluster, Component::Redis))
            .collect(),
            spread: pods::preferred_spread(cluster, Component::Redis),
            apart: false,
            config_hash: Some(hash),
            grace: GRACE_SECONDS,
            template: None,
        },
    )
}

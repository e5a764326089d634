//! Certificates: who has one, for which names, and how pods come by it.
//!
//! Each part mounts a directory with its certificate, its key and the
//! authorities that are trusted. The kubelet replaces all three at once when
//! the Secrets change, and the processes read them again: so nothing of what
//! they hold is in a pod's template, and a new certificate makes no new pod.

use holdfast_crd::{CacheType, IssuerKind, QueueType, StorageClusterSpec, TlsMode};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};
use crate::object::child;
use crate::pods;

/// The volume with certificates.
pub(crate) const VOLUME: &str = "tls";
/// Where it is mounted.
pub(crate) const PATH: &str = "/tls";
/// The variable that tells a process of ours where its certificate is.
pub const DIRECTORY: &str = "HOLDFAST_TLS_DIR";
/// How long a certificate of cert-manager holds, and when it is made anew: 90
/// days and a third of it, as the operator's own.
const DURATION: &str = "2160h";
const RENEW_BEFORE: &str = "720h";

/// Whether the parts of a cluster speak TLS.
pub fn is_on(spec: &StorageClusterSpec) -> bool {
    spec.tls.mode != TlsMode::Disabled
}

/// The parts that have a certificate: all that run, where TLS is on.
pub fn parts(spec: &StorageClusterSpec) -> Vec<Component> {
    if !is_on(spec) {
        return Vec::new();
    }
    let runs = |part: &Component| match part {
        Component::Rabbitmq => spec.queue.kind == QueueType::Managed,
        Component::Redis => spec.cache.kind == CacheType::Managed,
        _ => true,
    };
    Component::WITH_PODS.into_iter().filter(runs).collect()
}

/// The names that a part is called by inside of Kubernetes, and from outside
/// where an Ingress passes TLS on.
pub fn dns_names(
    cluster: &str,
    namespace: &str,
    spec: &StorageClusterSpec,
    part: Component,
) -> Vec<String> {
    let service = names::workload(cluster, part);
    let in_namespace = |name: &str| {
        [
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
        ]
    };
    let short = [service.clone(), format!("{service}.{namespace}")];
    match part {
        Component::Node => in_namespace(&format!("*.{}", names::nodes_service(cluster))).into(),
        Component::Gateway => {
            let ingress = spec.gateway.ingress.iter();
            let hosts = ingress.map(|ingress| ingress.host.clone());
            short
                .into_iter()
                .chain(in_namespace(&service))
                .chain(hosts)
                .collect()
        }
        Component::Rabbitmq | Component::Redis => {
            short.into_iter().chain(in_namespace(&service)).collect()
        }
        // It serves nothing, and has a certificate to show who it is.
        Component::Worker | Component::Cluster => in_namespace(&service).into(),
    }
}

/// The volume with a part's certificate and the authorities.
pub(crate) fn volume(cluster: &Cluster, part: Component) -> Option<Value> {
    is_on(&cluster.spec).then(|| {
        let item = |file: &str| json!({"key": file, "path": file, "mode": pods::SECRET_MODE});
        let own = names::certificate_secret(&cluster.name, part);
        json!({
            "name": VOLUME,
            "projected": {
                "defaultMode": pods::SECRET_MODE,
                "sources": [
                    {"secret": {
                        "name": own,
                        "items": [item(names::CERTIFICATE_KEY), item(names::PRIVATE_KEY_KEY)],
                    }},
                    {"secret": {
                        "name": names::ca_secret(&cluster.name),
                        "items": [item(names::AUTHORITIES_KEY)],
                    }},
                ],
            },
        })
    })
}

/// How it is mounted: as a directory, since a single file would never change.
pub(crate) fn mount(cluster: &Cluster) -> Option<Value> {
    is_on(&cluster.spec).then(|| json!({"name": VOLUME, "mountPath": PATH, "readOnly": true}))
}

/// What tells a process of ours where it is.
pub(crate) fn env(cluster: &Cluster) -> Option<Value> {
    is_on(&cluster.spec).then(|| json!({"name": DIRECTORY, "value": PATH}))
}

/// The scheme of probes of a port that speaks TLS where the others do; left out
/// where it is the default.
pub(crate) fn probe_scheme(cluster: &Cluster) -> Option<&'static str> {
    is_on(&cluster.spec).then_some("HTTPS")
}

/// What cert-manager is asked for, where its kind exists. It writes to Secrets
/// of their own: pods get what is in them when everybody trusts its authority.
pub(crate) fn build_certificates(cluster: &Cluster) -> Vec<Child> {
    let tls = &cluster.spec.tls;
    let issuer = match &tls.issuer_ref {
        Some(issuer) if tls.mode == TlsMode::CertManager => issuer,
        _ => return Vec::new(),
    };
    if !cluster.decisions.kinds.certificate {
        return Vec::new();
    }
    let kind = match issuer.kind {
        IssuerKind::Issuer => "Issuer",
        IssuerKind::ClusterIssuer => "ClusterIssuer",
    };
    parts(&cluster.spec)
        .into_iter()
        .map(|part| {
            child(
                cluster,
                ChildKind::Certificate,
                part,
                names::workload(&cluster.name, part),
                json!({"spec": {
                    "secretName": names::issued_secret(&cluster.name, part),
                    "dnsNames":
                        dns_names(&cluster.name, &cluster.namespace, &cluster.spec, part),
                    "secretTemplate": {"labels": names::labels(&cluster.name, part)},
                    "duration": DURATION,
                    "renewBefore": RENEW_BEFORE,
                    "usages": ["digital signature", "key encipherment", "server auth"],
                    "privateKey": {
                        "algorithm": "ECDSA",
                        "size": 256,
                        "rotationPolicy": "Always",
                    },
                    "issuerRef": {
                        "group": "cert-manager.io",
                        "kind": kind,
                        "name": issuer.name,
                    },
                }}),
            )
        })
        .collect()
}

//! The gateways: a Deployment that loses no request while it rolls, its Service,
//! and where asked an Ingress and an autoscaler.

use holdfast_crd::ServiceType;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::desired::{Child, ChildKind};
use crate::names::{self, Component};
use crate::object::{child, unless_empty};
use crate::pods::{self, Pod};
use crate::{cache, nodes, queue, tls};

/// The container of a gateway.
pub(crate) const CONTAINER: &str = "gateway";
/// How long new connections still come after a pod is told to end: until every
/// machine has taken it out of the Service.
const LEAVE_SECONDS: u32 = 5;
/// With that, and what transfers are given to end in.
const GRACE_SECONDS: u32 = 60;
/// How the most common Ingress controller hears that gateways speak TLS; others
/// go by the Service's appProtocol.
const NGINX_BACKEND: &str = "nginx.ingress.kubernetes.io/backend-protocol";

pub(crate) fn build(cluster: &Cluster) -> Vec<Child> {
    [
        Some(build_service(cluster)),
        Some(build_deployment(cluster)),
        build_ingress(cluster),
        build_autoscaler(cluster),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn build_service(cluster: &Cluster) -> Child {
    let service = &cluster.spec.gateway.service;
    let kind = match service.kind {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    child(
        cluster,
        ChildKind::Service,
        Component::Gateway,
        names::gateway_service(&cluster.name),
        json!({
            "annotations": unless_empty(service.annotations.clone()),
            "spec": {
                "type": kind,
                "selector": names::selector(&cluster.name, Component::Gateway),
                "ports": [{
                    "name": "http",
                    "port": names::GATEWAY_PORT,
                    "targetPort": "http",
                    "protocol": "TCP",
                    // What proxies before it go by.
                    "appProtocol": tls::is_on(&cluster.spec).then_some("https"),
                }],
            },
        }),
    )
}

fn build_deployment(cluster: &Cluster) -> Child {
    let decisions = &cluster.decisions;
    let replicas = if decisions.hibernated {
        Some(0)
    } else {
        decisions.gateway_replicas
    };
    child(
        cluster,
        ChildKind::Deployment,
        Component::Gateway,
        names::workload(&cluster.name, Component::Gateway),
        json!({"spec": {
            "replicas": replicas,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "selector": {"matchLabels": names::selector(&cluster.name, Component::Gateway)},
            "template": build_template(cluster),
        }}),
    )
}

fn build_template(cluster: &Cluster) -> Value {
    let gateway = &cluster.spec.gateway;
    let container = json!({
        "name": CONTAINER,
        "image": cluster.images.gateway,
        "imagePullPolicy": pods::pull_policy(cluster),
        // What it says last is why it does not start: the operator tells it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": environment(cluster),
        "ports": [
            {"name": "http", "containerPort": names::GATEWAY_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": names::METRICS_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": pods::serving_probe("/readyz", "http", tls::probe_scheme(cluster), 2, 3),
        "livenessProbe": pods::http_probe("/healthz", "metrics", 10, 6),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
        "resources": pods::resources(gateway.resources.as_ref(), "256Mi", "1Gi"),
        "securityContext": pods::container_security(),
        "volumeMounts": pods::our_mounts(cluster),
    });
    pods::pod_template(
        cluster,
        Pod {
            component: Component::Gateway,
            user: pods::OUR_USER,
            container,
            volumes: pods::our_volumes(cluster, Component::Gateway),
            spread: pods::preferred_spread(cluster, Component::Gateway),
            apart: false,
            config_hash: None,
            grace: GRACE_SECONDS,
            template: gateway.pod_template.as_ref(),
        },
    )
}

/// What gateways and workers need to find the rest.
pub(crate) fn client_environment(cluster: &Cluster) -> Vec<Value> {
    let mut environment = vec![
        json!({"name": "HOLDFAST_NODES", "value": nodes::first_addresses(cluster).join(",")}),
        queue::address(cluster),
        cache::address(cluster),
        pods::secrets_env(),
        json!({"name": "HOLDFAST_LOG_FORMAT", "value": "json"}),
    ];
    environment.extend(tls::env(cluster));
    environment
}

fn environment(cluster: &Cluster) -> Vec<Value> {
    let mut environment = client_environment(cluster);
    // One certificate has the names of both sides.
    if tls::is_on(&cluster.spec) {
        environment.push(json!({"name": "HOLDFAST_PUBLIC_TLS_DIR", "value": tls::PATH}));
    }
    // Who declares a way in wants links that go that way.
    if let Some(ingress) = &cluster.spec.gateway.ingress {
        let scheme = if ingress.tls_secret_name.is_some() {
            "https"
        } else {
            "http"
        };
        let url = format!("{scheme}://{}", ingress.host);
        environment.push(json!({"name": "HOLDFAST_PUBLIC_URL", "value": url}));
    }
    environment
}

fn build_ingress(cluster: &Cluster) -> Option<Child> {
    let ingress = cluster.spec.gateway.ingress.as_ref()?;
    let tls = ingress
        .tls_secret_name
        .as_ref()
        .map(|secret| json!([{"hosts": [ingress.host], "secretName": secret}]));
    let mut annotations = ingress.annotations.clone();
    if tls::is_on(&cluster.spec) {
        let backend = annotations.entry(NGINX_BACKEND.into());
        backend.or_insert_with(|| "HTTPS".into());
    }
    let backend = json!({"service": {
        "name": names::gateway_service(&cluster.name),
        "port": {"name": "http"},
    }});
    Some(child(
        cluster,
        ChildKind::Ingress,
        Component::Gateway,
        names::gateway_service(&cluster.name),
        json!({
            "annotations": unless_empty(annotations),
            "spec": {
                "ingressClassName": ingress.class_name,
                "tls": tls,
                "rules": [{
                    "host": ingress.host,
                    "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
                }],
            },
        }),
    ))
}

fn build_autoscaler(cluster: &Cluster) -> Option<Child> {
    let autoscale = cluster.spec.gateway.autoscale?;
    let deployment = names::workload(&cluster.name, Component::Gateway);
    Some(child(
        cluster,
        ChildKind::HorizontalPodAutoscaler,
        Component::Gateway,
        deployment.clone(),
        json!({"spec": {
            "scaleTargetRef": {
                "apiVersion": ChildKind::Deployment.api_version(),
                "kind": ChildKind::Deployment.kind(),
                "name": deployment,
            },
            "minReplicas": autoscale.min,
            "maxReplicas": autoscale.max,
            "metrics": [{
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {
                        "type": "Utilization",
                        "averageUtilization": autoscale.target_cpu_percent,
                    },
                },
            }],
        }}),
    ))
}

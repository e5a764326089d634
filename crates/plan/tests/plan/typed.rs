//! Every field is one that Kubernetes knows, spelled as it spells it.

use holdfast_plan::ChildKind;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::{ENCRYPTED, EVERYTHING, EXTERNAL, SMALLEST, plan};

/// The object as its type understands it: what the type does not know is gone.
fn understood<T: Serialize + DeserializeOwned>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    serde_json::to_value(typed).unwrap()
}

#[test]
fn no_field_is_unknown_to_kubernetes() {
    for yaml in [SMALLEST, ENCRYPTED, EVERYTHING, EXTERNAL] {
        for child in plan(yaml).children {
            let object = &child.object;
            let understood = match child.kind {
                ChildKind::ServiceAccount => understood::<ServiceAccount>(object),
                ChildKind::ConfigMap => understood::<ConfigMap>(object),
                ChildKind::Service => understood::<Service>(object),
                ChildKind::NetworkPolicy => understood::<NetworkPolicy>(object),
                ChildKind::PodDisruptionBudget => understood::<PodDisruptionBudget>(object),
                ChildKind::StatefulSet => understood::<StatefulSet>(object),
                ChildKind::Deployment => understood::<Deployment>(object),
                ChildKind::Ingress => understood::<Ingress>(object),
                ChildKind::HorizontalPodAutoscaler => understood::<HorizontalPodAutoscaler>(object),
                // Kinds of others, which have no types here.
                ChildKind::Certificate | ChildKind::ServiceMonitor | ChildKind::PrometheusRule => {
                    continue;
                }
            };
            assert_eq!(object, &understood, "{:?} {}", child.kind, child.name);
        }
    }
}

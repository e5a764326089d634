//! What is written on volume claims: whose they are, and whether they go with
//! the resource.

use std::collections::BTreeMap;

use holdfast_crd::RetentionPolicy;
use holdfast_plan::{Cluster, names};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::api::Patch;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::by_us;
use crate::context::Context;
use crate::error::{Attempt, OperatorError};
use crate::observe::Observed;

/// Labels claims and Secrets with the cluster's identity, and has claims go with
/// the resource where that was asked for: no finalizer is needed then.
///
/// # Errors
/// When the API server refuses.
pub async fn keep_claims(
    context: &Context,
    observed: &Observed,
    cluster: &Cluster,
) -> Result<(), OperatorError> {
    let labels = names::lasting_labels(cluster, names::Component::Node);
    let policy = observed.resource.spec.nodes.storage.retention.when_deleted;
    let owner = (policy == RetentionPolicy::Delete).then(|| names::owner_reference(cluster));
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &observed.namespace);
    for claim in observed.claims.values() {
        let own = observed.resource.uid();
        let owned = claim
            .owner_references()
            .iter()
            .any(|reference| Some(&reference.uid) == own.as_ref());
        if has_labels(claim.labels(), &labels) && owned == owner.is_some() {
            continue;
        }
        let owners: Vec<&Value> = owner.iter().collect();
        let patch = json!({ "metadata": { "labels": labels, "ownerReferences": owners } });
        api.patch(&claim.name_any(), &by_us(), &Patch::Merge(patch))
            .await
            .attempt(|| format!("labelling volume claim {}", claim.name_any()))?;
    }
    label_secrets(context, observed, cluster).await
}

async fn label_secrets(
    context: &Context,
    observed: &Observed,
    cluster: &Cluster,
) -> Result<(), OperatorError> {
    let labels = names::lasting_labels(cluster, names::Component::Cluster);
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &observed.namespace);
    let patch = json!({ "metadata": { "labels": labels } });
    let lacks = |secret: &Secret| !has_labels(secret.labels(), &labels);
    let stored = &observed.certificates;
    // The authority before what trusts it.
    let known = [
        &observed.credentials,
        &observed.admin,
        &stored.authority,
        &stored.trusted,
    ];
    let unlabelled = known.into_iter().flatten().filter(|secret| lacks(secret));
    let unlabelled: Vec<String> = unlabelled.map(ResourceExt::name_any).collect();
    for name in unlabelled {
        api.patch(&name, &by_us(), &Patch::Merge(&patch))
            .await
            .attempt(|| format!("labelling Secret {name}"))?;
    }
    Ok(())
}

fn has_labels(found: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| found.get(key) == Some(value))
}

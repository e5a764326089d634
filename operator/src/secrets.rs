//! The Secrets of a cluster: made once, kept when the resource goes, and found
//! again by a resource of the same name.

use std::collections::BTreeMap;

use holdfast_plan::names;
use holdfast_runtime::Entropy;
use holdfast_runtime::host::system::SystemEntropy;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PostParams};

use crate::apply::by_us;
use crate::context::Context;
use crate::error::{Attempt, OperatorError, is_conflict};
use crate::observe::Observed;

/// Random bytes of each credential.
const CREDENTIAL_BYTES: usize = 32;
/// The key with the first state of a cluster that is being founded, kept before
/// it is sent: an operator that dies in between goes on with the same cluster.
pub const FOUNDING_KEY: &str = "founding";

/// Why no Secret is made: volumes are there whose credentials are not.
pub fn missing_credentials(observed: &Observed) -> Option<String> {
    let name = &observed.name;
    let needed = [
        (
            names::credentials_secret(name),
            observed.credentials.is_none(),
        ),
        (names::admin_secret(name), observed.admin.is_none()),
    ];
    let missing: Vec<String> = needed
        .into_iter()
        .filter(|(_, missing)| *missing)
        .map(|(secret, _)| secret)
        .collect();
    if missing.is_empty() || observed.claims.is_empty() {
        return None;
    }
    Some(format!(
        "volumes of an earlier cluster {name} are there and their Secret {} is not: restore it, or delete the volume claims to begin anew",
        missing.join(" and ")
    ))
}

/// Makes what is not there, and says whether anything was made.
///
/// # Errors
/// When the API server refuses.
pub async fn ensure(context: &Context, observed: &Observed) -> Result<bool, OperatorError> {
    let name = &observed.name;
    let mut made = false;
    if observed.credentials.is_none() {
        let keys = [
            names::CLUSTER_SECRET_KEY,
            names::RABBITMQ_PASSWORD_KEY,
            names::REDIS_PASSWORD_KEY,
            names::ERLANG_COOKIE_KEY,
        ];
        create(context, observed, names::credentials_secret(name), &keys).await?;
        made = true;
    }
    if observed.admin.is_none() {
        let keys = [names::ADMIN_TOKEN_KEY];
        create(context, observed, names::admin_secret(name), &keys).await?;
        made = true;
    }
    Ok(made)
}

async fn create(
    context: &Context,
    observed: &Observed,
    name: String,
    keys: &[&str],
) -> Result<(), OperatorError> {
    let data = keys
        .iter()
        .map(|key| ((*key).to_owned(), ByteString(random().into_bytes())))
        .collect();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(observed.namespace.clone()),
            // No owner: volumes that are kept need it, and clients trust it.
            labels: Some(names::labels(&observed.name, names::Component::Cluster)),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &observed.namespace);
    match api.create(&PostParams::default(), &secret).await {
        Err(error) if is_conflict(&error) => Ok(()),
        made => made.map(|_| ()).attempt(|| format!("making Secret {name}")),
    }
}

/// A new credential.
pub fn random() -> String {
    let mut bytes = [0; CREDENTIAL_BYTES];
    SystemEntropy.fill(&mut bytes);
    hex::encode(bytes)
}

/// The first state that was kept, if one was.
pub fn kept_founding(observed: &Observed) -> Option<Vec<u8>> {
    let data = observed.credentials.as_ref()?.data.as_ref()?;
    data.get(FOUNDING_KEY).map(|bytes| bytes.0.clone())
}

/// Keeps the first state of a cluster.
///
/// # Errors
/// When the API server refuses.
pub async fn keep_founding(
    context: &Context,
    observed: &Observed,
    state: &[u8],
) -> Result<(), OperatorError> {
    let data = BTreeMap::from([(FOUNDING_KEY.to_owned(), ByteString(state.to_vec()))]);
    let name = names::credentials_secret(&observed.name);
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &observed.namespace);
    let patch = Patch::Merge(serde_json::json!({ "data": data }));
    api.patch(&name, &by_us(), &patch)
        .await
        .map(|_| ())
        .attempt(|| format!("keeping the first state in Secret {name}"))
}

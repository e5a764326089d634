//! The first step: what is there, read from the API server and not from a
//! cache, and asked of the cluster's own nodes.

pub mod events;
mod growth;

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use holdfast_crd::StorageCluster;
use holdfast_model::Supported;
use holdfast_plan::{ChildKind, OptionalKinds, names, tls};
use holdfast_runtime::Address;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Secret};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, ResourceExt};

use crate::certificates::stored::Stored;
use crate::context::Context;
use crate::error::{Attempt, OperatorError};
use crate::nodes::{Nodes, Sight};

pub use growth::is_smaller;
use growth::{may_grow, refused_growth};

/// Objects as the API server has them after a write, by kind and name.
pub type Written = BTreeMap<(ChildKind, String), DynamicObject>;

/// Where a machine is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Its zone; a machine without the label is a zone of its own.
    pub zone: String,
    /// Whether the label was there.
    pub labelled: bool,
    /// Whether somebody drains it: it takes no further pods.
    pub cordoned: bool,
}

/// What is there.
pub struct Observed {
    /// The resource.
    pub resource: StorageCluster,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Objects that carry the cluster's labels, by kind and name.
    pub children: BTreeMap<(ChildKind, String), DynamicObject>,
    /// The storage nodes' StatefulSet.
    pub set: Option<StatefulSet>,
    /// Pods of all parts.
    pub pods: Vec<Pod>,
    /// Volume claims of storage nodes, by ordinal.
    pub claims: BTreeMap<u32, PersistentVolumeClaim>,
    /// Volume claims that may be of brokers, by their names.
    pub broker_claims: Vec<PersistentVolumeClaim>,
    /// Whether the claims' class lets them grow; `None` where it is not known.
    pub can_grow: Option<bool>,
    /// Why a claim that asks for more room does not get it.
    pub growth_refused: Option<String>,
    /// Machines that storage nodes run on, by name.
    pub machines: BTreeMap<String, Machine>,
    /// The Secret with what services know each other by.
    pub credentials: Option<Secret>,
    /// The Secret with the first access key.
    pub admin: Option<Secret>,
    /// What its certificates are kept in.
    pub certificates: Stored,
    /// The cluster's nodes, where a credential to call them is there.
    pub nodes: Option<Nodes>,
    /// What they say.
    pub sight: Sight,
    /// Which kinds of others the API server has.
    pub kinds: OptionalKinds,
    /// What this operator can speak.
    pub own: Supported,
}

impl Observed {
    /// Takes over what was written: what is judged after it is what is there now.
    ///
    /// # Errors
    /// When the API server has answered with something else than it was given.
    pub fn take(&mut self, written: Written) -> Result<(), OperatorError> {
        self.children.extend(written);
        self.set = node_set(&self.children, &self.name)?;
        Ok(())
    }

    /// A storage node's pod.
    pub fn node_pod(&self, ordinal: u32) -> Option<&Pod> {
        let name = names::node_pod(&self.name, ordinal);
        self.pods.iter().find(|pod| pod.name_any() == name)
    }

    /// Whether the storage nodes that run speak TLS, by what their pods are made
    /// of; `None` where none are to run.
    pub fn running_encrypted(&self) -> Option<bool> {
        let spec = self.set.as_ref()?.spec.as_ref()?;
        if spec.replicas == Some(0) {
            return None;
        }
        let containers = &spec.template.spec.as_ref()?.containers;
        let mut variables = containers.iter().flat_map(|one| one.env.iter().flatten());
        Some(variables.any(|variable| variable.name == tls::DIRECTORY))
    }

    /// Whether the cluster is called with TLS.
    pub fn encrypts(&self) -> bool {
        let wanted = tls::is_on(&self.resource.spec);
        self.running_encrypted().unwrap_or(wanted)
    }

    /// What a Secret holds, as text.
    pub fn text(secret: Option<&Secret>, key: &str) -> Option<String> {
        let bytes = secret?.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.0.clone()).ok()
    }
}

/// The kind as the API of any objects takes it.
pub fn api_resource(kind: ChildKind) -> ApiResource {
    let (group, version) = kind
        .api_version()
        .split_once('/')
        .unwrap_or(("", kind.api_version()));
    let gvk = GroupVersionKind::gvk(group, version, kind.kind());
    ApiResource::from_gvk_with_plural(&gvk, kind.plural())
}

/// The resource as the API server has it now; `None` where it is gone, or
/// another one has its name. What a watch has shown may be of before an outage.
///
/// # Errors
/// When the API server does not answer.
pub async fn read_resource(
    context: &Context,
    seen: &StorageCluster,
) -> Result<Option<StorageCluster>, OperatorError> {
    let (name, namespace) = (seen.name_any(), seen.namespace().unwrap_or_default());
    let api: Api<StorageCluster> = Api::namespaced(context.client.clone(), &namespace);
    let found = api
        .get_opt(&name)
        .await
        .attempt(|| format!("reading StorageCluster {name}"))?;
    Ok(found.filter(|found| is_meant(found, seen)))
}

/// Whether a resource is the very one that was seen, and stays.
fn is_meant(found: &StorageCluster, seen: &StorageCluster) -> bool {
    found.uid() == seen.uid() && found.metadata.deletion_timestamp.is_none()
}

/// Reads and asks; `None` where the resource is gone or going.
///
/// # Errors
/// When the API server does not answer: nothing is decided then.
pub async fn observe(
    context: &Context,
    seen: &StorageCluster,
) -> Result<Option<Observed>, OperatorError> {
    let (name, namespace) = (seen.name_any(), seen.namespace().unwrap_or_default());
    let kinds = *context.kinds.borrow();
    // All at once: each waits for the API server far longer than it takes it.
    let (resource, children, pods, claims, credentials, admin, certificates) = tokio::try_join!(
        read_resource(context, seen),
        list_children(context, &name, &namespace, kinds),
        list_pods(context, &name, &namespace),
        list_claims(context, &name, &namespace),
        read_secret(context, &namespace, names::credentials_secret(&name)),
        read_secret(context, &namespace, names::admin_secret(&name)),
        Stored::read(context, &namespace, &name),
    )?;
    let Some(resource) = resource else {
        return Ok(None);
    };
    let (claims, broker_claims) = claims;
    let set = node_set(&children, &name)?;
    let (machines, can_grow, growth_refused) = tokio::try_join!(
        read_machines(context, &resource, &name, &pods),
        may_grow(context, &resource, &claims),
        refused_growth(context, &resource, &claims),
    )?;
    let mut observed = Observed {
        resource,
        children,
        set,
        pods,
        claims,
        broker_claims,
        can_grow,
        growth_refused,
        machines,
        credentials,
        admin,
        certificates,
        nodes: None,
        sight: Sight::default(),
        kinds,
        own: context.supports,
        name,
        namespace,
    };
    ask_nodes(context, &mut observed).await?;
    Ok(Some(observed))
}

async fn ask_nodes(context: &Context, observed: &mut Observed) -> Result<(), OperatorError> {
    let secret = observed.credentials.as_ref();
    let Some(credential) = Observed::text(secret, names::CLUSTER_SECRET_KEY) else {
        return Ok(());
    };
    let authorities = observed.certificates.authorities();
    let encrypted = observed.encrypts();
    if encrypted && authorities.is_empty() {
        return Ok(());
    }
    let authorities = encrypted.then_some(authorities.as_slice());
    let env = context.env(&observed.resource, &credential, authorities)?;
    let pods = observed.pods.iter();
    let addresses: BTreeMap<u32, Address> = pods
        .filter_map(|pod| names::node_ordinal(&observed.name, &pod.name_any()))
        .map(|ordinal| {
            let address = names::node_address(&observed.name, &observed.namespace, ordinal);
            (ordinal, Address(address))
        })
        .collect();
    let nodes = Nodes::new(env, addresses);
    observed.sight = nodes.look().await;
    observed.nodes = Some(nodes);
    Ok(())
}

fn node_set(
    children: &BTreeMap<(ChildKind, String), DynamicObject>,
    name: &str,
) -> Result<Option<StatefulSet>, OperatorError> {
    let found = children.get(&(ChildKind::StatefulSet, names::node_set(name)));
    found
        .map(|object| {
            let value = serde_json::to_value(object);
            value
                .and_then(serde_json::from_value)
                .map_err(|error| OperatorError::Malformed(format!("the StatefulSet: {error}")))
        })
        .transpose()
}

async fn list_children(
    context: &Context,
    name: &str,
    namespace: &str,
    kinds: OptionalKinds,
) -> Result<BTreeMap<(ChildKind, String), DynamicObject>, OperatorError> {
    let there = ChildKind::ALL.into_iter().filter(|kind| kinds.has(*kind));
    let params = ListParams::default().labels(&names::instance_selector(name));
    let lists = try_join_all(there.map(|kind| {
        let resource = api_resource(kind);
        let api: Api<DynamicObject> =
            Api::namespaced_with(context.client.clone(), namespace, &resource);
        let params = &params;
        async move {
            let list = api
                .list(params)
                .await
                .attempt(|| format!("listing {}", kind.plural()))?;
            Ok::<_, OperatorError>((kind, list.items))
        }
    }))
    .await?;
    Ok(lists
        .into_iter()
        .flat_map(|(kind, items)| {
            items
                .into_iter()
                .map(move |item| ((kind, item.name_any()), item))
        })
        .collect())
}

async fn list_pods(
    context: &Context,
    name: &str,
    namespace: &str,
) -> Result<Vec<Pod>, OperatorError> {
    let selector = format!(
        "{}={},{}={name}",
        names::NAME_LABEL,
        names::APPLICATION,
        names::INSTANCE_LABEL
    );
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let list = api
        .list(&ListParams::default().labels(&selector))
        .await
        .attempt(|| "listing pods".into())?;
    Ok(list.items)
}

/// Claims are found by name: those of a resource that was deleted carry the
/// labels of their template, and a person may have made one.
async fn list_claims(
    context: &Context,
    name: &str,
    namespace: &str,
) -> Result<
    (
        BTreeMap<u32, PersistentVolumeClaim>,
        Vec<PersistentVolumeClaim>,
    ),
    OperatorError,
> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let list = api
        .list(&ListParams::default())
        .await
        .attempt(|| "listing volume claims".into())?;
    let prefix = format!("{}-", names::NODE_CLAIM);
    let brokers = format!(
        "{}-{}-",
        names::RABBITMQ_CLAIM,
        names::workload(name, names::Component::Rabbitmq)
    );
    let mut nodes = BTreeMap::new();
    let mut of_brokers = Vec::new();
    for claim in list.items {
        let own = claim.name_any();
        let pod = own.strip_prefix(&prefix);
        if let Some(ordinal) = pod.and_then(|pod| names::node_ordinal(name, pod)) {
            nodes.insert(ordinal, claim);
        } else if own.starts_with(&brokers) {
            of_brokers.push(claim);
        }
    }
    Ok((nodes, of_brokers))
}

/// A Secret, where it is there.
///
/// # Errors
/// When the API server does not answer.
pub async fn read_secret(
    context: &Context,
    namespace: &str,
    name: String,
) -> Result<Option<Secret>, OperatorError> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    api.get_opt(&name)
        .await
        .attempt(|| format!("reading Secret {name}"))
}

async fn read_machines(
    context: &Context,
    resource: &StorageCluster,
    name: &str,
    pods: &[Pod],
) -> Result<BTreeMap<String, Machine>, OperatorError> {
    let key = &resource.spec.nodes.placement.zone_key;
    let mut wanted: Vec<String> = pods
        .iter()
        .filter(|pod| names::node_ordinal(name, &pod.name_any()).is_some())
        .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
        .collect();
    wanted.sort();
    wanted.dedup();
    let api: Api<Node> = Api::all(context.client.clone());
    let read = wanted.into_iter().map(|machine| {
        let api = api.clone();
        async move {
            let found = api
                .get_opt(&machine)
                .await
                .attempt(|| format!("reading the labels of machine {machine}"))?;
            let spec = found.as_ref().and_then(|node| node.spec.as_ref());
            let cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
            let label = found.and_then(|node| node.labels().get(key).cloned());
            let place = Machine {
                cordoned,
                labelled: label.is_some(),
                zone: label.unwrap_or_else(|| machine.clone()),
            };
            Ok::<_, OperatorError>((machine, place))
        }
    });
    Ok(try_join_all(read).await?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_going_or_has_taken_anothers_name_is_not_meant() {
        let resource = |uid: &str, deleted: Option<&str>| -> StorageCluster {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "holdfast.dev/v1alpha1",
                "kind": "StorageCluster",
                "metadata": {"name": "demo", "uid": uid, "deletionTimestamp": deleted},
                "spec": {"nodes": {"storage": {"size": "100Gi"}}},
            }))
            .unwrap()
        };
        let seen = resource("first", None);
        assert!(is_meant(&resource("first", None), &seen));
        assert!(!is_meant(&resource("second", None), &seen));
        let going = resource("first", Some("2026-01-01T00:00:00Z"));
        assert!(!is_meant(&going, &seen));
    }
}

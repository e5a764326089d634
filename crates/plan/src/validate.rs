//! From a resource to what the builders read, or to sentences that say what to
//! change.
//!
//! The schema's own rules were checked by the API server; here is what they
//! cannot say.

use std::fmt;

use holdfast_crd::{CacheType, PodTemplate, QueueType, StorageCluster, StorageClusterSpec};

use crate::cluster::{Cluster, Decisions, Images};
use crate::desired::Child;
use crate::names::Component;
use crate::{budget, cache, gateway, nodes, quantity, queue, template, tls, worker};

/// The longest name of a resource. What is made of it must fit the 63 characters
/// of a label: the longest is the revision of RabbitMQ's StatefulSet,
/// `NAME-rabbitmq-abcde-0123456789`.
pub const MAX_NAME_CHARACTERS: usize = 37;
/// Below this Redis evicts what it has just taken.
const MIN_CACHE_BYTES: u64 = 16 << 20;

/// Why nothing is made of a resource: stable words for programs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The name makes no names of Services.
    NameInvalid,
    /// Name, namespace or identity are missing.
    MetadataIncomplete,
    /// Nothing says which release runs.
    TagMissing,
    /// Running pods cannot be taken from plain text to TLS, or back.
    TlsModeChanges,
    /// A podTemplate says what is not its to say.
    PodTemplateRefused,
    /// The cache is too small, or its size no number.
    CacheMemoryInvalid,
    /// External without a Secret, which the schema refuses as well.
    ExternalMissing,
    /// An autoscaler has nothing to reckon with.
    AutoscaleNeedsCpuRequest,
}

impl Reason {
    /// As conditions have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NameInvalid => "NameInvalid",
            Self::MetadataIncomplete => "MetadataIncomplete",
            Self::TagMissing => "TagMissing",
            Self::TlsModeChanges => "TlsModeChanges",
            Self::PodTemplateRefused => "PodTemplateRefused",
            Self::CacheMemoryInvalid => "CacheMemoryInvalid",
            Self::ExternalMissing => "ExternalMissing",
            Self::AutoscaleNeedsCpuRequest => "AutoscaleNeedsCpuRequest",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that contradicts itself, or what there is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct Contradiction {
    /// Which, for programs.
    pub reason: Reason,
    /// What to change, for people.
    pub sentence: String,
}

fn contradiction(reason: Reason, sentence: impl Into<String>) -> Contradiction {
    Contradiction {
        reason,
        sentence: sentence.into(),
    }
}

/// Makes of `resource`, and of what was decided about it, what the builders read.
///
/// # Errors
/// Everything that must be changed first.
pub fn validate(
    resource: &StorageCluster,
    decisions: Decisions,
) -> Result<Cluster, Vec<Contradiction>> {
    let metadata = &resource.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let uid = metadata.uid.clone().unwrap_or_default();
    let spec = &resource.spec;
    let tag = spec.image.tag.as_ref().unwrap_or(&decisions.tag);
    let wrong: Vec<Contradiction> = [
        check_name(&name),
        check_identity(&namespace, &uid),
        check_tag(tag),
        check_tls(spec, &decisions),
        check_cache(spec),
        check_external(spec),
        check_autoscale(spec),
    ]
    .into_iter()
    .flatten()
    .chain(check_templates(spec))
    .collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(unchecked(resource, decisions))
}

/// The disruption budgets of a resource, also of one that contradicts itself: what
/// runs is to be guarded whatever is asked for. None where nothing can have been
/// made of it, its name being what it is.
pub fn budgets(resource: &StorageCluster, decisions: Decisions) -> Vec<Child> {
    let cluster = unchecked(resource, decisions);
    let named = check_name(&cluster.name).is_none();
    if !named || check_identity(&cluster.namespace, &cluster.uid).is_some() {
        return Vec::new();
    }
    budget::build_budgets(&cluster)
}

fn unchecked(resource: &StorageCluster, decisions: Decisions) -> Cluster {
    let metadata = &resource.metadata;
    let spec = &resource.spec;
    let tag = spec.image.tag.as_ref().unwrap_or(&decisions.tag);
    Cluster {
        name: metadata.name.clone().unwrap_or_default(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        images: images(spec, tag),
        spec: spec.clone(),
        decisions,
    }
}

fn images(spec: &StorageClusterSpec, tag: &str) -> Images {
    let ours = |part: &str| format!("{}/{part}:{tag}", spec.image.repository);
    let queue = spec.queue.managed.as_ref();
    let cache = spec.cache.managed.as_ref();
    let theirs = |given: Option<&String>, tested: &str| {
        given.map_or_else(|| tested.to_owned(), Clone::clone)
    };
    Images {
        storage: ours("storage"),
        gateway: ours("gateway"),
        worker: ours("worker"),
        rabbitmq: theirs(queue.and_then(|queue| queue.image.as_ref()), queue::IMAGE),
        redis: theirs(cache.and_then(|cache| cache.image.as_ref()), cache::IMAGE),
        pull_policy: spec.image.pull_policy,
        pull_secrets: spec.image.pull_secrets.clone(),
    }
}

fn check_name(name: &str) -> Option<Contradiction> {
    let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let good = name.len() <= MAX_NAME_CHARACTERS
        && name.starts_with(|letter: char| letter.is_ascii_lowercase())
        && name.ends_with(letters)
        && name.chars().all(|letter| letters(letter) || letter == '-');
    (!good).then(|| {
        contradiction(
            Reason::NameInvalid,
            format!(
                "the name '{name}' begins the names of Services and labels: make a StorageCluster \
                 with a name of at most {MAX_NAME_CHARACTERS} lower-case letters, digits and \
                 hyphens that begins with a letter and does not end with a hyphen"
            ),
        )
    })
}

fn check_identity(namespace: &str, uid: &str) -> Option<Contradiction> {
    (namespace.is_empty() || uid.is_empty()).then(|| {
        contradiction(
            Reason::MetadataIncomplete,
            "metadata.namespace or metadata.uid is missing: only a resource that an API server \
             has taken can own others",
        )
    })
}

fn check_tag(tag: &str) -> Option<Contradiction> {
    tag.is_empty().then(|| {
        contradiction(
            Reason::TagMissing,
            "no release was recorded for this resource: set spec.image.tag",
        )
    })
}

/// Nodes that speak TLS and nodes that do not cannot hear each other: a round
/// from one to the other would lose the quorum in its middle.
fn check_tls(spec: &StorageClusterSpec, decisions: &Decisions) -> Option<Contradiction> {
    let wanted = tls::is_on(spec);
    let changes = decisions.encrypted.is_some_and(|now| now != wanted);
    (changes && !decisions.hibernated).then(|| {
        let (now, back) = if wanted {
            ("does not encrypt", "Disabled")
        } else {
            ("encrypts", "what it was")
        };
        contradiction(
            Reason::TlsModeChanges,
            format!(
                "the cluster that runs {now}, and pods of both kinds cannot hear each other: set \
                 spec.tls.mode to {back}, spec.hibernate to true, wait for the phase Hibernated, \
                 change the mode then, and set spec.hibernate to false"
            ),
        )
    })
}

fn check_cache(spec: &StorageClusterSpec) -> Option<Contradiction> {
    if spec.cache.kind != CacheType::Managed {
        return None;
    }
    let memory = spec.cache.managed.clone().unwrap_or_default().memory;
    let enough = quantity::bytes(&memory).is_some_and(|bytes| bytes >= MIN_CACHE_BYTES);
    (!enough).then(|| {
        contradiction(
            Reason::CacheMemoryInvalid,
            format!(
                "spec.cache.managed.memory is {}: set it to at least {}Mi",
                memory.0,
                MIN_CACHE_BYTES >> 20
            ),
        )
    })
}

fn check_external(spec: &StorageClusterSpec) -> Option<Contradiction> {
    let queue = spec.queue.kind == QueueType::External && spec.queue.external.is_none();
    let cache = spec.cache.kind == CacheType::External && spec.cache.external.is_none();
    let missing = match (queue, cache) {
        (false, false) => return None,
        (true, false) => "spec.queue",
        (false, true) => "spec.cache",
        (true, true) => "spec.queue and spec.cache",
    };
    Some(contradiction(
        Reason::ExternalMissing,
        format!("{missing}: set external.secretName, as the type is External"),
    ))
}

/// A share of nothing is nothing that can be aimed at.
fn check_autoscale(spec: &StorageClusterSpec) -> Option<Contradiction> {
    let gateway = &spec.gateway;
    let (_, resources) = (gateway.autoscale?, gateway.resources.as_ref()?);
    let has_cpu = |quantities: &Option<std::collections::BTreeMap<String, _>>| {
        quantities
            .as_ref()
            .is_some_and(|quantities| quantities.contains_key("cpu"))
    };
    // Without a request, Kubernetes takes the limit for one.
    (!has_cpu(&resources.requests) && !has_cpu(&resources.limits)).then(|| {
        contradiction(
            Reason::AutoscaleNeedsCpuRequest,
            "spec.gateway.autoscale aims at a share of the processor time that is requested: set \
             spec.gateway.resources.requests.cpu",
        )
    })
}

fn check_templates(spec: &StorageClusterSpec) -> Vec<Contradiction> {
    let parts: [(&str, Component, &str, Option<&PodTemplate>); 3] = [
        (
            "nodes",
            Component::Node,
            nodes::CONTAINER,
            spec.nodes.pod_template.as_ref(),
        ),
        (
            "gateway",
            Component::Gateway,
            gateway::CONTAINER,
            spec.gateway.pod_template.as_ref(),
        ),
        (
            "worker",
            Component::Worker,
            worker::CONTAINER,
            spec.worker.pod_template.as_ref(),
        ),
    ];
    let mut wrong = Vec::new();
    for (field, component, container, given) in parts {
        for refusal in given
            .map(|given| template::refusals(given, component, container))
            .unwrap_or_default()
        {
            wrong.push(contradiction(
                Reason::PodTemplateRefused,
                format!("spec.{field}.podTemplate: {refusal}: take it out"),
            ));
        }
    }
    wrong
}

//! How brokers of another number, or on volumes of another size, take the place
//! of those that are there: they start beside them, the Service goes over when all
//! of them are ready, then the old ones go, with their volumes. What waited in the
//! old ones is given again by the outboxes of the groups.
//!
//! The queue has a majority of the brokers that it was declared with: taken away
//! one by one they leave it without, and those that are added never carry it. So
//! each shape of brokers has a StatefulSet of its own.
//!
//! Read off the objects that are there, so that any operator goes on with it.

use holdfast_plan::brokers::{LABEL, is_claim_of};
use holdfast_plan::{Child, ChildKind, DesiredState, names};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::DynamicObject;
use names::Component;
use serde_json::Value;

use super::switch::{Children, find, is_asleep, is_of, is_workload};
use crate::workloads::{Round, round};

/// The objects of a set of brokers, which have its name.
const OF_A_SET: [ChildKind; 2] = [ChildKind::StatefulSet, ChildKind::ConfigMap];
/// What the Service selects by.
const SELECTOR: &str = "/spec/selector";

/// What is to be done about brokers.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Handover {
    /// The set that serves, and is not the one that is wanted.
    pub(super) stays: Option<String>,
    /// The set that is made in this round.
    pub(super) begins: Option<String>,
}

impl Handover {
    /// Whether an object is of the set that still serves.
    pub(super) fn keeps(&self, kind: ChildKind, name: &str) -> bool {
        OF_A_SET.contains(&kind) && self.stays.as_deref() == Some(name)
    }
}

/// Leaves the Service with the brokers that it has until the others are ready.
/// `exchanged` is whether their login is being exchanged: brokers that start then
/// would know one of two.
pub(super) fn hold_back(
    cluster: &str,
    live: &Children,
    desired: &mut DesiredState,
    exchanged: bool,
) -> Handover {
    let wanted = find(desired, Component::Rabbitmq, ChildKind::StatefulSet);
    let Some(wanted) = wanted.filter(|wanted| !is_asleep(&wanted.object)) else {
        return Handover::default();
    };
    let Some(stays) = serving(cluster, live).filter(|set| *set != wanted.name) else {
        return Handover::default();
    };
    let name = wanted.name.clone();
    let there = live.get(&(ChildKind::StatefulSet, name.clone()));
    let ready = there.is_some_and(|there| is_ready(there, &wanted.object));
    let begins = there.is_none() && !exchanged;
    if !ready {
        keep_selector(cluster, live, desired);
    }
    if there.is_none() && exchanged {
        let of_it = |child: &Child| OF_A_SET.contains(&child.kind) && child.name == name;
        desired.children.retain(|child| !of_it(child));
    }
    Handover {
        stays: Some(stays),
        begins: begins.then_some(name),
    }
}

/// The set that the Service names, if it is there.
pub fn serving(cluster: &str, live: &Children) -> Option<String> {
    let service = live.get(&service_key(cluster))?;
    let selector = service.data.pointer(SELECTOR)?;
    let set = selector.get(LABEL)?.as_str()?.to_owned();
    let there = live.get(&(ChildKind::StatefulSet, set.clone()))?;
    there.metadata.deletion_timestamp.is_none().then_some(set)
}

/// Whether more than one set of brokers is there.
pub fn are_changing(live: &Children) -> bool {
    let sets = live.iter().filter(|((kind, _), object)| {
        *kind == ChildKind::StatefulSet && is_of(object, &[Component::Rabbitmq])
    });
    sets.count() > 1
}

/// Whether a set must not be made before the volumes of one with its name, which
/// is going, are gone.
pub(super) fn must_wait(
    child: &Child,
    live: Option<&DynamicObject>,
    claims: &[PersistentVolumeClaim],
) -> bool {
    if !is_workload(child, Component::Rabbitmq, ChildKind::StatefulSet) {
        return false;
    }
    match live {
        Some(live) => live.metadata.deletion_timestamp.is_some(),
        None => claims
            .iter()
            .any(|claim| is_claim_of(&child.name, &claim.name_any()) && is_leaving(claim)),
    }
}

fn service_key(cluster: &str) -> (ChildKind, String) {
    (ChildKind::Service, names::rabbitmq_service(cluster))
}

/// Whether all brokers of a set are there, as it is to be.
fn is_ready(live: &DynamicObject, wanted: &Value) -> bool {
    let wanted = wanted.pointer("/spec/replicas").and_then(Value::as_i64);
    let stays = live.metadata.deletion_timestamp.is_none();
    serde_json::to_value(live).is_ok_and(|live| {
        let ready = live
            .pointer("/status/readyReplicas")
            .and_then(Value::as_i64);
        let done = round(ChildKind::StatefulSet, &live) == Round::Done;
        stays && done && ready.is_some() && ready >= wanted
    })
}

fn keep_selector(cluster: &str, live: &Children, desired: &mut DesiredState) {
    let key = service_key(cluster);
    let kept = live
        .get(&key)
        .and_then(|service| service.data.pointer(SELECTOR));
    let mut children = desired.children.iter_mut();
    let service = children.find(|child| (child.kind, &child.name) == (key.0, &key.1));
    let selector = service.and_then(|service| service.object.pointer_mut(SELECTOR));
    if let (Some(selector), Some(kept)) = (selector, kept) {
        *selector = kept.clone();
    }
}

/// Whether a claim goes with a StatefulSet that is gone.
fn is_leaving(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_some() || !claim.owner_references().is_empty()
}

#[cfg(test)]
#[path = "brokers_tests.rs"]
mod tests;

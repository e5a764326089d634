//! The fourth step: makes the API server's objects what was planned, and does
//! what was decided.
//!
//! An object is written only when it lacks something of what is desired, or was
//! made of something else, so that an idle cluster costs reads alone. What is no
//! longer desired is pruned from the same list.

pub mod brokers;
mod claims;
mod digest;
mod founding;
mod handover;
mod order;
mod owners;
mod steps;
mod switch;

use holdfast_plan::{Child, ChildKind, DesiredState, names};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::context::Context;
use crate::credentials::settle::login_is_exchanged;
use crate::drift;
use crate::error::{Attempt, OperatorError, is_late, is_missing, refusal};
use crate::observe::{Observed, Written, api_resource};

pub use claims::keep_claims;
pub use steps::take_steps;

/// Something that the API server refuses: a field that cannot change, a quota.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// A word for programs.
    pub reason: &'static str,
    /// The object.
    pub object: String,
    /// What the API server says.
    pub why: String,
}

/// What came of applying.
#[derive(Default)]
pub struct Applied {
    /// What is there now of what was written.
    pub written: Written,
    /// What was refused.
    pub refused: Vec<Refused>,
    /// Workloads of which something waits for others.
    pub held: Vec<String>,
}

/// How what is written not as a whole is written: by the one manager of ours.
pub fn by_us() -> PatchParams {
    PatchParams {
        field_manager: Some(names::MANAGED_BY.into()),
        ..PatchParams::default()
    }
}

/// Writes what differs and prunes what is not desired.
///
/// # Errors
/// When the API server does not answer, or a right is missing.
pub async fn apply_children(
    context: &Context,
    observed: &Observed,
    desired: DesiredState,
) -> Result<Applied, OperatorError> {
    let mut applied = Applied::default();
    let mut desired = order::hold_back(observed, desired, &mut applied.held);
    let kept = switch::hold_back(
        &observed.name,
        &observed.children,
        &mut desired,
        &mut applied.held,
    );
    let exchanged = login_is_exchanged(observed);
    let handover = brokers::hold_back(&observed.name, &observed.children, &mut desired, exchanged);
    if let Some(set) = &handover.begins {
        say_brokers_begin(context, observed, set).await;
    }
    for child in &desired.children {
        let key = (child.kind, child.name.clone());
        let live = observed.children.get(&key);
        if brokers::must_wait(child, live, &observed.broker_claims) {
            continue;
        }
        match apply_child(context, observed, &desired, child, live).await {
            Ok(None) => {}
            Ok(Some(object)) => {
                applied.written.insert(key, object);
            }
            Err(error) => applied.refused.push(refused(child, error)?),
        }
    }
    for ((kind, name), live) in &observed.children {
        let wanted = |child: &Child| child.kind == *kind && child.name == *name;
        let stays = switch::is_of(live, &kept) || handover.keeps(*kind, name);
        let goes = !stays && !desired.children.iter().any(wanted);
        if goes && is_ours(observed, live) {
            prune(context, observed, *kind, name, live).await?;
        }
    }
    Ok(applied)
}

/// Keeps disruption budgets true, whatever else is held: one that is left at 1
/// while objects lack copies gives the next one away. `only_less` is for who may
/// not be sure of what it sees.
///
/// # Errors
/// When the API server does not answer, or a right is missing.
pub async fn keep_budgets(
    context: &Context,
    observed: &Observed,
    budgets: Vec<Child>,
    only_less: bool,
) -> Result<Written, OperatorError> {
    let mut written = Written::new();
    // Before there are nodes there is nothing to guard.
    if observed.set.is_none() {
        return Ok(written);
    }
    let desired = DesiredState { children: budgets };
    for child in &desired.children {
        let key = (child.kind, child.name.clone());
        let live = observed.children.get(&key);
        if only_less && !allows_less(&child.object, live) {
            continue;
        }
        if let Some(object) = apply_child(context, observed, &desired, child, live).await? {
            written.insert(key, object);
        }
    }
    Ok(written)
}

/// Whether a budget is to allow fewer than the one that is there.
fn allows_less(desired: &Value, live: Option<&DynamicObject>) -> bool {
    let allowed = |object: &Value| object.pointer("/spec/maxUnavailable")?.as_u64();
    let now = live.and_then(|live| allowed(&live.data));
    allowed(desired) < now
}

/// What was refused for what it says; any other error is one.
fn refused(child: &Child, error: OperatorError) -> Result<Refused, OperatorError> {
    match refusal(&error) {
        None => Err(error),
        Some((reason, why)) => Ok(Refused {
            reason,
            object: format!("{} {}", child.kind.kind(), child.name),
            why,
        }),
    }
}

/// Writes one object where it is not as desired. Answers what was written.
async fn apply_child(
    context: &Context,
    observed: &Observed,
    desired: &DesiredState,
    child: &Child,
    live: Option<&DynamicObject>,
) -> Result<Option<DynamicObject>, OperatorError> {
    let mut object = child.object.clone();
    let live = live
        .map(serde_json::to_value)
        .transpose()
        .map_err(|error| OperatorError::Malformed(error.to_string()))?;
    if let (Some(live), ChildKind::StatefulSet) = (&live, child.kind) {
        keep_claim_templates(&mut object, live);
    }
    digest::note(&mut object);
    let difference = match &live {
        None => "it is not there".to_owned(),
        // What was ours and is not any more is not another's: it goes with the rest.
        Some(live) if !digest::is_same(&object, live) => "it is made of something else".to_owned(),
        Some(live) => {
            let taken = remove_foreign(context, observed, child, (&object, live)).await?;
            match drift::first_difference(&object, live) {
                Some(difference) => difference,
                None if taken.is_some() => return Ok(taken),
                None => match take_back(context, observed, child, (&object, live)).await? {
                    Some(others) => format!("{others} claimed some of it"),
                    None => return Ok(None),
                },
            }
        }
    };
    tracing::info!(
        namespace = observed.namespace,
        kind = child.kind.kind(),
        name = child.name,
        difference,
        "applying"
    );
    metrics::counter!("holdfast_operator_writes_total", "kind" => child.kind.kind()).increment(1);
    if let Some(number) = handover::plan(desired, child, live.as_ref()) {
        let params = PatchParams::apply(handover::MANAGER).force();
        patch(context, observed, child, &params, Patch::Apply(number)).await?;
    }
    let params = PatchParams::apply(names::MANAGED_BY).force();
    let written = patch(context, observed, child, &params, Patch::Apply(object)).await?;
    Ok(Some(written))
}

async fn patch(
    context: &Context,
    observed: &Observed,
    child: &Child,
    params: &PatchParams,
    patch: Patch<Value>,
) -> Result<DynamicObject, OperatorError> {
    let resource = api_resource(child.kind);
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &observed.namespace, &resource);
    api.patch(&child.name, params, &patch)
        .await
        .attempt(|| format!("applying {} {}", child.kind.kind(), child.name))
}

/// Takes out what others have put into an object, and says so.
async fn remove_foreign(
    context: &Context,
    observed: &Observed,
    child: &Child,
    (desired, live): (&Value, &Value),
) -> Result<Option<DynamicObject>, OperatorError> {
    let foreign = drift::foreign_parts(desired, live);
    if foreign.is_empty() {
        return Ok(None);
    }
    let sentence = format!(
        "{} {} had {} beside what is ours",
        child.kind.kind(),
        child.name,
        foreign.join(", ")
    );
    let resource = &observed.resource;
    context
        .say(resource, "drift", true, "ForeignPartsRemoved", sentence)
        .await;
    let mut own = drift::own_parts(desired, live);
    of_version(&mut own, live);
    match patch(context, observed, child, &by_us(), Patch::Merge(own)).await {
        // What has changed it starts another round.
        Err(error) if is_late(&error) => Ok(None),
        written => written.map(Some),
    }
}

/// Takes from others what they claim of ours. Answers who they are.
async fn take_back(
    context: &Context,
    observed: &Observed,
    child: &Child,
    (desired, live): (&Value, &Value),
) -> Result<Option<String>, OperatorError> {
    let Some(claimed) = owners::claimed(desired, live) else {
        return Ok(None);
    };
    let others = claimed.managers.join(", ");
    let claim = format!("{:?} {} {}", child.kind, child.name, claimed.claim);
    let resource = &observed.resource;
    if context.memory.was_taken_back(resource, &claim) {
        return Ok(None);
    }
    let mut without = json!({"metadata": {"managedFields": claimed.without}});
    of_version(&mut without, live);
    match patch(context, observed, child, &by_us(), Patch::Merge(without)).await {
        Err(error) if is_late(&error) => return Ok(None),
        written => written?,
    };
    context.memory.note_taken_back(resource, claim);
    Ok(Some(others))
}

/// Has a patch refused by an object that is another one by now.
fn of_version(patch: &mut Value, live: &Value) {
    let version = live.pointer("/metadata/resourceVersion").cloned();
    if let (Some(version), Some(patch)) = (version, patch.as_object_mut()) {
        let metadata = patch.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".into(), version);
        }
    }
}

/// A StatefulSet's claim templates are fixed once it is made: growing volumes
/// has steps of its own.
fn keep_claim_templates(object: &mut Value, live: &Value) {
    let templates = live.pointer("/spec/volumeClaimTemplates").cloned();
    let spec = object.get_mut("spec").and_then(Value::as_object_mut);
    if let (Some(templates), Some(spec)) = (templates, spec) {
        spec.insert("volumeClaimTemplates".into(), templates);
    }
}

/// Only what this very resource owns is pruned.
fn is_ours(observed: &Observed, live: &DynamicObject) -> bool {
    let own = observed.resource.metadata.uid.as_ref();
    let mut owners = live.owner_references().iter();
    own.is_some() && owners.any(|owner| Some(&owner.uid) == own)
}

async fn say_brokers_begin(context: &Context, observed: &Observed, set: &str) {
    let sentence = format!(
        "the brokers of StatefulSet {set} start, and take over when all of them are ready: their number or the size of their volumes changes"
    );
    let resource = &observed.resource;
    context
        .say(resource, "brokers", false, "BrokersReplaced", sentence)
        .await;
}

async fn prune(
    context: &Context,
    observed: &Observed,
    kind: ChildKind,
    name: &str,
    live: &DynamicObject,
) -> Result<(), OperatorError> {
    let resource = api_resource(kind);
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &observed.namespace, &resource);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: live.uid(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    tracing::info!(
        namespace = observed.namespace,
        kind = kind.kind(),
        name,
        "pruning"
    );
    match api.delete(name, &params).await {
        Err(error) if is_missing(&error) => Ok(()),
        done => done
            .map(|_| ())
            .attempt(|| format!("deleting {} {name}", kind.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_sure_makes_a_budget_smaller_and_never_larger() {
        let budget = |allowed: u64| json!({"spec": {"maxUnavailable": allowed}});
        let live = |allowed: u64| -> DynamicObject {
            let mut object = budget(allowed);
            object["metadata"] = json!({"name": "demo-node"});
            serde_json::from_value(object).unwrap()
        };
        assert!(allows_less(&budget(0), Some(&live(1))));
        assert!(!allows_less(&budget(1), Some(&live(0))));
        assert!(!allows_less(&budget(0), Some(&live(0))));
        assert!(!allows_less(&budget(0), None));
    }

    #[test]
    fn a_patch_of_what_was_read_is_refused_by_what_has_changed() {
        let live = json!({"metadata": {"resourceVersion": "7"}});
        let mut patch = json!({"spec": {"a": 1}});
        of_version(&mut patch, &live);
        assert_eq!(
            patch,
            json!({"spec": {"a": 1}, "metadata": {"resourceVersion": "7"}})
        );
    }
}

//! The fourth step: makes the API server's objects what was planned, and does
//! what was decided.
//!
//! An object is written only when it lacks something of what is desired, or was
//! made of something else, so that an idle cluster costs reads alone. What is no
//! longer desired is pruned from the same list.

mod brokers;
mod claims;
mod digest;
mod founding;
mod order;
mod steps;
mod switch;

use holdfast_plan::{Child, ChildKind, DesiredState, names};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::context::Context;
use crate::drift;
use crate::error::{Attempt, OperatorError, is_missing};
use crate::observe::{Observed, api_resource};
use brokers::Brokers;

pub use claims::keep_claims;
pub use steps::take_steps;

/// Something that the API server refuses for good: a field that cannot change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The object.
    pub object: String,
    /// What the API server says.
    pub why: String,
}

/// Writes what differs and prunes what is not desired. Answers what was refused.
///
/// # Errors
/// When the API server does not answer, or a right is missing.
pub async fn apply_children(
    context: &Context,
    observed: &Observed,
    desired: DesiredState,
) -> Result<Vec<Refused>, OperatorError> {
    let mut desired = order::hold_back(observed, desired);
    let kept = switch::hold_back(&observed.name, &observed.children, &mut desired);
    let mut refused = Vec::new();
    for child in &desired.children {
        let live = observed.children.get(&(child.kind, child.name.clone()));
        match brokers::decide(observed, child, live) {
            Brokers::Apply => {}
            Brokers::Delete => {
                replace_brokers(context, observed, child, live).await?;
                continue;
            }
            Brokers::Wait => continue,
        }
        if let Err(error) = apply_child(context, observed, child, live).await {
            match refusal(&error) {
                Some(why) => refused.push(Refused {
                    object: format!("{} {}", child.kind.kind(), child.name),
                    why,
                }),
                None => return Err(error),
            }
        }
    }
    for ((kind, name), live) in &observed.children {
        let wanted = |child: &Child| child.kind == *kind && child.name == *name;
        let goes = !desired.children.iter().any(wanted) && !switch::is_of(live, &kept);
        if goes && is_ours(observed, live) {
            prune(context, observed, *kind, name, live).await?;
        }
    }
    Ok(refused)
}

async fn apply_child(
    context: &Context,
    observed: &Observed,
    child: &Child,
    live: Option<&DynamicObject>,
) -> Result<(), OperatorError> {
    let resource = api_resource(child.kind);
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &observed.namespace, &resource);
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
            remove_foreign(context, observed, child, &api, (&object, live)).await?;
            let Some(difference) = drift::first_difference(&object, live) else {
                return Ok(());
            };
            difference
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
    let params = PatchParams::apply(names::MANAGED_BY).force();
    api.patch(&child.name, &params, &Patch::Apply(&object))
        .await
        .map(|_| ())
        .attempt(|| applying(child))
}

fn applying(child: &Child) -> String {
    format!("applying {} {}", child.kind.kind(), child.name)
}

/// Takes out what others have put into an object, and says so.
async fn remove_foreign(
    context: &Context,
    observed: &Observed,
    child: &Child,
    api: &Api<DynamicObject>,
    (desired, live): (&Value, &Value),
) -> Result<(), OperatorError> {
    let foreign = drift::foreign_parts(desired, live);
    if foreign.is_empty() {
        return Ok(());
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
    let patch = Patch::Merge(drift::own_parts(desired, live));
    api.patch(&child.name, &PatchParams::default(), &patch)
        .await
        .map(|_| ())
        .attempt(|| applying(child))
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

/// Whether the API server refuses the object as it is: 422, whatever is tried.
fn refusal(error: &OperatorError) -> Option<String> {
    let OperatorError::Api { source, .. } = error else {
        return None;
    };
    match source.as_ref() {
        kube::Error::Api(status) if status.code == 422 => Some(status.message.clone()),
        _ => None,
    }
}

/// Only what this very resource owns is pruned.
fn is_ours(observed: &Observed, live: &DynamicObject) -> bool {
    let own = observed.resource.metadata.uid.as_ref();
    let mut owners = live.owner_references().iter();
    own.is_some() && owners.any(|owner| Some(&owner.uid) == own)
}

async fn replace_brokers(
    context: &Context,
    observed: &Observed,
    child: &Child,
    live: Option<&DynamicObject>,
) -> Result<(), OperatorError> {
    let Some(live) = live else { return Ok(()) };
    let sentence = format!(
        "StatefulSet {} is made anew, since the number of brokers changes; tasks wait meanwhile and none is lost",
        child.name
    );
    context
        .say(
            &observed.resource,
            "brokers",
            false,
            "BrokersReplaced",
            sentence,
        )
        .await;
    prune(context, observed, child.kind, &child.name, live).await
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

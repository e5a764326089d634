//! Does what was decided, one step after the other, and stops at the first that
//! does not succeed: the next reconcile decides anew.

use holdfast_client::error::CallError;
use holdfast_metadata::command::ClusterCommand;
use holdfast_model::{HIBERNATE, NodeId};
use holdfast_plan::names;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, Preconditions, PropagationPolicy};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{by_us, founding};
use crate::context::Context;
use crate::error::{Attempt, OperatorError, is_conflict, is_missing, refusal};
use crate::lifecycle::release::ABOUT;
use crate::lifecycle::{REMOVE, RESTART, Step, pod_sight};
use crate::nodes::Nodes;
use crate::observe::Observed;

/// Takes the steps. Answers what only a person can change: a reason and a sentence.
///
/// # Errors
/// When the API server does not answer. What the cluster refuses is said as an
/// event, and tried again.
pub async fn take_steps(
    context: &Context,
    observed: &Observed,
    steps: &[Step],
) -> Result<Option<(&'static str, String)>, OperatorError> {
    let mut stays = None;
    for step in steps {
        let Some(nodes) = &observed.nodes else {
            break;
        };
        let taken = take(context, observed, nodes, step).await?;
        if let Err(why) = taken {
            let resource = &observed.resource;
            let reason = reason(step);
            context
                .say(resource, "step", true, reason, why.clone())
                .await;
            // Nothing else waits for room that is refused.
            if !matches!(step, Step::Grow { .. }) {
                break;
            }
            stays = Some(("VolumesCannotGrow", why));
        }
    }
    Ok(stays)
}

/// The reason of the event that tells why a step was not taken.
fn reason(step: &Step) -> &'static str {
    match step {
        Step::Found { .. } => "NotFounded",
        Step::Place { .. } => "NotPlaced",
        Step::SetState { .. } | Step::Mark { .. } | Step::NoteRemoved { .. } => "NotOrdered",
        Step::Restart { .. }
        | Step::Sleep { .. }
        | Step::PermitRemoval { .. }
        | Step::Release { .. } => "PermitRefused",
        Step::DeletePod { .. } | Step::DeleteClaim { .. } => "NotDeleted",
        Step::Grow { .. } | Step::RecreateSet => "VolumesNotGrown",
        Step::Finalize { .. } => "NotFinalized",
    }
}

type Taken = Result<(), String>;

async fn take(
    context: &Context,
    observed: &Observed,
    nodes: &Nodes,
    step: &Step,
) -> Result<Taken, OperatorError> {
    let sight = &observed.sight;
    let resource = &observed.resource;
    Ok(match step {
        Step::Found { ordinals } => {
            match founding::found(context, observed, nodes, ordinals).await? {
                Ok(done) => {
                    context.say(resource, "birth", false, "Founded", done).await;
                    Ok(())
                }
                Err(why) => Err(why),
            }
        }
        Step::Place {
            node,
            zone,
            machine,
        } => {
            let command = ClusterCommand::PlaceNode {
                node: *node,
                zone: zone.clone(),
                host: Some(machine.clone()),
            };
            done(nodes.command(sight, command).await.map(|_| ()))
        }
        Step::SetState { node, state } => {
            let command = ClusterCommand::SetNodeState {
                node: *node,
                state: *state,
            };
            done(nodes.command(sight, command).await.map(|_| ()))
        }
        Step::Mark { node } => return mark(context, observed, *node).await.map(Ok),
        Step::Restart {
            node,
            ordinal,
            anyway,
        } => return restart(context, observed, nodes, (*node, *ordinal), *anyway).await,
        Step::Sleep { node } => done(nodes.take_permit(sight, *node, HIBERNATE).await.map(|_| ())),
        Step::PermitRemoval { node } => {
            done(nodes.take_permit(sight, *node, REMOVE).await.map(|_| ()))
        }
        Step::NoteRemoved { ordinal, node } => {
            return note_removed(context, observed, *ordinal, *node)
                .await
                .map(Ok);
        }
        Step::DeletePod { ordinal } => {
            let pod = read_pod(context, observed, *ordinal).await?;
            // It may have come up since it was looked at.
            let pod = pod.filter(|pod| !pod_sight(pod, 0).ready);
            return delete_pod(context, observed, pod).await.map(Ok);
        }
        Step::Release { node, epoch } => done(nodes.release_permit(sight, *node, *epoch).await),
        Step::DeleteClaim { ordinal, uid } => {
            return delete_claim(context, observed, *ordinal, uid).await.map(Ok);
        }
        Step::Finalize { to } => match nodes.finalize(sight, *to).await {
            Ok(active) => {
                let note = format!("the cluster writes {active}: older images are refused");
                context.say(resource, ABOUT, false, "Finalized", note).await;
                Ok(())
            }
            Err(why) => Err(format!("release {to} is not finalised: {why}")),
        },
        Step::Grow { ordinals } => return grow(context, observed, ordinals).await,
        Step::RecreateSet => return recreate(context, observed).await.map(Ok),
    })
}

/// Takes the permit for a node and deletes its pod under it.
async fn restart(
    context: &Context,
    observed: &Observed,
    nodes: &Nodes,
    (node, ordinal): (NodeId, u32),
    anyway: bool,
) -> Result<Taken, OperatorError> {
    let (resource, sight) = (&observed.resource, &observed.sight);
    let name = names::node_pod(&observed.name, ordinal);
    // Read before the permit is taken, deleted under it: a pod that has changed
    // meanwhile is another one.
    let pod = read_pod(context, observed, ordinal).await?;
    let refused = nodes.take_permit(sight, node, RESTART).await.err();
    if let Some(why) = refused {
        let passed_over = match anyway {
            true => nodes.take_permit_degraded(sight, node, RESTART).await,
            false => Err(why.clone()),
        };
        if let Err(why) = passed_over {
            return Ok(Err(format!("{name} is not restarted yet: {why}")));
        }
        let note = format!("going on as a person has said, although {why}");
        context
            .say(resource, "rollout", true, "ProceedingWhileDegraded", note)
            .await;
    }
    let note = format!("{name} is restarted with the new revision");
    context
        .say(resource, "rollout", false, "Restarting", note)
        .await;
    delete_pod(context, observed, pod).await.map(Ok)
}

fn done(result: Result<(), CallError>) -> Taken {
    result.map_err(|error| error.to_string())
}

async fn mark(
    context: &Context,
    observed: &Observed,
    node: Option<NodeId>,
) -> Result<(), OperatorError> {
    let name = names::node_set(&observed.name);
    let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), &observed.namespace);
    let value = node.map(|id| id.to_string());
    let annotations = json!({ crate::lifecycle::MARK: value });
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    api.patch(&name, &by_us(), &patch)
        .await
        .map(|_| ())
        .attempt(|| format!("marking StatefulSet {name}"))
}

async fn note_removed(
    context: &Context,
    observed: &Observed,
    ordinal: u32,
    node: Option<NodeId>,
) -> Result<(), OperatorError> {
    let name = names::node_claim(&observed.name, ordinal);
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &observed.namespace);
    let annotations = json!({ names::REMOVED_NODE: node.map(|id| id.to_string()) });
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    api.patch(&name, &by_us(), &patch)
        .await
        .map(|_| ())
        .attempt(|| format!("noting on volume claim {name} what is removed from it"))
}

fn pods(context: &Context, observed: &Observed) -> Api<Pod> {
    Api::namespaced(context.client.clone(), &observed.namespace)
}

async fn read_pod(
    context: &Context,
    observed: &Observed,
    ordinal: u32,
) -> Result<Option<Pod>, OperatorError> {
    let name = names::node_pod(&observed.name, ordinal);
    pods(context, observed)
        .get_opt(&name)
        .await
        .attempt(|| format!("reading pod {name}"))
}

async fn delete_pod(
    context: &Context,
    observed: &Observed,
    pod: Option<Pod>,
) -> Result<(), OperatorError> {
    let Some(pod) = pod else { return Ok(()) };
    let name = pod.name_any();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: pod.uid(),
            resource_version: pod.resource_version(),
        }),
        ..DeleteParams::default()
    };
    match pods(context, observed).delete(&name, &params).await {
        // Gone, or another by now: decided anew.
        Err(error) if is_missing(&error) || is_conflict(&error) => Ok(()),
        deleted => deleted
            .map(|_| ())
            .attempt(|| format!("deleting pod {name}")),
    }
}

async fn delete_claim(
    context: &Context,
    observed: &Observed,
    ordinal: u32,
    uid: &str,
) -> Result<(), OperatorError> {
    let name = names::node_claim(&observed.name, ordinal);
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &observed.namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&name, &params).await {
        Err(error) if is_missing(&error) || is_conflict(&error) => {}
        deleted => {
            deleted
                .map(|_| ())
                .attempt(|| format!("deleting volume claim {name}"))?;
        }
    }
    // A claim in use goes with its pod, once that serves nothing.
    let pod = read_pod(context, observed, ordinal).await?;
    let pod = pod.filter(|pod| !pod_sight(pod, 0).ready);
    delete_pod(context, observed, pod).await
}

async fn grow(
    context: &Context,
    observed: &Observed,
    ordinals: &[u32],
) -> Result<Taken, OperatorError> {
    // What has just been applied may have changed it: pods are replaced first.
    let set: Api<StatefulSet> = Api::namespaced(context.client.clone(), &observed.namespace);
    let name = names::node_set(&observed.name);
    // Sets are listed everywhere else: reading one by name would take a right more.
    let now = set
        .list(&ListParams::default().fields(&format!("metadata.name={name}")))
        .await
        .attempt(|| format!("reading StatefulSet {name}"))?;
    let generation = |set: Option<&StatefulSet>| set.and_then(|set| set.metadata.generation);
    if generation(now.items.first()) != generation(observed.set.as_ref()) {
        return Ok(Ok(()));
    }
    let size = &observed.resource.spec.nodes.storage.size;
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &observed.namespace);
    for ordinal in ordinals {
        let name = names::node_claim(&observed.name, *ordinal);
        let patch = json!({ "spec": { "resources": { "requests": { "storage": size } } } });
        let grown = api
            .patch(&name, &by_us(), &Patch::Merge(patch))
            .await
            .attempt(|| format!("growing volume claim {name}"));
        if let Err(error) = grown {
            return match refusal(&error) {
                Some((_, why)) => Ok(Err(format!("volume {name} does not grow: {why}"))),
                None => Err(error),
            };
        }
    }
    Ok(Ok(()))
}

/// Deletes the StatefulSet and leaves its pods; the next reconcile makes it
/// again with the new claim template, and it takes them over.
async fn recreate(context: &Context, observed: &Observed) -> Result<(), OperatorError> {
    let name = names::node_set(&observed.name);
    let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), &observed.namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: observed.set.as_ref().and_then(ResourceExt::uid),
            // Nobody has changed it since, not even what has just been applied.
            resource_version: observed
                .set
                .as_ref()
                .and_then(ResourceExt::resource_version),
        }),
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    match api.delete(&name, &params).await {
        Err(error) if is_missing(&error) || is_conflict(&error) => Ok(()),
        deleted => deleted
            .map(|_| ())
            .attempt(|| format!("making StatefulSet {name} again")),
    }
}

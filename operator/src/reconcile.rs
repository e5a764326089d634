//! One reconcile: the five steps in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_crd::{StorageCluster, StorageClusterStatus};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;

use crate::apply::{apply_children, keep_claims, take_steps};
use crate::context::Context;
use crate::error::OperatorError;
use crate::lifecycle::{Busy, Situation, Verdict, decide, release};
use crate::observe::{Observed, observe};
use crate::report::{Outcome, build_status, gateways_available, write_failure, write_status};
use crate::rotation::{Secrecy, advance};
use crate::validate::{validate, wanted_tag};
use crate::{probe, secrets};

/// When to look again while something is under way.
const SOON: Duration = Duration::from_secs(2);
/// When to look again at a cluster that is well: its own census is not watched.
const LATER: Duration = Duration::from_secs(10);
/// For how long a group may lack a leader, as after a node's death, before a
/// cluster that was ready is not: writes wait for an election of 5 s at most.
const ELECTION_PATIENCE: Duration = Duration::from_secs(10);
/// When to look again at one that sleeps, or is left alone.
const SELDOM: Duration = Duration::from_secs(60);

/// Makes what is there a step more like what is asked for.
///
/// # Errors
/// [`OperatorError`]: it is tried again with back-off.
pub async fn reconcile(
    resource: Arc<StorageCluster>,
    context: Arc<Context>,
) -> Result<Action, OperatorError> {
    if resource.metadata.deletion_timestamp.is_some() {
        // What was owned goes by itself, and what is kept is kept.
        return Ok(Action::await_change());
    }
    let begun = Instant::now();
    let result = reconcile_now(&resource, &context).await;
    match &result {
        Ok(_) => context.memory.succeeded(&resource),
        Err(error) if error.lasts() => {
            // Where not even that can be written the log has it.
            if let Err(error) = write_failure(&context, &resource, error).await {
                tracing::debug!(%error, "the failure is not in the status");
            }
        }
        Err(_) => {}
    }
    let label = result.as_ref().map_or_else(OperatorError::reason, |_| "ok");
    metrics::histogram!("holdfast_operator_reconcile_seconds")
        .record(begun.elapsed().as_secs_f64());
    metrics::counter!("holdfast_operator_reconciles_total", "result" => label).increment(1);
    result
}

async fn reconcile_now(
    resource: &StorageCluster,
    context: &Context,
) -> Result<Action, OperatorError> {
    let mut observed = observe(context, resource).await?;
    let stuck = refused_release(context, &observed)
        .or_else(|| secrets::missing_credentials(&observed).map(|why| ("CredentialsMissing", why)));
    let idle = resource.spec.suspend || stuck.is_some();
    if !idle && secrets::ensure(context, &observed).await? {
        observed = observe(context, resource).await?;
    }
    let now = Timestamp::now();
    let mut verdict = decide(&Situation::of(&observed, now.as_second()));
    if stuck.is_some() {
        verdict.steps.clear();
        verdict.stalled = stuck;
    }
    let secrecy = match idle {
        true => Secrecy::default(),
        false => advance(context, &observed, now.as_second()).await?,
    };
    crate::provisioning::tell(context, &observed, &mut verdict).await?;
    let validated = validate(&observed, &verdict, &context.settings.default_tag);
    let mut refused = Vec::new();
    if let (Ok(cluster), false) = (&validated, idle) {
        refused = apply_children(context, &observed, holdfast_plan::desired(cluster)).await?;
        keep_claims(context, &observed, cluster).await?;
        say_notes(context, resource, &verdict).await;
        take_steps(context, &observed, &verdict.steps).await?;
    }
    let proved = context.memory.is_proved(resource) || was_ready(resource);
    let probe = match may_probe(&observed, &verdict) && !proved {
        true => probe::write_and_read(context, &observed).await.err(),
        false => None,
    };
    let led = observed.sight.all_led();
    let leaderless = context.memory.leaderless_for(resource, led);
    let outcome = Outcome {
        observed: &observed,
        verdict: &verdict,
        cluster: validated.as_ref().map_err(Vec::as_slice),
        refused: &refused,
        probed: proved || context.memory.is_proved(resource),
        led: led || was_ready(resource) && leaderless < ELECTION_PATIENCE,
        probe,
        secrecy: &secrecy,
    };
    let status = build_status(&outcome, now);
    let ready = says(&status, "Ready", "True");
    let whole = says(&status, "Degraded", "False");
    write_status(context, resource, status).await?;
    let settled = secrecy.rotation.is_none() && secrecy.missing.is_none();
    let well = ready && whole && settled && verdict.busy == Busy::No;
    Ok(Action::requeue(
        match (idle, resource.spec.hibernate, well) {
            (true, ..) | (_, true, _) => SELDOM,
            (_, _, true) => LATER,
            _ => SOON,
        },
    ))
}

async fn say_notes(context: &Context, resource: &StorageCluster, verdict: &Verdict) {
    for note in &verdict.notes {
        context
            .say(
                resource,
                note.about,
                note.warning,
                note.reason,
                note.sentence.clone(),
            )
            .await;
    }
}

/// Whether the cluster looks as if an object could be written and read.
fn may_probe(observed: &Observed, verdict: &Verdict) -> bool {
    let spec = &observed.resource.spec;
    !spec.hibernate
        && !spec.suspend
        && verdict.busy == Busy::No
        && observed.sight.all_led()
        && gateways_available(observed) > 0
}

/// Whether the status says that this generation has been proved to serve: an
/// operator that starts again does not ask for a second proof.
fn was_ready(resource: &StorageCluster) -> bool {
    resource.status.as_ref().is_some_and(|status| {
        status.observed_generation == resource.metadata.generation && says(status, "Ready", "True")
    })
}

fn says(status: &StorageClusterStatus, condition: &str, value: &str) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|one| one.type_ == condition && one.status == value)
}

/// A cluster of a newer release than this operator's is left alone, and so is
/// one that is to be taken to an image that cannot read it.
fn refused_release(context: &Context, observed: &Observed) -> Option<(&'static str, String)> {
    let (resource, sight) = (&observed.resource, &observed.sight);
    let written = release::written(resource, sight);
    let active = sight.state.as_ref().map(|state| state.active);
    if let Some(why) = release::refuse_operator(written, active, &observed.own) {
        return Some(("OperatorTooOld", why));
    }
    let tag = wanted_tag(resource, &context.settings.default_tag);
    release::refuse_image(&tag, written).map(|why| ("ImageRefused", why))
}

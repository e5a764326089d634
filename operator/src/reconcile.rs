//! One reconcile: the five steps in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_crd::{StorageCluster, StorageClusterStatus};
use holdfast_plan::Cluster;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;

use crate::apply::{Applied, apply_children, keep_budgets, keep_claims, take_steps};
use crate::context::Context;
use crate::error::OperatorError;
use crate::lifecycle::{Busy, Situation, Verdict, decide, release};
use crate::observe::{Observed, observe};
use crate::report::{Outcome, build_status, gateways_available, write_failure, write_status};
use crate::rotation::{Secrecy, advance};
use crate::validate::{decisions, validate, wanted_tag};
use crate::{parts, probe, secrets};

/// When to look again at what was just written: so that two operators that differ
/// about an object do not keep an API server busy.
const AT_ONCE: Duration = Duration::from_millis(200);
/// When to look again while something is under way.
const SOON: Duration = Duration::from_secs(2);
/// When to look again at a cluster that is well: its own census is not watched.
const LATER: Duration = Duration::from_secs(10);
/// For how long a group may lack a leader, as after a node's death, before a
/// cluster that was ready is not: writes wait for an election of 5 s at most.
const ELECTION_PATIENCE: Duration = Duration::from_secs(10);
/// When to look again at one that sleeps, or is left alone.
const SELDOM: Duration = Duration::from_secs(60);
/// The reason of a cluster that is of a newer release than the operator.
const TOO_OLD: &str = "OperatorTooOld";

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
    let _round = context.health.begin_round(begun);
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

async fn reconcile_now(seen: &StorageCluster, context: &Context) -> Result<Action, OperatorError> {
    let Some((mut observed, stuck)) = look(context, seen).await? else {
        return Ok(Action::await_change());
    };
    let idle = observed.resource.spec.suspend || stuck.is_some();
    let now = Timestamp::now();
    let led = observed.sight.all_led();
    let leaderless = context.memory.leaderless_for(&observed.resource, led);
    let mut verdict = decide(&Situation {
        leaderless,
        ..Situation::of(&observed, now.as_second())
    });
    if let Some(why) = &observed.growth_refused {
        let why = ("VolumesCannotGrow", why.clone());
        verdict.stalled.get_or_insert(why);
    }
    let is_sure = !matches!(stuck, Some((TOO_OLD, _)));
    guard(context, &mut observed, &verdict, is_sure).await?;
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
    let mut applied = Applied::default();
    if let (Ok(cluster), false) = (&validated, idle) {
        applied = act(context, &observed, &mut verdict, cluster).await?;
    }
    let wrote = !applied.written.is_empty();
    observed.take(std::mem::take(&mut applied.written))?;
    let parts = parts::look(&observed, applied.held, &context.memory, now.as_second());

    let resource = &observed.resource;
    let in_place = !idle && !wrote && parts.rolling().is_none() && parts.away().is_none();
    let proved = context.memory.is_proved(resource) || was_ready(resource);
    let probe = match in_place && may_probe(&observed, &verdict) && !proved {
        true => probe::write_and_read(context, &observed).await.err(),
        false => None,
    };
    let outcome = Outcome {
        observed: &observed,
        verdict: &verdict,
        cluster: validated.as_ref().map_err(Vec::as_slice),
        refused: &applied.refused,
        parts: &parts,
        probed: proved || context.memory.is_proved(resource),
        led: led || was_ready(resource) && leaderless < ELECTION_PATIENCE,
        probe,
        secrecy: &secrecy,
    };
    let status = build_status(&outcome, now);
    let well = is_well(&status, &verdict, &secrecy);
    write_status(context, resource, status).await?;
    Ok(Action::requeue(match (idle, verdict.hibernated, well) {
        _ if wrote => AT_ONCE,
        (true, ..) | (_, true, _) => SELDOM,
        (_, _, true) => LATER,
        _ => SOON,
    }))
}

/// Why a cluster is left alone: a reason and a sentence.
type Stuck = Option<(&'static str, String)>;

/// What is there, with the Secrets that it needs, and why it is left alone; `None`
/// where the resource is gone.
async fn look(
    context: &Context,
    seen: &StorageCluster,
) -> Result<Option<(Observed, Stuck)>, OperatorError> {
    let Some(observed) = observe(context, seen).await? else {
        return Ok(None);
    };
    let stuck = refused_release(context, &observed)
        .or_else(|| secrets::missing_credentials(&observed).map(|why| ("CredentialsMissing", why)));
    let idle = observed.resource.spec.suspend || stuck.is_some();
    if idle || !secrets::ensure(context, &observed).await? {
        return Ok(Some((observed, stuck)));
    }
    let again = observe(context, seen).await?;
    Ok(again.map(|observed| (observed, None)))
}

/// Whether there is nothing to wait for.
fn is_well(status: &StorageClusterStatus, verdict: &Verdict, secrecy: &Secrecy) -> bool {
    let settled = secrecy.rotation.is_none() && secrecy.missing.is_none();
    let whole = says(status, "Ready", "True") && says(status, "Degraded", "False");
    whole && settled && verdict.busy == Busy::No
}

/// Keeps the disruption budgets true, before all that may fail. Who suspends a
/// cluster wants nothing touched; an operator that is too old may read the counts
/// wrongly, and only takes away.
async fn guard(
    context: &Context,
    observed: &mut Observed,
    verdict: &Verdict,
    is_sure: bool,
) -> Result<(), OperatorError> {
    if observed.resource.spec.suspend {
        return Ok(());
    }
    let decisions = decisions(observed, verdict, &context.settings.default_tag);
    let budgets = holdfast_plan::budgets(&observed.resource, decisions);
    let written = keep_budgets(context, observed, budgets, !is_sure).await?;
    observed.take(written)
}

/// Makes the objects what was planned, and does what was decided.
async fn act(
    context: &Context,
    observed: &Observed,
    verdict: &mut Verdict,
    cluster: &Cluster,
) -> Result<Applied, OperatorError> {
    let applied = apply_children(context, observed, holdfast_plan::desired(cluster)).await?;
    keep_claims(context, observed, cluster).await?;
    context.say_all(&observed.resource, &verdict.notes).await;
    if let Some(why) = take_steps(context, observed, &verdict.steps).await? {
        verdict.stalled.get_or_insert(why);
    }
    Ok(applied)
}

/// Whether the cluster looks as if an object could be written and read.
fn may_probe(observed: &Observed, verdict: &Verdict) -> bool {
    let spec = &observed.resource.spec;
    !spec.hibernate
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
        return Some((TOO_OLD, why));
    }
    let tag = wanted_tag(resource, &context.settings.default_tag);
    release::refuse_image(&tag, written).map(|why| ("ImageRefused", why))
}

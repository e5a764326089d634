//! Who owns which field: an autoscaler the number of gateways, and nobody but the
//! operator what is the operator's.

use anyhow::{Result, ensure};
use holdfast_e2e::wait::until;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{SETTLED, TOLD, born_with_traffic};
use crate::room::Room;
use crate::spec::{small, with};

const GATEWAYS: &str = "demo-gateway";
const WORKERS: &str = "demo-worker";
/// What a Deployment with two gateways or more would fall to.
const DEFAULT: i32 = 1;
/// Whoever is not the operator.
const SOMEBODY: &str = "somebody";

pub async fn an_autoscaler_takes_over_the_gateways_that_are_there(room: &Room) -> Result<()> {
    let three = with(small(room), json!({"gateway": {"replicas": 3}}));
    let (_, traffic) = born_with_traffic(room, &three).await?;
    let gateways = room.api::<Deployment>();
    let before = gateways.get(GATEWAYS).await?.metadata.generation;
    let scaled = json!({"gateway": {"autoscale": {"min": 2, "max": 4}}});
    room.change("demo", scaled).await?;
    until("the autoscaler has the number", TOLD, async || {
        room.api::<HorizontalPodAutoscaler>().get(GATEWAYS).await?;
        let gateways = gateways.get(GATEWAYS).await?;
        let owned = entries(&gateways, "holdfast-operator", "Apply")?;
        ensure!(!owned.contains("f:replicas"), "it is still the operator's");
        Ok(())
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;
    // It counts every change, also one that was undone, and of annotations too: of
    // what an object was made is noted in one.
    let after = gateways.get(GATEWAYS).await?;
    let replicas = after.spec.as_ref().and_then(|spec| spec.replicas);
    ensure!(
        replicas == Some(3) && after.metadata.generation == before.map(|before| before + 1),
        "{replicas:?} gateways, generation {:?} after {before:?}",
        after.metadata.generation
    );
    traffic.finish_unharmed().await?;

    // Asleep it has none, and an autoscaler leaves that alone.
    room.change("demo", json!({"hibernate": true})).await?;
    until("they sleep", SETTLED, async || {
        let gateways = gateways.get(GATEWAYS).await?;
        let replicas = gateways.spec.and_then(|spec| spec.replicas);
        ensure!(replicas == Some(0), "{replicas:?} gateways");
        Ok(())
    })
    .await?;
    room.change("demo", json!({"hibernate": false})).await?;
    let awake = until("they wake up", SETTLED, async || {
        let gateways = gateways.get(GATEWAYS).await?;
        let replicas = gateways.spec.and_then(|spec| spec.replicas);
        ensure!(replicas > Some(0), "{replicas:?} gateways");
        Ok(replicas)
    })
    .await?;
    ensure!(awake > Some(DEFAULT), "{awake:?} gateways woke up");
    room.until_settled("demo", SETTLED).await.map(drop)
}

pub async fn what_another_manager_claims_of_ours_is_taken_back(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    let workers = room.api::<Deployment>();
    // The same value, so that nothing differs but who owns it.
    let claim = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": WORKERS, "annotations": {"example.com/theirs": "1"}},
        "spec": {"template": {"spec": {"terminationGracePeriodSeconds": 60}}},
    });
    let theirs = PatchParams::apply(SOMEBODY).force();
    let claimed = workers
        .patch(WORKERS, &theirs, &Patch::Apply(&claim))
        .await?;
    ensure!(
        entries(&claimed, SOMEBODY, "Apply")?.contains("f:terminationGracePeriodSeconds"),
        "it was not claimed"
    );
    // Their annotation is a change, as a Deployment counts them.
    let before = claimed.metadata.generation;
    until("it is taken back", TOLD, async || {
        let workers = workers.get(WORKERS).await?;
        let left = entries(&workers, SOMEBODY, "Apply")?;
        ensure!(
            !left.contains("f:terminationGracePeriodSeconds"),
            "it is still theirs"
        );
        ensure!(left.contains("f:example.com/theirs"), "{left}");
        let ours = entries(&workers, "holdfast-operator", "Apply")?;
        ensure!(ours.contains("f:terminationGracePeriodSeconds"), "{ours}");
        Ok(())
    })
    .await?;
    let after = workers.get(WORKERS).await?.metadata.generation;
    ensure!(after == before, "the workers were changed for it");
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// What a manager owns of an object, as the API server notes it.
fn entries(object: &Deployment, manager: &str, operation: &str) -> Result<String> {
    let entries = object.metadata.managed_fields.iter().flatten();
    let theirs: Vec<_> = entries
        .filter(|entry| {
            entry.manager.as_deref() == Some(manager)
                && entry.operation.as_deref() == Some(operation)
        })
        .collect();
    Ok(serde_json::to_string(&theirs)?)
}

//! Clusters that are left as they are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_crd::ClusterPhase;
use holdfast_e2e::wait::{stays, until};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::{SETTLED, TOLD, born_with_traffic};
use crate::room::Room;
use crate::spec::small;
use crate::state;

/// Drift is put right in three seconds where it is.
const LEFT_ALONE: Duration = Duration::from_secs(15);
/// As long as drift takes elsewhere in this suite.
const PUT_RIGHT: Duration = Duration::from_secs(10);

pub async fn what_drifts_while_suspended_stays_and_is_put_right_after(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    room.change("demo", json!({"suspend": true})).await?;
    room.until_cluster("demo", "it is suspended", TOLD, |cluster| {
        let phase = cluster.status.as_ref().and_then(|status| status.phase);
        state::is_current(cluster) && phase == Some(ClusterPhase::Suspended)
    })
    .await?;

    // By somebody else, by nobody any more, and by the resource itself.
    room.merge::<Deployment>("demo-worker", json!({"spec": {"replicas": 3}}))
        .await?;
    let budgets = room.api::<PodDisruptionBudget>();
    let listed = budgets.list(&ListParams::default()).await?;
    let budget = listed.items.first().context("no disruption budget")?;
    let budget = budget.name_any();
    budgets.delete(&budget, &DeleteParams::default()).await?;
    room.change("demo", json!({"gateway": {"replicas": 2}}))
        .await?;
    room.until_cluster("demo", "the wish is seen", TOLD, state::is_current)
        .await?;
    stays("all is left as it is", LEFT_ALONE, async || {
        let found = budgets.get_opt(&budget).await?.is_some();
        let numbers = (
            replicas(room, "worker").await?,
            replicas(room, "gateway").await?,
        );
        ensure!(!found, "{budget} is there again");
        ensure!(numbers == (3, 1), "{numbers:?} workers and gateways");
        Ok(())
    })
    .await?;

    room.change("demo", json!({"suspend": false})).await?;
    until("all is put right", PUT_RIGHT, async || {
        let found = budgets.get_opt(&budget).await?.is_some();
        let numbers = (
            replicas(room, "worker").await?,
            replicas(room, "gateway").await?,
        );
        ensure!(found, "{budget} is missing");
        ensure!(numbers == (1, 2), "{numbers:?} workers and gateways");
        Ok(())
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

async fn replicas(room: &Room, part: &str) -> Result<i32> {
    let deployment = room
        .api::<Deployment>()
        .get(&format!("demo-{part}"))
        .await?;
    let replicas = deployment.spec.and_then(|spec| spec.replicas);
    replicas.context("a Deployment without replicas")
}

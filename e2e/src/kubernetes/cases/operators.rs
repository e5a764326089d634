//! Operators that die, meet each other, or hear nothing of the API server.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use holdfast_e2e::wait::until;
use k8s_openapi::api::core::v1::Secret;

use super::{SETTLED, TOLD, born_with_traffic};
use crate::chart::{self, kill_operators, scale_operators};
use crate::children::{ask_for_memory, until_all_ask};
use crate::outages::Outage;
use crate::roll::Onlooker;
use crate::room::Room;
use crate::spec::{small, two_gateways};
use crate::state;
use crate::traffic::{Patience, Traffic};

pub async fn the_operator_killed_between_founding_and_status(room: &Room) -> Result<()> {
    /// Births to try: the moment is short.
    const TRIES: u32 = 5;
    for number in 0..TRIES {
        let name = format!("demo-{number}");
        room.apply(&name, &small(room)).await?;
        if !killed_in_time(room, &name).await? {
            continue;
        }
        let cluster = room.until_settled(&name, SETTLED).await?;
        ensure!(
            state::id_of(&cluster).is_some(),
            "no clusterId: {}",
            state::say(&cluster)
        );
        // Whoever came next has gone on with what was begun, or not at all.
        let traffic = Traffic::start(room.gateway(&name).await?, Patience::OneRetry).await?;
        room.until_settled(&name, SETTLED).await?;
        return traffic.finish_unharmed().await.map(drop);
    }
    bail!("in {TRIES} births the operator was never killed at that moment")
}

/// Kills the operator when the first state is kept; whether the status did not
/// have it then.
async fn killed_in_time(room: &Room, name: &str) -> Result<bool> {
    let secret = format!("{name}-credentials");
    until("the first state is kept", SETTLED, async || {
        let secret = room.api::<Secret>().get(&secret).await?;
        let kept = secret.data.iter().any(|data| data.contains_key("founding"));
        ensure!(kept, "not yet");
        Ok(())
    })
    .await?;
    kill_operators(room).await?;
    Ok(state::id_of(&room.cluster(name).await?).is_none())
}

pub async fn two_operators_and_one_of_them_acts(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &two_gateways(room)).await?;
    scale_operators(room, 2).await?;
    let onlooker = Onlooker::begin(room, "demo", 3);
    let shown = async {
        change_memory(room, "80Mi").await?;
        room.until_cluster("demo", "the round begins", TOLD, |cluster| {
            state::is(cluster, "Reconciling", "True")
        })
        .await?;
        // Both at once: what comes next knows nothing.
        kill_operators(room).await?;
        until_all_ask(room, 3, "80Mi", SETTLED).await?;
        room.until_settled("demo", SETTLED).await
    };
    let shown = shown.await;
    scale_operators(room, 1).await?;
    shown?;
    onlooker.expect_one_at_a_time().await?;
    traffic.finish_unharmed().await.map(drop)
}

pub async fn two_operators_that_both_act_take_one_node_at_a_time(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &two_gateways(room)).await?;
    let onlooker = Onlooker::begin(room, "demo", 3);
    // In a namespace of its own it has a Lease of its own, so that both lead.
    let values = chart::values().await?;
    let flags = "--set crds.install=false,watchNamespaces=null";
    values.install_as("second", &room.namespace, flags).await?;
    let shown = async {
        for memory in ["80Mi", "96Mi"] {
            change_memory(room, memory).await?;
            until_all_ask(room, 3, memory, SETTLED).await?;
        }
        room.until_settled("demo", SETTLED).await
    };
    let shown = shown.await;
    chart::uninstall_as("second", &room.namespace).await?;
    shown?;
    onlooker.expect_one_at_a_time().await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

pub async fn a_minute_without_the_api_server_fails_no_request(room: &Room) -> Result<()> {
    const AWAY: Duration = Duration::from_secs(60);
    let Some(outage) = Outage::of_the_api_server() else {
        return Ok(());
    };
    let (_, traffic) = born_with_traffic(room, &two_gateways(room)).await?;
    outage.begin().await?;
    let away = async {
        ensure!(room.cluster("demo").await.is_err(), "it still answers");
        tokio::time::sleep(AWAY).await;
        Ok(())
    };
    let away = away.await;
    outage.end().await?;
    away?;
    let tally = traffic.finish_unharmed().await?;
    ensure!(
        tally.cured.is_empty(),
        "{} requests had to be tried again, as {}",
        tally.cured.len(),
        tally.cured[0]
    );
    // The operator has come back as well.
    change_memory(room, "80Mi").await?;
    until_all_ask(room, 3, "80Mi", SETTLED).await?;
    room.until_settled("demo", SETTLED).await.map(drop)
}

async fn change_memory(room: &Room, memory: &str) -> Result<()> {
    // The API server may be a moment from answering.
    until("the change is taken", TOLD, async || {
        ask_for_memory(room, memory).await
    })
    .await
}

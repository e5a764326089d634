//! Machines: too few of them, one that is drained, one whose pods are cut off.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use serde_json::json;

use super::{SETTLED, TOLD, born_with_patient_traffic, born_with_traffic};
use crate::children::{
    ask_for_memory, is_ready, node_pod, storage_pods, until_all_ask, until_one_is_away,
};
use crate::machines::{allow_pods, machine_of, machine_without_operator};
use crate::outages::{Outage, run};
use crate::roll::Onlooker;
use crate::room::Room;
use crate::spec::{small, two_gateways, with};
use crate::state;

pub async fn more_nodes_than_machines_are_told_and_the_rest_serves(room: &Room) -> Result<()> {
    let all = ListParams::default();
    let machines = room.everywhere::<Node>().list(&all).await?;
    let machines = u32::try_from(machines.items.len())?;
    let (few, many) = (machines.to_string(), (machines + 1).to_string());
    let strict = json!({"nodes": {"replicas": machines, "placement": {"hosts": "Required"}}});
    let (_, traffic) = born_with_traffic(room, &with(small(room), strict)).await?;

    room.scale("demo", machines + 1).await?;
    let pod = node_pod("demo", machines);
    room.until_cluster("demo", "the missing machine is told", TOLD, |cluster| {
        state::condition(cluster, "Stalled").is_some_and(|stalled| {
            let says = |word: &str| stalled.message.contains(word);
            stalled.status == "True"
                && stalled.reason == "NoMachine"
                && says(&few)
                && says(&many)
                && says(&pod)
        })
    })
    .await?;
    // A copy that was late on a busy machine is made up for.
    room.until_cluster("demo", "what is there is whole", TOLD, |cluster| {
        let ready = cluster.status.as_ref().map(|status| status.nodes.ready);
        ready == Some(machines) && state::is(cluster, "Degraded", "False")
    })
    .await?;
    // The number is taken back, and nothing is left of it.
    room.scale("demo", machines).await?;
    let settled = room.until_settled("demo", SETTLED).await?;
    ensure!(
        state::is(&settled, "Stalled", "False"),
        "{}",
        state::say(&settled)
    );
    traffic.finish_unharmed().await.map(drop)
}

pub async fn a_machine_drained_during_an_upgrade_waits_and_ends(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_patient_traffic(room, &two_gateways(room)).await?;
    let onlooker = Onlooker::begin(room, "demo", 3);
    ask_for_memory(room, "80Mi").await?;
    // The round begins with the last one: while it is away no other may go.
    until_one_is_away(room, 3, SETTLED).await?;
    let machine = machine_of(room, 0).await?;
    let drained = run(&format!(
        "kubectl drain {machine} --ignore-daemonsets --delete-emptydir-data --timeout 5m 2>&1"
    ))
    .await;
    allow_pods(room, &machine, true).await?;
    let printed = drained?;
    ensure!(
        printed.contains("disruption budget"),
        "it did not wait: {printed}"
    );
    until_all_ask(room, 3, "80Mi", SETTLED).await?;
    room.until_settled("demo", SETTLED).await?;
    onlooker.expect_one_at_a_time().await?;
    traffic.finish_unharmed().await.map(drop)
}

pub async fn a_machine_cut_off_from_the_others_comes_back(room: &Room) -> Result<()> {
    /// Longer than an election, and than a client waits for an answer.
    const APART: Duration = Duration::from_secs(45);
    let Some(network) = Outage::of_network() else {
        return Ok(());
    };
    // A gateway on that machine may be asked until its probe fails.
    let (before, traffic) = born_with_patient_traffic(room, &two_gateways(room)).await?;
    let machine = machine_without_operator(room).await?;
    network.begin_at(&machine).await?;
    let apart = async {
        room.until_cluster("demo", "the silence is told", TOLD, |cluster| {
            state::is(cluster, "Degraded", "True")
        })
        .await?;
        // The machine itself is well, as Kubernetes sees it.
        let node = room.everywhere::<Node>().get(&machine).await?;
        let conditions = node.status.and_then(|status| status.conditions);
        let ready = conditions.into_iter().flatten();
        let mut ready = ready.filter(|c| c.type_ == "Ready" && c.status == "True");
        ready.next().context("the machine is not ready")?;
        tokio::time::sleep(APART).await;
        anyhow::Ok(())
    };
    let apart = apart.await;
    network.end_at(&machine).await?;
    apart?;
    let after = room.until_settled("demo", SETTLED).await?;
    for ordinal in 0..3 {
        let id = |cluster| state::node(cluster, ordinal).and_then(|node| node.id.clone());
        if id(&before) != id(&after) {
            bail!("node {ordinal} is another one: {}", state::say(&after));
        }
    }
    let pods = storage_pods(room, "demo").await?;
    ensure!(pods.iter().all(is_ready), "not all pods are ready");
    traffic.finish_unharmed().await.map(drop)
}

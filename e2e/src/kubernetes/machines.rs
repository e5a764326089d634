//! The machines that storage nodes run on.

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::kubernetes::children::node_pod;
use crate::kubernetes::room::{OPERATOR, Room};

/// The machine that a storage node is on.
pub async fn machine_of(room: &Room, ordinal: u32) -> Result<String> {
    let pod = room.api::<Pod>().get(&node_pod("demo", ordinal)).await?;
    pod.spec
        .and_then(|spec| spec.node_name)
        .context("the pod is on no machine")
}

/// One with one of the first three storage nodes, and without the operator: who
/// tells what is wrong with it would otherwise be away itself.
pub async fn machine_without_operator(room: &Room) -> Result<String> {
    let operators = ListParams::default().labels(OPERATOR);
    let operators = room.beside_the_operator::<Pod>().list(&operators).await?;
    let taken: Vec<String> = operators
        .into_iter()
        .filter_map(|pod| pod.spec?.node_name)
        .collect();
    let machines = try_join_all((0..3).map(|ordinal| machine_of(room, ordinal))).await?;
    let free = machines
        .into_iter()
        .find(|machine| !taken.contains(machine));
    free.context("every machine with a storage node has an operator")
}

/// `kubectl cordon` and `uncordon`.
pub async fn allow_pods(room: &Room, machine: &str, allowed: bool) -> Result<()> {
    let change = json!({"spec": {"unschedulable": !allowed}});
    room.everywhere::<Node>()
        .patch(machine, &PatchParams::default(), &Patch::Merge(&change))
        .await?;
    Ok(())
}

/// A label of machines that no other case has, so that it can be changed beside
/// others.
pub struct Zones<'r> {
    room: &'r Room,
    /// The label.
    pub key: String,
    /// The first three machines.
    pub machines: [String; 3],
}

impl<'r> Zones<'r> {
    /// No machine has it yet. None, which is said, where there are fewer than
    /// three of them.
    pub async fn begin(room: &'r Room) -> Result<Option<Self>> {
        let all = room.everywhere::<Node>();
        let all = all.list(&ListParams::default()).await?.items;
        let mut names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
        names.sort();
        names.truncate(3);
        let Ok(machines) = <[String; 3]>::try_from(names) else {
            println!("      skipped: there are no three machines");
            return Ok(None);
        };
        let key = format!("e2e.holdfast.dev/{}", room.namespace);
        Ok(Some(Self {
            room,
            key,
            machines,
        }))
    }

    /// Says in which zone a machine is, or that it is in none.
    pub async fn set(&self, machine: &str, zone: Option<&str>) -> Result<()> {
        let change = json!({"metadata": {"labels": {(self.key.as_str()): zone}}});
        self.room
            .everywhere::<Node>()
            .patch(machine, &PatchParams::default(), &Patch::Merge(&change))
            .await
            .with_context(|| format!("the zone of {machine}"))?;
        Ok(())
    }

    /// Takes the label from all of them.
    pub async fn end(self) -> Result<()> {
        for machine in &self.machines {
            self.set(machine, None).await?;
        }
        Ok(())
    }
}

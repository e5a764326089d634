//! What the operator may do, and what it is told that cannot be done.

use anyhow::{Context, Result, ensure};
use holdfast_crd::StorageCluster;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{SETTLED, TOLD, born_with_traffic};
use crate::room::Room;
use crate::spec::{small, with};
use crate::state;

/// The operator's rights in all namespaces.
const ROLE: &str = "holdfast-system:holdfast-operator";

pub async fn a_missing_right_is_told_until_it_is_given_back(room: &Room) -> Result<()> {
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    let role = room.everywhere::<ClusterRole>().get(ROLE).await?;
    let rules = role.rules.context("the role has no rules")?;
    // One that is needed to look, and one that is needed to change.
    for (resource, verb) in [("services", "list"), ("statefulsets", "patch")] {
        give(room, &without(&rules, resource, verb)).await?;
        let shown = shown_while_missing(room, resource).await;
        // Whatever came of it: other cases need the right.
        give(room, &rules).await?;
        shown.with_context(|| format!("without {verb} of {resource}"))?;
        room.until_cluster("demo", "it is cured", TOLD, |cluster| {
            state::is(cluster, "Stalled", "False")
        })
        .await?;
    }
    let cluster = room.until_settled("demo", SETTLED).await?;
    let set = room.api::<StatefulSet>().get("demo-node").await?;
    ensure!(
        serde_json::to_string(&set.spec)?.contains("statefulsets"),
        "what was asked for meanwhile was not done: {}",
        state::say(&cluster)
    );
    traffic.finish_unharmed().await.map(drop)
}

/// Asks for something, and waits until it is told why it is not done.
async fn shown_while_missing(room: &Room, resource: &str) -> Result<()> {
    // Nothing that a node reads: only its pod is another one.
    let change = json!({"metadata": {"annotations": {"example.com/asked": resource}}});
    room.change("demo", json!({"nodes": {"podTemplate": change}}))
        .await?;
    room.until_cluster("demo", "the missing right is told", TOLD, |cluster| {
        state::condition(cluster, "Stalled").is_some_and(|stalled| {
            stalled.status == "True"
                && stalled.reason == "Forbidden"
                && stalled.message.contains(resource)
        })
    })
    .await
    .map(drop)
}

fn without(rules: &[PolicyRule], resource: &str, verb: &str) -> Vec<PolicyRule> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        let about = rule.resources.iter().flatten().any(|one| one == resource);
        if about {
            rule.verbs.retain(|one| one != verb);
        }
    }
    rules
}

async fn give(room: &Room, rules: &[PolicyRule]) -> Result<()> {
    let patch = Patch::Merge(json!({ "rules": rules }));
    room.everywhere::<ClusterRole>()
        .patch(ROLE, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

pub async fn what_the_definition_cannot_see_is_told_by_a_condition(room: &Room) -> Result<()> {
    // One beside them, which nothing is wrong with.
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    for (number, (change, reason, word)) in unseen().into_iter().enumerate() {
        let name = format!("wrong-{number}");
        room.apply(&name, &with(small(room), change)).await?;
        told(room, &name, reason, word).await?;
    }
    let long = "n".repeat(38);
    room.apply(&long, &small(room)).await?;
    told(room, &long, "NameInvalid", "37").await?;

    let made = room
        .api::<StatefulSet>()
        .list(&ListParams::default())
        .await?;
    let of_demo = |set: &StatefulSet| set.name_any().starts_with("demo-");
    ensure!(
        made.items.iter().all(of_demo),
        "something was made of what contradicts itself"
    );
    // Put right, it is taken.
    let asleep = json!({"hibernate": true, "cache": {"managed": {"memory": "64Mi"}}});
    room.change("wrong-0", asleep).await?;
    room.until_cluster("wrong-0", "it is taken", TOLD, |cluster| {
        state::is_current(cluster) && state::is(cluster, "Stalled", "False")
    })
    .await?;
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// What is wrong, the reason that is given, and a word of the sentence.
fn unseen() -> Vec<(Value, &'static str, &'static str)> {
    let template =
        |container: Value| json!({"nodes": {"podTemplate": {"spec": {"containers": [container]}}}});
    vec![
        (
            json!({"cache": {"managed": {"memory": "8Mi"}}}),
            "CacheMemoryInvalid",
            "16Mi",
        ),
        (
            json!({"gateway": {"autoscale": {"min": 1, "max": 2}, "resources": {"requests": {"cpu": null}}}}),
            "AutoscaleNeedsCpuRequest",
            "requests.cpu",
        ),
        (
            template(json!({"name": "node", "command": ["true"]})),
            "PodTemplateRefused",
            "command",
        ),
        (
            template(json!({"name": "node", "env": [{"name": "HOLDFAST_DATA", "value": "/tmp"}]})),
            "PodTemplateRefused",
            "HOLDFAST_DATA",
        ),
        (
            json!({"worker": {"podTemplate": {"spec": {"serviceAccountName": "default"}}}}),
            "PodTemplateRefused",
            "serviceAccountName",
        ),
    ]
}

async fn told(room: &Room, name: &str, reason: &str, word: &str) -> Result<()> {
    let says = |cluster: &StorageCluster, kind: &str, status: &str| {
        state::condition(cluster, kind).is_some_and(|condition| {
            condition.status == status
                && condition.reason == reason
                && condition.message.contains(word)
        })
    };
    let what = format!("{reason} is told");
    room.until_cluster(name, &what, TOLD, |cluster| {
        says(cluster, "Stalled", "True") && says(cluster, "Ready", "False")
    })
    .await
    .map(drop)
}

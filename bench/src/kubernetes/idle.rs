//! What the operator needs while many clusters sleep and nothing happens.

use std::time::Duration;

use anyhow::{Context, Result};
use holdfast_crd::ClusterPhase;
use holdfast_e2e::kubernetes::chart::operators;
use holdfast_e2e::kubernetes::outages::run;
use holdfast_e2e::kubernetes::room::{OPERATOR_NAMESPACE, Room};
use holdfast_e2e::kubernetes::spec::{small, with};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Amounts, LIMIT};
use crate::sample::{Figure, figure};

/// Names the API server's audit log, by which requests are counted.
const LOG: &str = "HOLDFAST_AUDIT_LOG";
/// Who the operator is there.
const OPERATOR: &str = "system:serviceaccount:holdfast-system:holdfast-operator";

/// Measures.
pub async fn measure(room: &Room, amounts: &Amounts) -> Result<Vec<Figure>> {
    let asleep = with(small(room), json!({"hibernate": true}));
    for number in 0..amounts.asleep {
        room.apply(&format!("asleep-{number}"), &asleep).await?;
    }
    for number in 0..amounts.asleep {
        let name = format!("asleep-{number}");
        room.until_cluster(&name, "it sleeps", LIMIT, |cluster| {
            let phase = cluster.status.as_ref().and_then(|status| status.phase);
            phase == Some(ClusterPhase::Hibernated)
        })
        .await?;
    }
    let before = requests()?;
    tokio::time::sleep(Duration::from_secs(60 * amounts.watched_minutes)).await;
    let after = requests()?;
    let name = format!("operator, {} clusters asleep", amounts.asleep);
    let mut figures = vec![figure(
        &format!("{name}: memory"),
        memory(room).await? as f64 / f64::from(1 << 20),
        "MiB",
    )];
    if let (Some(before), Some(after)) = (before, after) {
        let rate = (after - before) as f64 / amounts.watched_minutes as f64;
        figures.push(figure(&format!("{name}: requests"), rate, "a minute"));
    } else {
        eprintln!("{LOG} names no audit log: requests are not counted");
    }
    Ok(figures)
}

/// Requests of the operator so far, where they can be counted.
fn requests() -> Result<Option<u64>> {
    let Ok(log) = std::env::var(LOG) else {
        return Ok(None);
    };
    let text = std::fs::read(&log).with_context(|| format!("cannot read {log}"))?;
    let text = String::from_utf8_lossy(&text);
    let ours = text.lines().filter(|line| line.contains(OPERATOR));
    Ok(Some(ours.count() as u64))
}

/// The operator's working set, as its machine's kubelet says.
async fn memory(room: &Room) -> Result<u64> {
    let pods = operators(room).await?;
    let pod = pods.first().context("there is no operator")?;
    let machine = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let machine = machine.context("the operator is on no machine")?;
    let path = format!("/api/v1/nodes/{machine}/proxy/stats/summary");
    let summary: Value = serde_json::from_str(&run(&format!("kubectl get --raw {path}")).await?)?;
    let pods = summary.get("pods").and_then(Value::as_array);
    let ours = pods.into_iter().flatten().find(|one| {
        let is = |at: &str, what: &str| one.pointer(at).and_then(Value::as_str) == Some(what);
        is("/podRef/namespace", OPERATOR_NAMESPACE) && is("/podRef/name", &pod.name_any())
    });
    ours.and_then(|one| one.pointer("/memory/workingSetBytes")?.as_u64())
        .context("the kubelet does not say what the operator uses")
}

//! What the operator needs while many clusters sleep and nothing happens.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
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
/// Where it tells its metrics.
const OPERATIONS_PORT: u16 = 9090;
/// How long its rounds take, as a histogram.
const ROUNDS: &str = "holdfast_operator_reconcile_seconds_bucket";

/// Measures, with each cluster in a namespace of its own: a list looks at all that
/// its namespace holds.
pub async fn measure(room: &Room, amounts: &Amounts) -> Result<Vec<Figure>> {
    let mut rooms = Vec::new();
    let measured = watch(room, &mut rooms, amounts).await;
    for room in &rooms {
        room.close().await?;
    }
    measured
}

/// What it has made is in `rooms`, whatever came of it.
async fn watch(room: &Room, rooms: &mut Vec<Room>, amounts: &Amounts) -> Result<Vec<Figure>> {
    let asleep = with(small(room), json!({"hibernate": true}));
    for number in 0..amounts.asleep {
        rooms.push(room.beside(&number.to_string()).await?);
    }
    for room in &*rooms {
        room.apply("asleep", &asleep).await?;
    }
    for room in &*rooms {
        room.until_cluster("asleep", "it sleeps", LIMIT, |cluster| {
            let phase = cluster.status.as_ref().and_then(|status| status.phase);
            phase == Some(ClusterPhase::Hibernated)
        })
        .await?;
    }
    let name = format!("operator, {} clusters asleep", amounts.asleep);
    let (requests, rounds) = (requests()?, rounds(room).await?);
    tokio::time::sleep(Duration::from_secs(60 * amounts.watched_minutes)).await;
    let p99 = percentile(&since(&rounds, &self::rounds(room).await?), 0.99)?;
    let mut figures = vec![
        figure(&format!("{name}: memory"), memory(room).await?, "MiB"),
        figure(&format!("{name}: a round, p99, at most"), p99 * 1e3, "ms"),
    ];
    let minutes = amounts.watched_minutes as f64;
    let Some((before, after)) = requests.zip(self::requests()?) else {
        eprintln!("{LOG} names no audit log: requests are not counted");
        return Ok(figures);
    };
    let (writes, reads): (BTreeMap<_, _>, BTreeMap<_, _>) = since(&before, &after)
        .into_iter()
        .filter(|((_, resource), _)| resource != "leases")
        .partition(|((verb, _), _)| !matches!(verb.as_str(), "get" | "list" | "watch"));
    for ((verb, resource), count) in &writes {
        eprintln!("  written while nothing happened: {verb} {resource}, {count} times");
    }
    let written: u64 = writes.values().sum();
    let read: u64 = reads.values().sum();
    figures.extend([
        figure(&format!("{name}: reads"), read as f64 / minutes, "a minute"),
        figure(
            &format!("{name}: writes but the Lease's"),
            written as f64,
            "",
        ),
    ]);
    Ok(figures)
}

/// What has come since.
fn since<K: Ord + Clone>(before: &BTreeMap<K, u64>, after: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
    let new = after.iter().map(|(what, count)| {
        let earlier = before.get(what).copied().unwrap_or_default();
        (what.clone(), count.saturating_sub(earlier))
    });
    new.filter(|(_, count)| *count > 0).collect()
}

/// Requests of the operator so far, by verb and kind, where they can be counted.
fn requests() -> Result<Option<BTreeMap<(String, String), u64>>> {
    let Ok(log) = std::env::var(LOG) else {
        return Ok(None);
    };
    let text = std::fs::read(&log).with_context(|| format!("cannot read {log}"))?;
    let mut requests = BTreeMap::new();
    for line in String::from_utf8_lossy(&text).lines() {
        if let Some(request) = request(line) {
            *requests.entry(request).or_default() += 1;
        }
    }
    Ok(Some(requests))
}

/// Verb and kind, where a line of the log tells of a request of the operator
/// that was answered, or of a watch that began.
fn request(line: &str) -> Option<(String, String)> {
    if !line.contains(OPERATOR) {
        return None;
    }
    // The last line may be written just now.
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |at: &str| event.pointer(at).and_then(Value::as_str);
    let stage = text("/stage")?;
    let verb = text("/verb")?;
    let counts = match verb {
        "watch" => stage == "ResponseStarted",
        _ => stage == "ResponseComplete",
    };
    (counts && text("/user/username") == Some(OPERATOR)).then_some(())?;
    let kind = text("/objectRef/resource").or_else(|| text("/requestURI"))?;
    Some((verb.to_owned(), kind.to_owned()))
}

/// How many rounds of the operator took at most so long, by the histogram's
/// bounds: microseconds, and the largest number for no bound.
async fn rounds(room: &Room) -> Result<BTreeMap<u64, u64>> {
    let pod = operators(room).await?;
    let pod = pod.first().context("there is no operator")?.name_any();
    let path = format!(
        "/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:{OPERATIONS_PORT}/proxy/metrics"
    );
    let metrics = run(&format!("kubectl get --raw {path}")).await?;
    let lines = metrics.lines().filter(|line| line.starts_with(ROUNDS));
    lines
        .map(|line| bucket(line).with_context(|| format!("no bucket: {line}")))
        .collect()
}

fn bucket(line: &str) -> Option<(u64, u64)> {
    let (labels, count) = line.rsplit_once(' ')?;
    let (_, bound) = labels.split_once("le=\"")?;
    let (bound, _) = bound.split_once('"')?;
    let micros = match bound {
        "+Inf" => u64::MAX,
        seconds => (seconds.parse::<f64>().ok()? * 1e6).round() as u64,
    };
    Some((micros, count.parse().ok()?))
}

/// The bound, in seconds, below which this share of the rounds stayed.
fn percentile(rounds: &BTreeMap<u64, u64>, share: f64) -> Result<f64> {
    let all = rounds.values().last().copied().unwrap_or_default();
    ensure!(all > 0, "the operator made no round while it was watched");
    let wanted = (all as f64 * share).ceil() as u64;
    let bound = rounds.iter().find(|(_, count)| **count >= wanted);
    Ok(bound.map_or(f64::INFINITY, |(micros, _)| match *micros {
        u64::MAX => f64::INFINITY,
        micros => micros as f64 / 1e6,
    }))
}

/// The operator's working set in MiB, as its machine's kubelet says.
async fn memory(room: &Room) -> Result<f64> {
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
    let bytes = ours.and_then(|one| one.pointer("/memory/workingSetBytes")?.as_u64());
    let bytes = bytes.context("the kubelet does not say what the operator uses")?;
    Ok(bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_below_which_most_rounds_stayed_is_told() {
        let line = |bound: &str, count| format!("{ROUNDS}{{le=\"{bound}\"}} {count}");
        let at = |lines: [(&str, u64); 3]| -> BTreeMap<u64, u64> {
            let lines = lines.map(|(bound, count)| bucket(&line(bound, count)).unwrap());
            lines.into()
        };
        let before = at([("0.01", 90), ("0.05", 90), ("+Inf", 90)]);
        let after = at([("0.01", 188), ("0.05", 189), ("+Inf", 190)]);
        let new = since(&before, &after);
        assert_eq!(percentile(&new, 0.98).unwrap(), 0.01);
        assert_eq!(percentile(&new, 0.99).unwrap(), 0.05);
        assert!(percentile(&new, 1.0).unwrap().is_infinite());
        assert!(percentile(&since(&before, &before), 0.99).is_err());
    }

    #[test]
    fn a_request_counts_once_and_only_the_operators() {
        let event = |user: &str, verb: &str, stage: &str| {
            let event = json!({"stage": stage, "verb": verb, "user": {"username": user},
                "objectRef": {"resource": "pods"}});
            request(&event.to_string())
        };
        let seen = |verb: &str| Some((verb.to_owned(), "pods".to_owned()));
        assert_eq!(event(OPERATOR, "patch", "ResponseComplete"), seen("patch"));
        assert_eq!(event(OPERATOR, "patch", "RequestReceived"), None);
        assert_eq!(event(OPERATOR, "watch", "ResponseStarted"), seen("watch"));
        assert_eq!(event(OPERATOR, "watch", "ResponseComplete"), None);
        assert_eq!(event("somebody", "patch", "ResponseComplete"), None);
    }
}

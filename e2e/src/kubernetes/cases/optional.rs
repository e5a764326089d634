//! Kinds of others that come and go while the operator runs: those of Prometheus,
//! and cert-manager's.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::http::client_of;
use holdfast_e2e::wait::until;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use reqwest::Client;
use reqwest::tls::TlsInfo;
use serde_json::{Value, json};

use super::{SETTLED, TOLD, born_with_traffic};
use crate::chart::{kill_operators, operators};
use crate::children::{lives, restarts};
use crate::issuer::Issuer;
use crate::kinds::{self, CERTIFICATE, Kind, PROMETHEUS_RULE, SERVICE_MONITOR};
use crate::room::Room;
use crate::spec::{small, with};
use crate::state;
use crate::traffic::{Patience, Traffic};
use crate::trust::Believed;

const MONITORING: [Kind; 2] = [SERVICE_MONITOR, PROMETHEUS_RULE];
/// Kinds of others are looked for once a minute.
const FOUND: Duration = Duration::from_secs(90);
/// They may be watched, or looked at every ten seconds.
const PUT_RIGHT: Duration = Duration::from_secs(30);
/// The kubelet brings a change to a pod within two minutes, and a gateway looks
/// at it every ten seconds.
const LOADED: Duration = Duration::from_secs(180);

pub async fn what_prometheus_reads_comes_with_its_kinds_and_is_kept(room: &Room) -> Result<()> {
    if !kinds::are_free(room, &MONITORING).await? {
        return Ok(());
    }
    let (_, traffic) = born_with_traffic(room, &small(room)).await?;
    let before = operator_lives(room).await?;
    let shown = match kinds::install(room, &MONITORING).await {
        Ok(()) => come_and_kept(room).await,
        failed => failed,
    };
    // Whatever came of it: other cases have no such kinds.
    kinds::remove(room, &MONITORING).await?;
    shown?;
    goes_on_without(room).await?;
    let after = operator_lives(room).await?;
    ensure!(
        after == before,
        "operators {after:?} in place of {before:?}"
    );
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

/// The identity of each operator, and how often it was started again.
async fn operator_lives(room: &Room) -> Result<BTreeMap<Option<String>, i32>> {
    let pods = operators(room).await?;
    ensure!(!pods.is_empty(), "there is no operator");
    Ok(pods.iter().map(|pod| (pod.uid(), restarts(pod))).collect())
}

async fn come_and_kept(room: &Room) -> Result<()> {
    let (monitors, rules) = (SERVICE_MONITOR.of(room), PROMETHEUS_RULE.of(room));
    let (monitor, rule) = until("both are there", FOUND, async || {
        let both = tokio::try_join!(monitors.get("demo"), rules.get("demo"));
        Ok(both?)
    })
    .await?;
    ensure!(!alerts(&rule).is_empty(), "there are no alerts");
    a_service_is_selected(room, &monitor).await?;
    let dashboards = room.api::<ConfigMap>();
    until("the dashboard", TOLD, async || {
        dashboards.get("demo-dashboard").await?;
        Ok(())
    })
    .await?;

    let edit = PatchParams::default();
    let slower = json!({"spec": {"endpoints": [{"port": "metrics", "interval": "7m"}]}});
    monitors
        .patch("demo", &edit, &Patch::Merge(&slower))
        .await?;
    let none = json!({"spec": {"groups": []}});
    rules.patch("demo", &edit, &Patch::Merge(&none)).await?;
    until("what was edited is as it was", PUT_RIGHT, async || {
        let (now, of_now) = tokio::try_join!(monitors.get("demo"), rules.get("demo"))?;
        let same = now.data.pointer("/spec/endpoints") == monitor.data.pointer("/spec/endpoints");
        ensure!(same, "{:?}", now.data);
        ensure!(alerts(&of_now) == alerts(&rule), "other alerts");
        Ok(())
    })
    .await?;
    rules.delete("demo", &DeleteParams::default()).await?;
    until("what was deleted is there again", PUT_RIGHT, async || {
        let another = rules.get("demo").await?;
        ensure!(another.uid() != rule.uid(), "the one that was deleted");
        Ok(())
    })
    .await?;

    room.change("demo", json!({"monitoring": {"enabled": false}}))
        .await?;
    until("they are gone", TOLD, async || {
        let left =
            monitors.get_opt("demo").await?.is_some() || rules.get_opt("demo").await?.is_some();
        ensure!(!left, "one is there");
        Ok(())
    })
    .await?;
    room.change("demo", json!({"monitoring": {"enabled": true}}))
        .await?;
    until("they are there again", TOLD, async || {
        tokio::try_join!(monitors.get("demo"), rules.get("demo"))?;
        Ok(())
    })
    .await
}

/// The names of all alerts.
fn alerts(rule: &DynamicObject) -> Vec<&Value> {
    let groups = rule.data.pointer("/spec/groups").and_then(Value::as_array);
    let rules = groups.into_iter().flatten();
    let rules = rules.filter_map(|group| group.get("rules")?.as_array());
    rules.flatten().filter_map(|one| one.get("alert")).collect()
}

/// A ServiceMonitor that selects nothing measures nothing.
async fn a_service_is_selected(room: &Room, monitor: &DynamicObject) -> Result<()> {
    let labels = monitor.data.pointer("/spec/selector/matchLabels").cloned();
    let labels: BTreeMap<String, String> = serde_json::from_value(labels.context("no selector")?)?;
    let port = monitor.data.pointer("/spec/endpoints/0/port").cloned();
    let port = port.context("no port")?;
    until("a Service is selected", TOLD, async || {
        let service = room.api::<Service>().get("demo-metrics").await?;
        let has = |(key, value): (&String, &String)| service.labels().get(key) == Some(value);
        ensure!(labels.iter().all(has), "its labels are others");
        let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let named = ports.iter().any(|one| one.name.as_deref() == port.as_str());
        ensure!(named, "it has no port {port}");
        Ok(())
    })
    .await
}

/// Waits until the operator does what it is asked for with the kinds gone again.
async fn goes_on_without(room: &Room) -> Result<()> {
    room.change("demo", json!({"worker": {"replicas": 2}}))
        .await?;
    until("a second worker", FOUND, async || {
        let deployment = room.api::<Deployment>().get("demo-worker").await?;
        let replicas = deployment.spec.and_then(|spec| spec.replicas);
        ensure!(replicas == Some(2), "{replicas:?} workers");
        Ok(())
    })
    .await
}

pub async fn certificates_of_cert_manager_are_taken_and_renewed_without_a_restart(
    room: &Room,
) -> Result<()> {
    if !kinds::are_free(room, &[CERTIFICATE]).await? {
        return Ok(());
    }
    let issuer = json!({"name": "of-the-case", "kind": "Issuer"});
    let tls = json!({"mode": "CertManager", "issuerRef": issuer});
    // Asleep: the kubelet tries in vain what it has no Secret for, and ever less.
    let asleep = json!({"tls": tls, "hibernate": true});
    room.apply("demo", &with(small(room), asleep)).await?;
    room.until_cluster("demo", "the missing kind is told", TOLD, |cluster| {
        state::condition(cluster, "Stalled").is_some_and(|stalled| {
            stalled.status == "True" && stalled.reason == "CertManagerMissing"
        })
    })
    .await?;
    kinds::install(room, &[CERTIFICATE]).await?;
    // An operator that begins looks for kinds at once.
    kill_operators(room).await?;
    let shown = born_and_renewed(room).await;
    // Whatever came of it: other cases have no such kind.
    kinds::remove(room, &[CERTIFICATE]).await?;
    kill_operators(room).await?;
    shown
}

async fn born_and_renewed(room: &Room) -> Result<()> {
    let issuer = Issuer::begin(room)?;
    room.change("demo", json!({"hibernate": false})).await?;
    room.until_settled("demo", SETTLED).await?;
    let trusted = String::from_utf8(room.authorities("demo").await?)?;
    ensure!(
        without_breaks(&trusted) == without_breaks(&issuer.pem()),
        "others are trusted than the issuer says"
    );
    let believed = Believed::follow(room, "demo").await?;
    let gateway = room.gateway_trusting("demo", believed.trust()).await?;
    let traffic = Traffic::start(gateway, Patience::OneRetry).await?;
    let before = lives(room).await?;

    let first = shown_by_gateway(room, &believed).await?;
    let renewed = issuer.renew("demo-gateway").await?;
    ensure!(renewed != first, "the issuer made the same one again");
    until("the gateway shows the new one", LOADED, async || {
        let shown = shown_by_gateway(room, &believed).await?;
        ensure!(shown == renewed, "it shows another one");
        Ok(())
    })
    .await?;
    let after = lives(room).await?;
    ensure!(after == before, "pods {after:?} in place of {before:?}");
    room.until_settled("demo", SETTLED).await?;
    traffic.finish_unharmed().await.map(drop)
}

fn without_breaks(pem: &str) -> String {
    pem.chars()
        .filter(|letter| !letter.is_whitespace())
        .collect()
}

/// The certificate that a gateway shows to a client that has not called before.
async fn shown_by_gateway(room: &Room, believed: &Believed) -> Result<Vec<u8>> {
    const LIMIT: Duration = Duration::from_secs(10);
    let address = room.gateway_socket("demo").await?;
    let client: Client = client_of(believed.trust())?
        .resolve("demo-gateway", address)
        .timeout(LIMIT)
        .tls_info(true)
        .build()?;
    let url = format!("https://demo-gateway:{}/", address.port());
    let answer = client.get(url).send().await?;
    let shown = answer.extensions().get::<TlsInfo>();
    let shown = shown.and_then(TlsInfo::peer_certificate);
    Ok(shown.context("no certificate was shown")?.to_vec())
}

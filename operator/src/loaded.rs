//! What pods have loaded of what their Secrets hold: asked of each, since the
//! kubelet takes its time to bring a change to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_plan::names::{self, Component};
use holdfast_runtime::host::tls::{Trust, http_client};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::certificates::reading::Fingerprint;

/// How long a pod may take to answer.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The most bytes of an answer: a few fingerprints.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What each pod has loaded, by its name; `None` of one that does not say.
pub type Reports = BTreeMap<String, (Component, Option<Loaded>)>;

/// What a pod has loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The certificates that it shows.
    pub leaves: Vec<Fingerprint>,
    /// The authorities that it trusts; `None` of one that calls nobody.
    pub authorities: Option<BTreeSet<Fingerprint>>,
    /// What it takes as the cluster's credential, as digests; the one that it
    /// shows itself comes first. `None` of one that knows none.
    pub credentials: Option<Vec<String>>,
    /// The password that it shows RabbitMQ, as a digest.
    pub queue: Option<String>,
    /// The password that it shows Redis, as a digest.
    pub cache: Option<String>,
    /// Of a broker or a cache: digests of the passwords that it was seen to take.
    pub takes: Vec<String>,
    /// Of a broker: connections of the login that is on its way out; `None`
    /// where it was not counted.
    pub connected: Option<usize>,
}

/// The pods whose report is not good.
pub fn those_not(
    reports: &Reports,
    good: impl Fn(Component, Option<&Loaded>) -> bool,
) -> Vec<String> {
    let late = reports
        .iter()
        .filter(|(_, (part, loaded))| !good(*part, loaded.as_ref()));
    late.map(|(pod, _)| pod.clone()).collect()
}

/// `GET /debug/loaded`.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    tls: Option<TlsAnswer>,
    #[serde(default)]
    credentials: Option<CredentialsAnswer>,
}

#[derive(Deserialize, Default)]
struct TlsAnswer {
    #[serde(default)]
    internal: Option<String>,
    #[serde(default)]
    public: Option<String>,
    #[serde(default)]
    authorities: Vec<String>,
}

#[derive(Deserialize, Default)]
struct CredentialsAnswer {
    #[serde(default)]
    cluster: Vec<String>,
    #[serde(default)]
    rabbitmq: Option<String>,
    #[serde(default)]
    redis: Option<String>,
}

impl Answer {
    fn into_loaded(self) -> Loaded {
        let tls = self.tls.unwrap_or_default();
        let credentials = self.credentials.unwrap_or_default();
        let shown = [tls.internal, tls.public].into_iter().flatten();
        let parse = |text: String| Fingerprint::parse(&text);
        Loaded {
            leaves: shown.filter_map(parse).collect(),
            authorities: Some(tls.authorities.into_iter().filter_map(parse).collect()),
            credentials: Some(credentials.cluster),
            queue: credentials.rabbitmq,
            cache: credentials.redis,
            ..Loaded::default()
        }
    }
}

/// Asks all pods at once. Those that are going, or have no machine yet, have
/// loaded nothing that matters: what starts later reads what is there then.
pub async fn ask_pods(cluster: &str, pods: &[Pod], trust: Option<Trust>) -> Reports {
    // That port never speaks TLS: it shows what is no secret.
    let client = http_client(&Trust::System(None)).ok();
    let client = client.and_then(|client| client.timeout(DEADLINE).build().ok());
    let asked = pods.iter().filter_map(|pod| {
        let part = part_of(pod)?;
        let ip = address(pod);
        let (client, trust) = (client.as_ref(), trust.as_ref());
        Some(async move {
            let loaded = match (part, ip) {
                (_, None) => None,
                (Component::Rabbitmq | Component::Redis, Some(ip)) => {
                    look_at(cluster, part, ip, trust).await
                }
                (_, Some(ip)) => ask(client, ip).await,
            };
            (pod.name_any(), (part, loaded))
        })
    });
    join_all(asked).await.into_iter().collect()
}

/// The part of a pod that counts.
pub fn part_of(pod: &Pod) -> Option<Component> {
    let ended = ["Succeeded", "Failed"];
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let counts = pod.metadata.deletion_timestamp.is_none()
        && pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some())
        && !phase.is_some_and(|phase| ended.contains(&phase));
    let label = pod.labels().get(names::COMPONENT_LABEL)?;
    let mut parts = Component::WITH_PODS.into_iter();
    parts.find(|part| counts && part.as_str() == label)
}

/// Where a pod is called.
pub fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

async fn ask(client: Option<&reqwest::Client>, ip: IpAddr) -> Option<Loaded> {
    let at = std::net::SocketAddr::new(ip, names::METRICS_PORT);
    let answer = client?
        .get(format!("http://{at}/debug/loaded"))
        .send()
        .await
        .ok()?
        .error_for_status()
        .ok()?;
    if answer.content_length()? > MAX_ANSWER_BYTES as u64 {
        return None;
    }
    let answer: Answer = answer.json().await.ok()?;
    Some(answer.into_loaded())
}

/// What a server of others shows, which has no page of its own for that.
async fn look_at(
    cluster: &str,
    part: Component,
    ip: IpAddr,
    trust: Option<&Trust>,
) -> Option<Loaded> {
    let stream = shake_hands(cluster, part, ip, trust?).await?;
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates()?.first()?;
    Some(Loaded {
        leaves: vec![Fingerprint::of(shown)],
        ..Loaded::default()
    })
}

/// A connection to a server of others by TLS, whose certificate is believed.
pub async fn shake_hands(
    cluster: &str,
    part: Component,
    ip: IpAddr,
    trust: &Trust,
) -> Option<TlsStream<TcpStream>> {
    let port = match part {
        Component::Rabbitmq => names::AMQPS_PORT,
        _ => names::REDIS_PORT,
    };
    let name = ServerName::try_from(names::workload(cluster, part)).ok()?;
    let connector = TlsConnector::from(Arc::new(trust.config().ok()?));
    let shaken = async {
        let stream = TcpStream::connect((ip, port)).await.ok()?;
        connector.connect(name, stream).await.ok()
    };
    tokio::time::timeout(DEADLINE, shaken).await.ok()?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_as_services_give_it() {
        let digest = "ab".repeat(32);
        let answer: Answer = serde_json::from_value(json!({
            "tls": {"internal": digest, "public": null, "authorities": [digest, "no digest"]},
            "credentials": {"cluster": ["0011223344556677"], "rabbitmq": "8899", "redis": "aabb"},
        }))
        .unwrap();
        let loaded = answer.into_loaded();
        let fingerprint = Fingerprint::parse(&digest).unwrap();
        assert_eq!(loaded.leaves, [fingerprint]);
        assert_eq!(loaded.authorities, Some([fingerprint].into()));
        assert_eq!(loaded.credentials, Some(vec!["0011223344556677".into()]));
        assert_eq!(loaded.queue.as_deref(), Some("8899"));
        assert_eq!(loaded.cache.as_deref(), Some("aabb"));
        // Without TLS there is nothing to tell of it.
        let plain: Answer = serde_json::from_value(json!({"tls": null})).unwrap();
        assert_eq!(plain.into_loaded().authorities, Some(BTreeSet::new()));
    }

    #[test]
    fn pods_that_go_or_have_no_machine_do_not_count() {
        let pod = |change: fn(&mut serde_json::Value)| {
            let mut pod = json!({
                "metadata": {"name": "demo-node-0",
                    "labels": {"app.kubernetes.io/component": "node"}},
                "spec": {"containers": [], "nodeName": "machine"},
                "status": {"phase": "Running"},
            });
            change(&mut pod);
            part_of(&serde_json::from_value(pod).unwrap())
        };
        assert_eq!(pod(|_| {}), Some(Component::Node));
        assert_eq!(pod(|pod| pod["status"]["phase"] = "Failed".into()), None);
        assert_eq!(pod(|pod| pod["spec"]["nodeName"] = json!(null)), None);
        let going = |pod: &mut serde_json::Value| {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        };
        assert_eq!(pod(going), None);
    }
}

//! What all reconciles share. None of it is truth: it saves work, or is told
//! to whoever watches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_client::node::StorageNodeClient;
use holdfast_crd::StorageCluster;
use holdfast_plan::OptionalKinds;
use holdfast_runtime::host::http::HttpTransport;
use holdfast_runtime::host::system::{SystemClock, SystemEntropy, TokioTasks};
use holdfast_runtime::{Entropy, Env};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::error::OperatorError;
use crate::settings::OperatorSettings;

/// The most clusters whose connections are kept open.
const MAX_CONNECTIONS: usize = 256;

/// What is known of one cluster beside what is in the API server.
#[derive(Clone, Default)]
struct Remembered {
    /// The world in which its nodes are called, and the hash of its credential.
    env: Option<([u8; 32], Env)>,
    /// What was last said about what, so that it is said once.
    said: BTreeMap<&'static str, String>,
    /// The generation for which an object was written and read back.
    probed: Option<i64>,
    /// Since when a metadata group has had no leader.
    leaderless: Option<Instant>,
    /// Reconciles that have failed one after the other.
    failures: u32,
}

/// What all reconciles share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What was set.
    pub settings: OperatorSettings,
    /// Which kinds of others the API server has.
    pub kinds: watch::Receiver<OptionalKinds>,
    recorder: Recorder,
    /// Held for single look-ups.
    remembered: Mutex<BTreeMap<String, Remembered>>,
}

impl Context {
    /// The context of an operator.
    pub fn new(
        client: Client,
        settings: OperatorSettings,
        kinds: watch::Receiver<OptionalKinds>,
    ) -> Arc<Self> {
        let reporter = Reporter {
            controller: "holdfast-operator".into(),
            instance: Some(settings.name.clone()),
        };
        Arc::new(Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            settings,
            kinds,
            remembered: Mutex::default(),
        })
    }

    fn with<T>(&self, resource: &StorageCluster, work: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut all = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        work(all.entry(key(resource)).or_default())
    }

    /// Forgets a cluster that is gone, and any beyond what is kept.
    pub fn forget(&self, resource: &StorageCluster) {
        let mut all = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.remove(&key(resource));
        while all.len() > MAX_CONNECTIONS {
            all.pop_first();
        }
    }

    /// The world in which a cluster's nodes are called, with its credential.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn env(&self, resource: &StorageCluster, credential: &str) -> Result<Env, OperatorError> {
        let hash: [u8; 32] = Sha256::digest(credential.as_bytes()).into();
        let known = self.with(resource, |cluster| cluster.env.clone());
        if let Some((_, env)) = known.filter(|(of, _)| *of == hash) {
            return Ok(env);
        }
        let transport = HttpTransport::new(credential)
            .map_err(|error| OperatorError::Transport(error.to_string()))?;
        let env = Env {
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            tasks: Arc::new(TokioTasks),
            transport: Arc::new(transport),
        };
        self.with(resource, |cluster| cluster.env = Some((hash, env.clone())));
        Ok(env)
    }

    /// Notes whether every metadata group has a leader, and says for how long
    /// one has had none.
    pub fn leaderless_for(&self, resource: &StorageCluster, led: bool) -> Duration {
        self.with(resource, |cluster| {
            if led {
                cluster.leaderless = None;
                return Duration::ZERO;
            }
            cluster
                .leaderless
                .get_or_insert_with(Instant::now)
                .elapsed()
        })
    }

    /// Notes that a reconcile has failed, and says how many have before it.
    pub fn failed(&self, resource: &StorageCluster) -> u32 {
        self.with(resource, |cluster| {
            let before = cluster.failures;
            cluster.failures = before.saturating_add(1);
            before
        })
    }

    /// Notes that a reconcile has succeeded.
    pub fn succeeded(&self, resource: &StorageCluster) {
        self.with(resource, |cluster| cluster.failures = 0);
    }

    /// From a half to one: so that what failed together is not tried together.
    pub fn jitter(&self) -> f64 {
        let mut byte = [0];
        SystemEntropy.fill(&mut byte);
        0.5 + f64::from(byte[0]) / 512.0
    }

    /// Whether an object was written and read back for this generation.
    pub fn was_probed(&self, resource: &StorageCluster) -> bool {
        let generation = resource.metadata.generation;
        self.with(resource, |cluster| {
            cluster.probed.is_some() && cluster.probed == generation
        })
    }

    /// An object was.
    pub fn note_probed(&self, resource: &StorageCluster) {
        let generation = resource.metadata.generation;
        self.with(resource, |cluster| cluster.probed = generation);
    }

    /// Says something once: again only when it is something else, or it was
    /// about something else in between.
    pub async fn say(
        &self,
        resource: &StorageCluster,
        about: &'static str,
        warning: bool,
        reason: &str,
        note: String,
    ) {
        let line = format!("{reason}: {note}");
        let new = self.with(resource, |cluster| {
            cluster.said.insert(about, line.clone()).as_ref() != Some(&line)
        });
        if !new {
            return;
        }
        tracing::info!(cluster = key(resource), reason, note, "decided");
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(note.chars().take(MAX_NOTE_CHARACTERS).collect()),
            action: "Reconcile".into(),
            secondary: None,
        };
        let published = self
            .recorder
            .publish(&event, &resource.object_ref(&()))
            .await;
        if let Err(error) = published {
            tracing::warn!(%error, "an event was not published");
        }
    }

    /// A client of one node.
    pub fn node(env: &Env, address: &holdfast_runtime::Address) -> StorageNodeClient {
        StorageNodeClient::new(env.transport.clone(), address.clone())
    }
}

/// The API server refuses longer notes, at 1,024 bytes.
const MAX_NOTE_CHARACTERS: usize = 500;

fn key(resource: &StorageCluster) -> String {
    format!(
        "{}/{}",
        resource.namespace().unwrap_or_default(),
        resource.name_any()
    )
}

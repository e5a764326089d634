//! What all reconciles share. None of it is truth: it saves work, or is told
//! to whoever watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_crd::StorageCluster;
use holdfast_model::Supported;
use holdfast_plan::OptionalKinds;
use holdfast_runtime::credential::Credential;
use holdfast_runtime::host::http::HttpTransport;
use holdfast_runtime::host::system::{SystemClock, SystemEntropy, TokioTasks};
use holdfast_runtime::{Entropy, Env};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::certificates::reading::Certificate;
use crate::certificates::settle::trusting;
use crate::error::OperatorError;
use crate::health::Health;
use crate::lifecycle::Note;
use crate::memory::Memory;
use crate::settings::OperatorSettings;

/// What all reconciles share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What was set.
    pub settings: OperatorSettings,
    /// What this operator can speak.
    pub supports: Supported,
    /// Which kinds of others the API server has.
    pub kinds: watch::Receiver<OptionalKinds>,
    /// Whether the operator moves.
    pub health: Arc<Health>,
    recorder: Recorder,
    /// What is remembered of clusters.
    pub memory: Memory,
}

impl Context {
    /// The context of an operator.
    pub fn new(
        client: Client,
        settings: OperatorSettings,
        supports: Supported,
        kinds: watch::Receiver<OptionalKinds>,
        health: Arc<Health>,
    ) -> Arc<Self> {
        let reporter = Reporter {
            controller: "holdfast-operator".into(),
            instance: Some(settings.name.clone()),
        };
        Arc::new(Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            settings,
            supports,
            kinds,
            health,
            memory: Memory::default(),
        })
    }

    /// The world in which a cluster's nodes are called, with its credential, and
    /// encrypted where there are authorities to trust.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn env(
        &self,
        resource: &StorageCluster,
        credential: &str,
        authorities: Option<&[Certificate]>,
    ) -> Result<Env, OperatorError> {
        let mut hash = Sha256::new_with_prefix(credential.as_bytes());
        for authority in authorities.into_iter().flatten() {
            hash.update(authority.der());
        }
        let hash: [u8; 32] = hash.finalize().into();
        if let Some(env) = self.memory.env(resource, hash) {
            return Ok(env);
        }
        let trust = match authorities {
            None => None,
            Some(all) => Some(trusting(all).ok_or_else(|| {
                OperatorError::Transport("there is no authority to trust".into())
            })?),
        };
        let transport = HttpTransport::with(Credential::fixed(credential), trust)
            .map_err(|error| OperatorError::Transport(error.to_string()))?;
        let env = Env {
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            tasks: Arc::new(TokioTasks),
            transport: Arc::new(transport),
        };
        self.memory.keep_env(resource, hash, env.clone());
        Ok(env)
    }

    /// From a half to one: so that what failed together is not tried together.
    pub fn jitter(&self) -> f64 {
        let mut byte = [0];
        SystemEntropy.fill(&mut byte);
        0.5 + f64::from(byte[0]) / 512.0
    }

    /// Says something once: again only when it is something else, or it was
    /// about something else in between.
    pub async fn say(
        &self,
        resource: &StorageCluster,
        about: &'static str,
        warning: bool,
        reason: &'static str,
        sentence: String,
    ) {
        let note = Note {
            about,
            warning,
            reason,
            sentence,
        };
        self.say_all(resource, &[note]).await;
    }

    /// Says all that there is to say in a round, each thing once.
    pub async fn say_all(&self, resource: &StorageCluster, notes: &[Note]) {
        let line = |note: &Note| format!("{}: {}", note.reason, note.sentence);
        let mut about: BTreeMap<&'static str, Vec<&Note>> = BTreeMap::new();
        for note in notes {
            about.entry(note.about).or_default().push(note);
        }
        for (about, notes) in about {
            let lines = notes.iter().map(|note| line(note)).collect();
            let mut news = self.memory.news(resource, about, lines);
            for note in notes {
                if news.remove(&line(note)) {
                    self.publish(resource, note).await;
                }
            }
        }
    }

    async fn publish(&self, resource: &StorageCluster, note: &Note) {
        let name = resource.name_any();
        let namespace = resource.namespace();
        let (reason, sentence) = (note.reason, &note.sentence);
        tracing::info!(namespace, name, reason, note = sentence, "decided");
        let event = Event {
            type_: if note.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(sentence.chars().take(MAX_NOTE_CHARACTERS).collect()),
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
}

/// The API server refuses longer notes, at 1,024 bytes.
const MAX_NOTE_CHARACTERS: usize = 500;

//! A storage node over the world's traits: what a process is around, and what
//! the simulation runs several of.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use holdfast_blobs::{Engine, EngineSettings};
use holdfast_client::{Cluster, ClusterSettings};
use holdfast_controller::{Controller, ControllerParts, ControllerSettings};
use holdfast_metadata::log::LogSettings;
use holdfast_metadata::protocol::{DiskStatus, NodeError};
use holdfast_metadata::raft::peers::Identity as RaftIdentity;
use holdfast_metadata::raft::{AddressBook, Groups, GroupsParts, Shared};
use holdfast_metadata::store::{Store, StoreError};
use holdfast_model::{ClusterId, GroupId, Supported, Timestamp};
use holdfast_runtime::pulse::{DiskCalls, WatchedDisk};
use holdfast_runtime::trusted::TrustedDisk;
use holdfast_runtime::{Address, Disk, Env, Fatal, OnFatal, Pulse, Shutdown, TasksExt};

use crate::ending::{Ending, Place};
use crate::fragments::{Compacting, Fragments};
use crate::identity::{Identity, IdentityError};
use crate::limits::{LimitSettings, Limits};
use crate::load::Load;
use crate::peers;
use crate::seal::Seal;

mod born;
mod calls;
mod clocks;
pub(crate) mod join;
mod maintenance;
mod ready;
mod release;
mod space;
mod status;

pub use calls::{Admitted, NodeHandler};
pub use clocks::Clocks;

/// The state store's file.
const STORE_FILE: &str = "state";

/// What a node is made of.
pub struct NodeParts {
    /// The world.
    pub env: Env,
    /// Its data directory.
    pub disk: Arc<dyn Disk>,
    /// Where others call it.
    pub address: Address,
    /// Nodes it may ask for the cluster.
    pub seeds: Vec<Address>,
    /// Its zone, when it is told.
    pub zone: Option<String>,
    /// Its machine, when it is told.
    pub host: Option<String>,
    /// What its program can read and write: [`Supported::OWN`], but in tests.
    pub supports: Supported,
    /// The disk engine.
    pub engine: EngineSettings,
    /// The Raft log.
    pub log: LogSettings,
    /// The cluster controller.
    pub controller: ControllerSettings,
    /// What it does at a time for others.
    pub limits: LimitSettings,
    /// Ends the process; called once.
    pub on_fatal: OnFatal,
    /// The end.
    pub shutdown: Shutdown,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory must not be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The fragments cannot be opened.
    #[error("opening the fragments: {0}")]
    Engine(#[from] holdfast_blobs::OpenError),
    /// The state cannot be opened.
    #[error("opening the state: {0}")]
    Store(#[from] StoreError),
    /// The groups cannot be started.
    #[error(transparent)]
    Groups(#[from] holdfast_metadata::raft::StartError),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// A storage node.
pub struct Node {
    env: Env,
    disk: Arc<dyn Disk>,
    address: Address,
    zone: Option<String>,
    host: Option<String>,
    supports: Supported,
    identity: Mutex<Identity>,
    fragments: Fragments,
    limits: Arc<Limits>,
    seal: Seal,
    store: Arc<Store>,
    cluster: Cluster,
    groups: OnceLock<Groups>,
    controller: OnceLock<Controller>,
    clocks: Arc<Clocks>,
    /// Its loops, as long as it lives.
    pulse: Arc<Pulse>,
    /// Its calls of the disk.
    disk_calls: Arc<DiskCalls>,
    space: Mutex<DiskStatus>,
    /// Whether this node takes no inline data, whoever sends it.
    refuses_inline: std::sync::atomic::AtomicBool,
    /// One birth at a time.
    birth: tokio::sync::Mutex<()>,
    started: Timestamp,
    log: LogSettings,
    controller_settings: ControllerSettings,
    on_fatal: OnFatal,
    ending: Arc<Ending>,
    shutdown: Shutdown,
    /// Said when the process begins to end: calls are still answered while
    /// leadership is handed over.
    draining: std::sync::atomic::AtomicBool,
}

impl Node {
    /// Opens the data directory and starts what it holds.
    ///
    /// # Errors
    /// [`StartError`]: the directory is not fit, and the message says what to do.
    pub async fn start(mut parts: NodeParts) -> Result<Arc<Self>, StartError> {
        let place = Place {
            address: parts.address.clone(),
            zone: parts.zone.clone(),
            host: parts.host.clone(),
            supports: parts.supports,
            seeds: parts.seeds.clone(),
        };
        let watched = WatchedDisk::new(parts.disk, parts.env.clock.clone());
        let calls = watched.calls();
        parts.disk = Arc::new(watched);
        let ending = Ending::new(parts.env.clone(), parts.disk.clone(), place, parts.on_fatal);
        let own = ending.clone();
        parts.on_fatal = Arc::new(move |fatal| own.begin(fatal));
        let own = ending.clone();
        let lost = Arc::new(move |reason| own.begin(Fatal::DiskFailed(reason)));
        let disk = TrustedDisk::new(parts.disk, lost);
        ending.trusts(disk.trust());
        parts.disk = Arc::new(disk);
        let started = Self::open(parts, calls, &ending).await;
        if started.is_err() {
            // The process must not end before the disk counts as failed, if it has.
            ending.over().await;
        }
        started
    }

    async fn open(
        parts: NodeParts,
        disk_calls: Arc<DiskCalls>,
        ending: &Arc<Ending>,
    ) -> Result<Arc<Self>, StartError> {
        let env = parts.env;
        let (disk, entropy) = (parts.disk.clone(), env.entropy.clone());
        let (settings, supports) = (parts.engine, parts.supports);
        let opened = env
            .tasks
            .blocking(move || -> Result<_, StartError> {
                let identity = Identity::start(disk.as_ref(), entropy.as_ref(), &supports)?;
                let seal = Seal::find(disk.as_ref()).map_err(IdentityError::Disk)?;
                let store = space::open_store(&disk, &settings)?;
                let known = peers::find(disk.as_ref()).map_err(IdentityError::Disk)?;
                Ok((identity, seal, store, known))
            })
            .await;
        let (identity, seal, store, known) = opened.ok_or(StartError::Ending)??;
        ending.is_of(&identity);
        let failing = parts.on_fatal.clone();
        let engine_failed = Arc::new(move |reason| failing(Fatal::DiskFailed(reason)));
        let engine = Engine::open(parts.disk.clone(), &env, parts.engine, engine_failed).await?;
        report_scan(&engine);
        let mut seeds = parts.seeds;
        seeds.extend(known.into_iter().filter(|peer| *peer != parts.address));
        if !seeds.contains(&parts.address) {
            seeds.push(parts.address.clone());
        }
        let cluster = Cluster::start(
            env.clone(),
            ClusterSettings::new(seeds),
            parts.shutdown.clone(),
        );
        let limits = Arc::new(Limits::new(env.clock.clone(), parts.limits));
        let load = Arc::new(Load::new(env.clock.clone()));
        ending.sees(&cluster);
        let node = Arc::new(Self {
            clocks: Arc::new(Clocks::new(env.clone())),
            pulse: Arc::new(Pulse::new(env.clock.clone())),
            disk_calls,
            started: env.clock.wall(),
            disk: parts.disk,
            address: parts.address,
            zone: parts.zone,
            host: parts.host,
            supports,
            fragments: Fragments::new(engine, identity.disk, limits.clone(), load),
            limits,
            seal,
            identity: Mutex::new(identity.clone()),
            store: Arc::new(store),
            cluster,
            groups: OnceLock::new(),
            controller: OnceLock::new(),
            space: Mutex::new(DiskStatus::default()),
            refuses_inline: false.into(),
            birth: tokio::sync::Mutex::new(()),
            log: parts.log,
            controller_settings: parts.controller,
            on_fatal: parts.on_fatal,
            ending: ending.clone(),
            shutdown: parts.shutdown,
            draining: false.into(),
            env,
        });
        node.refresh_space().await;
        if let Some(cluster) = identity.cluster {
            node.start_groups(cluster).await?;
        }
        let own = node.clone();
        node.env.tasks.spawn(
            "membership",
            Box::pin(async move { own.keep_membership().await }),
        );
        let own = node.clone();
        node.env
            .tasks
            .spawn("disk-room", Box::pin(async move { own.keep_space().await }));
        Ok(node)
    }

    /// Starts the groups that the disk holds, and the controller.
    async fn start_groups(&self, cluster: ClusterId) -> Result<(), StartError> {
        if self.groups.get().is_some() {
            return Ok(());
        }
        let identity = self.identity();
        let (clocks, asked) = (self.clocks.clone(), self.clocks.clone());
        let parts = GroupsParts {
            env: self.env.clone(),
            disk: self.disk.clone(),
            identity: RaftIdentity {
                cluster,
                disk: identity.disk,
                incarnation: identity.incarnation,
            },
            store: self.store.clone(),
            log: self.log,
            book: Arc::new(AddressBook::default()),
            shared: Arc::new(Shared::default()),
            clock_seen: Arc::new(move |disk, ahead| clocks.saw(disk, ahead)),
            clock_off: Arc::new(move || asked.off()),
            calls: self.disk_calls.clone(),
            pulse: self.pulse.clone(),
            on_fatal: self.on_fatal.clone(),
            shutdown: self.shutdown.clone(),
        };
        let groups = Groups::start(parts)?;
        let shared = groups.shared().clone();
        let own = identity.disk;
        let leads = Arc::new(move |group: GroupId| {
            shared
                .statuses()
                .iter()
                .any(|status| status.group == group && status.leader == Some(own) && status.active)
        });
        if self.groups.set(groups).is_ok() {
            let controller = Controller::start(ControllerParts {
                env: self.env.clone(),
                cluster: self.cluster.clone(),
                disk: own,
                leads,
                compaction: Box::new(Compacting::new(self.fragments.engine().clone())),
                settings: self.controller_settings.clone(),
                shutdown: self.shutdown.clone(),
            });
            // Set once, beside the groups.
            let _ = self.controller.set(controller);
        }
        Ok(())
    }

    /// The groups, once the node belongs to a cluster.
    pub fn born(&self) -> Result<&Groups, NodeError> {
        self.groups.get().ok_or(NodeError::NotBorn)
    }

    /// Its data directory, until a sync on it fails: whoever has it end the node
    /// then, and the disk with it.
    pub fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    /// What an error of a start comes to while the node runs.
    fn fatal(&self, error: &StartError) -> Fatal {
        use holdfast_metadata::raft::StartError as Groups;
        match error {
            StartError::Identity(IdentityError::Disk(error)) => {
                Fatal::of_disk("the data directory", error)
            }
            StartError::Store(error) | StartError::Groups(Groups::Store(error)) => {
                self.store.fatal(error)
            }
            StartError::Groups(Groups::Log(error)) => error.fatal(),
            other => Fatal::Broken(other.to_string()),
        }
    }

    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.lock_identity().clone()
    }

    /// What its program can read and write.
    pub fn supports(&self) -> &Supported {
        &self.supports
    }

    /// Its view of the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its calls of the disk.
    pub fn disk_calls(&self) -> &DiskCalls {
        &self.disk_calls
    }

    /// Its loops.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Its fragments.
    pub fn fragments(&self) -> &Fragments {
        &self.fragments
    }

    /// What it does at a time for others.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The rows of the node's groups, for who compares replicas.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its controller, once the node belongs to a cluster.
    pub fn controller(&self) -> Option<&Controller> {
        self.controller.get()
    }

    fn lock_identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands leadership over, so that nobody waits for an election. The caller
    /// goes on answering calls meanwhile and ends them afterwards.
    pub async fn hand_over(&self, limit: Duration) {
        self.draining
            .store(true, std::sync::atomic::Ordering::Relaxed);
        let Some(groups) = self.groups.get() else {
            return;
        };
        let done = groups.hand_over();
        if holdfast_runtime::clock::within(self.env.clock.as_ref(), limit, done)
            .await
            .is_none()
        {
            tracing::warn!("leadership was not handed over in time");
        }
    }

    /// Saves what the disk engine knows, so that the next start has less to
    /// read. For the end, after the last call.
    pub async fn save_index(&self) {
        if let Err(error) = self.fragments.engine().save().await {
            tracing::warn!(%error, "the index is not saved: the next start reads more");
        }
    }
}

fn report_scan(engine: &Engine) {
    let report = engine.report();
    tracing::info!(?report, "the fragments were read");
}

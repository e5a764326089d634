//! How a node ends that cannot go on, so that a disk that has failed counts no
//! more.
//!
//! 1. Nothing is written or synced on the disk any more: nothing can be promised.
//! 2. The file `failed` is written. With it durable the process ends at once, and
//!    whoever starts on this disk is refused.
//! 3. A disk that does not take the file: the others are told. Group 0 is told of
//!    a start of this disk that is the last ([`LAST_START`]), as it is told of
//!    every start, and so is every other member. Whoever knows of it takes
//!    nothing of this disk's later starts, which have lower numbers, and group 0
//!    refuses them (`docs/decisions/0011-older-copies.md`). The process ends once
//!    group 0 has it, or after [`TELLING_LIMIT`].
//!
//! What remains is a disk that refuses the file while nobody can be told, and
//! works again at the next start.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{join, join_all};
use holdfast_client::{Cluster, ClusterError, ClusterSettings};
use holdfast_metadata::command::{ClusterCommand, Command, Refusal};
use holdfast_metadata::protocol::{self, RaftBatch};
use holdfast_model::{ClusterId, ClusterState, GroupId, Supported};
use holdfast_runtime::clock::within;
use holdfast_runtime::trusted::Trust;
use holdfast_runtime::{Address, Body, Call, Disk, Env, Fatal, OnFatal, Shutdown};

use crate::identity::{Identity, mark_failed};
use crate::peers;

/// The number of a disk's last start: no disk is started so often, so that every
/// start that follows is an older one.
pub const LAST_START: u64 = 1 << 48;
/// How long it is tried to tell the others: longer than group 0 may need for
/// another leader, which may have been this node.
const TELLING_LIMIT: Duration = Duration::from_secs(20);
/// How long one call about it may take.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// What the cluster knows a node by.
#[derive(Clone)]
pub(crate) struct Place {
    pub address: Address,
    pub zone: Option<String>,
    pub host: Option<String>,
    pub supports: Supported,
    /// Nodes it may ask for the cluster.
    pub seeds: Vec<Address>,
}

/// The end of a node.
pub(crate) struct Ending {
    env: Env,
    /// The disk itself, that of [`Trust`].
    disk: Arc<dyn Disk>,
    place: Place,
    on_fatal: OnFatal,
    trust: OnceLock<Trust>,
    known: Mutex<Known>,
    /// Over when the process is to be gone.
    over: Shutdown,
}

/// What is known so far.
#[derive(Default)]
struct Known {
    identity: Option<Identity>,
    cluster: Option<Cluster>,
    /// Whether it ends.
    begun: bool,
}

impl Ending {
    /// Of a node on `disk`; `on_fatal` ends the process.
    pub fn new(env: Env, disk: Arc<dyn Disk>, place: Place, on_fatal: OnFatal) -> Arc<Self> {
        Arc::new(Self {
            env,
            disk,
            place,
            on_fatal,
            trust: OnceLock::new(),
            known: Mutex::default(),
            over: Shutdown::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to end together with the disk.
    pub fn trusts(&self, trust: Trust) {
        // Set once, when the disk is opened.
        let _ = self.trust.set(trust);
    }

    /// Who the node is.
    pub fn is_of(&self, identity: &Identity) {
        self.lock().identity = Some(identity.clone());
    }

    /// Its view of the cluster.
    pub fn sees(&self, cluster: &Cluster) {
        self.lock().cluster = Some(cluster.clone());
    }

    /// Ends the node. Only the first reason counts.
    pub fn begin(self: &Arc<Self>, fatal: Fatal) {
        if std::mem::replace(&mut self.lock().begun, true) {
            return;
        }
        let (reason, tells) = match &fatal {
            Fatal::DiskFailed(reason) => (reason, true),
            // The same disk may be another node's, in a newer copy.
            Fatal::Outdated(reason) => (reason, false),
            Fatal::NoRoom(_) | Fatal::Refused(_) | Fatal::Broken(_) => return self.end(fatal),
        };
        if let Some(trust) = self.trust.get() {
            // It may have ended by itself.
            let _ = trust.end(reason);
        }
        match mark_failed(self.disk.as_ref(), reason) {
            Err(error) if tells => {
                tracing::error!(
                    %fatal,
                    %error,
                    "cannot note on the disk that it has failed: the others are told"
                );
                let own = self.clone();
                let telling = async move {
                    own.tell().await;
                    own.end(fatal);
                };
                self.env.tasks.spawn("farewell", Box::pin(telling));
            }
            marked => {
                if let Err(error) = marked {
                    tracing::error!(%error, "cannot note on the disk that it has failed");
                }
                self.end(fatal);
            }
        }
    }

    fn end(&self, fatal: Fatal) {
        (self.on_fatal)(fatal);
        self.over.begin();
    }

    /// Waits until the process may end, if it is about to.
    pub async fn over(&self) {
        let begun = self.lock().begun;
        if begun {
            self.over.begun().await;
        }
    }

    async fn tell(&self) {
        let (identity, cluster) = {
            let known = self.lock();
            (known.identity.clone(), known.cluster.clone())
        };
        // A disk that cannot be written may still be read.
        let identity = identity.or_else(|| Identity::find(self.disk.as_ref()).ok().flatten());
        let Some(identity) = identity else { return };
        let Some(of) = identity.cluster else { return };
        let cluster = cluster.unwrap_or_else(|| self.look_for_cluster());
        let told = async {
            let state = self.state_of(&cluster).await;
            let known = state.layout.nodes.get(&identity.node);
            if known.is_none_or(|node| node.incarnation > identity.incarnation) {
                // It has never been a member, or is an older copy: nobody takes it back.
                return true;
            }
            let members = self.tell_members(&identity, of, &state);
            join(self.tell_group_0(&identity, &cluster), members)
                .await
                .0
        };
        match within(self.env.clock.as_ref(), TELLING_LIMIT, told).await {
            Some(true) => tracing::error!("group 0 takes this disk back no more"),
            _ => tracing::error!(
                "group 0 could not be told that this disk has failed: do not start this node again \
                 on it, replace it as if it were empty"
            ),
        }
    }

    fn look_for_cluster(&self) -> Cluster {
        let mut seeds = self.place.seeds.clone();
        seeds.extend(peers::find(self.disk.as_ref()).unwrap_or_default());
        let settings = ClusterSettings::new(seeds);
        Cluster::start(self.env.clone(), settings, self.over.clone())
    }

    async fn state_of(&self, cluster: &Cluster) -> Arc<ClusterState> {
        loop {
            if let Some(state) = cluster.state() {
                return state;
            }
            self.env.clock.sleep(PAUSE).await;
        }
    }

    /// Says whether group 0 knows.
    async fn tell_group_0(&self, identity: &Identity, cluster: &Cluster) -> bool {
        let id = self.env.entropy.request_id(self.env.clock.as_ref());
        let place = &self.place;
        loop {
            let join = ClusterCommand::Join {
                node: identity.node,
                disk: identity.disk,
                address: place.address.0.clone(),
                zone: place.zone.clone(),
                host: place.host.clone(),
                incarnation: LAST_START,
                supports: place.supports,
            };
            let command = Command::Cluster(Box::new(join));
            let told = cluster.propose(GroupId::CLUSTER, id, command, CALL_LIMIT, None);
            match told.await {
                Ok(_) => return true,
                // Given up for lost, or another disk is in its place.
                Err(ClusterError::Refused(Refusal::Held(_))) => return true,
                Err(error) => tracing::debug!(%error, "group 0 does not know yet"),
            }
            self.env.clock.sleep(PAUSE).await;
        }
    }

    /// Tells every other disk once: those that hear it before group 0's rows
    /// reach them, and all of them where group 0 has no majority.
    async fn tell_members(&self, identity: &Identity, of: ClusterId, state: &ClusterState) {
        let others = state.layout.nodes.values();
        let others = others.filter(|node| node.disk != identity.disk);
        let calls = others.map(|node| {
            let batch = RaftBatch {
                cluster: of,
                from: identity.disk,
                to: node.disk,
                incarnation: LAST_START,
                sent: self.env.clock.wall(),
                messages: Vec::new(),
                knows: None,
                starts: Vec::new(),
            };
            let call = Call {
                path: protocol::RAFT,
                head: protocol::encode(&batch),
                body: Body::Empty,
                deadline: CALL_LIMIT,
                request_id: None,
            };
            let address = Address(node.address.clone());
            async move {
                if let Err(error) = self.env.transport.call(&address, call).await {
                    tracing::debug!(%error, %address, "a member was not told");
                }
            }
        });
        join_all(calls).await;
    }
}

#[cfg(test)]
#[path = "ending_tests.rs"]
mod tests;

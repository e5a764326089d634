//! The storage nodes that are known, what each said last, and which to pick.
//!
//! A node is known by its [`NodeId`]. It is called at the address that the
//! layout gives it, or, while it does not answer there, at the one (a seed)
//! where it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_metadata::protocol::Status;
use holdfast_model::placement::{DiskUse, choose_disks};
use holdfast_model::{ClusterState, DiskId, LayoutNode, NodeId, NodeState, Timestamp};
use holdfast_runtime::{Address, Env};

use crate::laggards::Laggards;
use crate::node::StorageNodeClient;
use crate::time::{Heard, median_time};

/// A node that answered so long ago at most is up: three polls.
pub const UP_LIMIT: Duration = Duration::from_secs(3);
/// A node that has been silent for longer is unreachable.
pub const UNREACHABLE_LIMIT: Duration = Duration::from_secs(10);

/// Whether a node answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Health {
    /// It answered within [`UP_LIMIT`].
    Up,
    /// It is silent, but not yet for [`UNREACHABLE_LIMIT`].
    Suspect,
    /// It is silent for longer, or has never answered.
    Unreachable,
}

/// A node of the layout as this process sees it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// What the layout says.
    pub node: LayoutNode,
    /// What it last said of itself, without the cluster's state.
    pub status: Option<Arc<Status>>,
    /// When it did.
    pub last_seen: Option<Timestamp>,
    /// How long its last answer to a poll took, or was waited for in vain.
    pub answered_in: Option<Duration>,
    /// Whether it answers.
    pub health: Health,
}

/// The storage nodes.
pub struct StorageNodeManager {
    env: Env,
    inner: Mutex<Inner>,
    laggards: Laggards,
}

#[derive(Default)]
struct Inner {
    state: Option<Arc<ClusterState>>,
    nodes: BTreeMap<NodeId, Known>,
}

struct Known {
    client: StorageNodeClient,
    status: Option<Arc<Status>>,
    /// When it last answered, by the monotonic clock and by the wall's.
    answered: Option<(Duration, Timestamp)>,
    /// When it last answered at the address that the layout gives it.
    answered_at_home: Option<Duration>,
    /// How long its last answer to a poll took, or was waited for in vain.
    answered_in: Option<Duration>,
    /// Nobody listened there when it was last called: it does not run.
    refused: bool,
}

impl StorageNodeManager {
    pub(crate) fn new(env: Env) -> Self {
        Self {
            env,
            inner: Mutex::default(),
            laggards: Laggards::default(),
        }
    }

    /// The lock is held for lookups only, never across an await.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// Makes a node known, or gives it another address.
    pub fn register_node(&self, node: NodeId, address: Address) {
        let client = || StorageNodeClient::new(Arc::clone(&self.env.transport), address.clone());
        self.lock()
            .nodes
            .entry(node)
            .and_modify(|known| {
                if *known.client.address() != address {
                    known.client = client();
                }
            })
            .or_insert_with(|| Known {
                client: client(),
                status: None,
                answered: None,
                answered_at_home: None,
                answered_in: None,
                refused: false,
            });
    }

    /// The node's client.
    pub fn get_node(&self, node: NodeId) -> Option<StorageNodeClient> {
        Some(self.lock().nodes.get(&node)?.client.clone())
    }

    /// The client of the node that has a disk.
    pub fn node_of_disk(&self, disk: DiskId) -> Option<StorageNodeClient> {
        let inner = self.lock();
        let node = inner.state.as_ref()?.layout.node_of(disk)?.id;
        Some(inner.nodes.get(&node)?.client.clone())
    }

    /// The layout's nodes.
    pub fn nodes(&self) -> Vec<NodeView> {
        let now = self.now();
        let inner = self.lock();
        let Some(state) = &inner.state else {
            return Vec::new();
        };
        state
            .layout
            .nodes
            .values()
            .map(|node| {
                let known = inner.nodes.get(&node.id);
                NodeView {
                    node: node.clone(),
                    status: known.and_then(|known| known.status.clone()),
                    last_seen: known.and_then(|known| Some(known.answered?.1)),
                    answered_in: known.and_then(|known| known.answered_in),
                    health: health(now, known),
                }
            })
            .collect()
    }

    /// Whether the node that has a disk answers.
    pub fn health_of_disk(&self, disk: DiskId) -> Health {
        let now = self.now();
        let inner = self.lock();
        let node = inner.state.as_ref().and_then(|s| s.layout.node_of(disk));
        health(now, node.and_then(|node| inner.nodes.get(&node.id)))
    }

    /// Up to `count` disks for new fragments, beside those that hold some
    /// already: of nodes that answer, in different zones, least used first.
    pub fn pick(&self, count: usize, holding: &[DiskId]) -> Vec<DiskId> {
        self.pick_avoiding(count, holding, &BTreeSet::new())
    }

    /// The same, without the disks to `avoid`.
    pub fn pick_avoiding(
        &self,
        count: usize,
        holding: &[DiskId],
        avoid: &BTreeSet<DiskId>,
    ) -> Vec<DiskId> {
        let mut uses = self.uses();
        uses.retain(|disk, _| !avoid.contains(disk));
        let Some(state) = self.state() else {
            return Vec::new();
        };
        let tie = self.env.entropy.number();
        choose_disks(&state.layout, &uses, holding, count, tie)
    }

    /// Who let others wait lately.
    pub(crate) fn laggards(&self) -> &Laggards {
        &self.laggards
    }

    /// Notes that a disk let somebody wait in vain.
    pub(crate) fn note_slow(&self, disk: DiskId) {
        if self.laggards.note(disk, self.now()) {
            tracing::warn!(%disk, "a node is much slower than the others: they are asked first");
            metrics::counter!("holdfast_slow_nodes_total").increment(1);
        }
    }

    /// Whether a disk let others wait lately.
    pub(crate) fn is_slow(&self, disk: DiskId) -> bool {
        self.laggards.is_slow(disk, self.now())
    }

    /// Disks that let others wait lately.
    pub(crate) fn slow_disks(&self) -> BTreeSet<DiskId> {
        self.laggards.all(self.now())
    }

    /// Whether `count` disks besides those to `avoid` could be picked if none
    /// of those that answer were full.
    pub(crate) fn lacks_room_only(&self, count: usize, avoid: &BTreeSet<DiskId>) -> bool {
        let mut uses = self.uses();
        uses.retain(|disk, room| !avoid.contains(disk) || room.full);
        uses.values_mut().for_each(|room| room.full = false);
        self.state()
            .is_some_and(|state| choose_disks(&state.layout, &uses, &[], count, 0).len() >= count)
    }

    /// What is known of each disk's room.
    pub fn uses(&self) -> BTreeMap<DiskId, DiskUse> {
        let now = self.now();
        let inner = self.lock();
        let mut uses = BTreeMap::new();
        for known in inner.nodes.values() {
            if let Some(status) = &known.status {
                let space = status.space;
                uses.insert(
                    status.disk,
                    DiskUse {
                        used: space.capacity.saturating_sub(space.free),
                        capacity: space.capacity,
                        answers: health(now, Some(known)) == Health::Up && !status.draining,
                        full: space.full,
                        inline_full: space.inline_full,
                    },
                );
            }
        }
        uses
    }

    pub(crate) fn state(&self) -> Option<Arc<ClusterState>> {
        self.lock().state.clone()
    }

    /// What the nodes' clocks show now, by the median; of those that answer,
    /// or else of all that ever did. `None` before the first answer.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        let (now, wall) = (self.now(), self.env.clock.wall());
        let inner = self.lock();
        let clock = |known: &Known| {
            let (at, answered) = known.answered?;
            let heard = Heard {
                told: known.status.as_ref()?.now,
                at,
                wall: answered,
            };
            Some(heard.now(now, wall))
        };
        let all = || inner.nodes.values();
        let answers = |known: &&Known| health(now, Some(known)) != Health::Unreachable;
        median_time(all().filter(answers).filter_map(clock))
            .or_else(|| median_time(all().filter_map(clock)))
    }

    /// What each node that answered within `limit` before `now` last said.
    pub(crate) fn statuses(&self, now: Duration, limit: Duration) -> Vec<Arc<Status>> {
        self.lock()
            .nodes
            .values()
            .filter(|known| {
                !known.refused
                    && known
                        .answered
                        .is_some_and(|(at, _)| now.saturating_sub(at) <= limit)
            })
            .filter_map(|known| known.status.clone())
            .collect()
    }

    /// Takes a state if it is newer than the one known. Returns whether it was.
    pub(crate) fn adopt(&self, state: ClusterState) -> bool {
        let known = self.state();
        if let Some(known) = known {
            if known.cluster != state.cluster {
                tracing::warn!(known = %known.cluster, other = %state.cluster,
                    "a node tells of another cluster: ignored");
                return false;
            }
            if known.revision >= state.revision {
                return false;
            }
        }
        let state = Arc::new(state);
        for node in state.layout.nodes.values() {
            let moved = self.lock().nodes.get(&node.id).is_none_or(|known| {
                // While it answers elsewhere it is called there, until it is
                // heard at its new address.
                known.answered.is_none()
            });
            if moved {
                self.register_node(node.id, Address(node.address.clone()));
            }
        }
        let mut inner = self.lock();
        inner
            .nodes
            .retain(|node, _| state.layout.nodes.contains_key(node));
        inner.state = Some(state);
        true
    }

    /// Where to ask for statuses: the layout's addresses, and `seeds`.
    pub(crate) fn addresses(&self, seeds: &[Address]) -> BTreeSet<Address> {
        let mut addresses: BTreeSet<_> = seeds.iter().cloned().collect();
        if let Some(state) = self.state() {
            let nodes = state.layout.nodes.values();
            let asked = nodes.filter(|node| node.state != NodeState::Lost);
            addresses.extend(asked.map(|node| Address(node.address.clone())));
        }
        addresses
    }

    /// Nobody listens at `address`: the node there does not count towards a
    /// quorum until it answers again.
    pub(crate) fn refused(&self, address: &Address) {
        self.note(address, |known| known.refused = true);
    }

    /// An answer from `address` was waited for in vain, so long.
    pub(crate) fn missed(&self, address: &Address, waited: Duration) {
        self.note(address, |known| known.answered_in = Some(waited));
    }

    fn note(&self, address: &Address, what: impl Fn(&mut Known)) {
        let mut inner = self.lock();
        let nodes = inner.nodes.values_mut();
        nodes
            .filter(|known| known.client.address() == address)
            .for_each(what);
    }

    /// Takes what a node said of itself at `address`, and how long it took.
    pub(crate) fn observe(&self, address: &Address, mut status: Status, took: Duration) {
        if let Some(state) = status.state.take() {
            self.adopt(*state);
        }
        let Some(state) = self.state() else { return };
        let Some(node) = state.layout.nodes.get(&status.node) else {
            return;
        };
        if status.cluster != Some(state.cluster) || status.disk != node.disk {
            return;
        }
        let now = self.now();
        let home = node.address == address.0;
        let elsewhere = self.lock().nodes.get(&status.node).is_none_or(|known| {
            known
                .answered_at_home
                .is_none_or(|at| now.saturating_sub(at) > UP_LIMIT)
        });
        if home || elsewhere {
            self.register_node(status.node, address.clone());
        }
        if let Some(known) = self.lock().nodes.get_mut(&status.node) {
            known.answered = Some((now, self.env.clock.wall()));
            known.answered_in = Some(took);
            if home {
                known.answered_at_home = Some(now);
            }
            known.refused = false;
            known.status = Some(Arc::new(status));
        }
    }
}

fn health(now: Duration, known: Option<&Known>) -> Health {
    match known.and_then(|known| known.answered) {
        Some((at, _)) if now.saturating_sub(at) <= UP_LIMIT => Health::Up,
        Some((at, _)) if now.saturating_sub(at) <= UNREACHABLE_LIMIT => Health::Suspect,
        _ => Health::Unreachable,
    }
}

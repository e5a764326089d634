//! A cluster of simulated machines, and what can befall it.

mod power;
mod starts;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_client::birth::{Beginning, FirstKey};
use holdfast_client::{Cluster, ClusterSettings};
use holdfast_controller::ControllerSettings;
use holdfast_model::{DiskId, GroupId, NodeId, Supported};
use holdfast_node::{Node, found_cluster};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Address, Entropy, Env, Shutdown};
use tokio_util::sync::CancellationToken;

use crate::machine::{Machine, MachineClock, MachineTasks, SeededEntropy};
use crate::network::Network;
use crate::points::{AtPoint, Points};
use crate::trace::Trace;

/// Bytes of a simulated disk.
const DISK_BYTES: u64 = 1 << 30;
/// Bytes of it that only logs, deletes and compaction may use.
pub const RESERVE_BYTES: u64 = 16 << 20;
/// The token of the first key.
pub const ADMIN_TOKEN: &str = "simulated-admin-token";

/// A storage node of the world.
pub struct Member {
    /// Where it listens.
    pub address: Address,
    /// Its disk, which survives power cuts as far as it was synced.
    pub disk: MemoryDisk,
    /// How many disks it has had.
    pub disks: u64,
    /// Its machine, while it has power.
    pub machine: Option<Machine>,
    /// The node, while it runs.
    pub node: Option<Arc<Node>>,
    /// What its program can read and write when it starts next.
    pub supports: Supported,
    /// What its rows said of disks' starts when it ran last.
    starts: BTreeMap<DiskId, u64>,
    /// Why it ended itself, if it did.
    pub fatal: Arc<Mutex<Option<String>>>,
}

/// A simulated cluster.
pub struct World {
    /// The seed that all was drawn from.
    pub seed: u64,
    /// Randomness for whoever drives the run.
    pub entropy: Arc<dyn Entropy>,
    /// What happened.
    pub trace: Arc<Trace>,
    /// The links.
    pub network: Arc<Network>,
    /// Where machines lose power in the middle of what they do.
    pub points: Arc<Points>,
    /// The nodes, by their number.
    pub members: BTreeMap<usize, Member>,
    start: tokio::time::Instant,
    /// How long work on a disk takes at most.
    pub max_disk_millis: u64,
    /// Bytes of a file of the Raft log: small, so that logs are purged.
    pub log_file_bytes: u64,
    /// Bytes of a segment of fragments.
    pub segment_bytes: u64,
    /// The longest that a client pauses between two operations.
    pub client_pause: Duration,
    /// How the controllers are set.
    pub controller: ControllerSettings,
}

/// Runs `scenario` in a world of its own, with paused time.
pub fn run<T>(seed: u64, scenario: impl AsyncFnOnce(World) -> T) -> T {
    #[allow(
        clippy::expect_used,
        reason = "a runtime without IO cannot fail to be made"
    )]
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let world = World::new(seed);
        let network = world.network.clone();
        let result = scenario(world).await;
        network.close();
        result
    })
}

impl World {
    fn new(seed: u64) -> Self {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(seed));
        let start = tokio::time::Instant::now();
        let trace = Arc::new(Trace::new(start));
        let network = Network::new(
            Arc::new(SeededEntropy::new(seed ^ 0x6e65_7477)),
            trace.clone(),
        );
        Self {
            seed,
            entropy,
            trace,
            network,
            points: Arc::default(),
            members: BTreeMap::new(),
            start,
            max_disk_millis: 3,
            log_file_bytes: 32 << 20,
            segment_bytes: 32 << 20,
            client_pause: Duration::from_millis(250),
            controller: ControllerSettings::default(),
        }
    }

    /// The address of a machine.
    pub fn address(number: usize) -> Address {
        Address(format!("node-{number}:8000"))
    }

    /// Adds machines with empty disks, numbered from the next free one.
    pub fn add(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.members.len() + 1;
            self.members.insert(
                number,
                Member {
                    address: Self::address(number),
                    disk: MemoryDisk::new(DISK_BYTES, self.seed ^ (number as u64) << 32),
                    disks: 1,
                    machine: None,
                    node: None,
                    supports: Supported::OWN,
                    starts: BTreeMap::new(),
                    fatal: Arc::default(),
                },
            );
        }
    }

    /// Every member's address.
    pub fn addresses(&self) -> Vec<Address> {
        self.members
            .values()
            .map(|member| member.address.clone())
            .collect()
    }

    /// The world as one process on a machine sees it.
    pub fn env(&self, own: Address, power: CancellationToken, clock: Arc<MachineClock>) -> Env {
        let millis = Arc::new(AtomicU64::new(self.max_disk_millis));
        self.env_with_disk(own, power, clock, millis, None)
    }

    fn env_with_disk(
        &self,
        own: Address,
        power: CancellationToken,
        clock: Arc<MachineClock>,
        disk_millis: Arc<AtomicU64>,
        at_point: Option<AtPoint>,
    ) -> Env {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(self.entropy.number()));
        Env {
            clock,
            tasks: Arc::new(MachineTasks::new(
                power.clone(),
                entropy.clone(),
                disk_millis,
                self.trace.clone(),
                at_point,
            )),
            transport: self.network.transport(own, power),
            entropy,
        }
    }

    /// The numbers of all machines.
    pub fn numbers(&self) -> Vec<usize> {
        self.members.keys().copied().collect()
    }

    /// The id of the node on a machine that has power.
    pub fn node_id(&self, number: usize) -> Option<NodeId> {
        let node = self.members.get(&number)?.node.as_ref()?;
        Some(node.identity().node)
    }

    /// The machine whose node leads a group, as far as it knows.
    pub fn leader(&self, group: GroupId) -> Option<usize> {
        let leads = |member: &Member| {
            let node = member.node.as_ref()?;
            let own = node.identity().disk;
            let groups = node.status().groups;
            groups
                .iter()
                .find(|status| status.group == group && status.leader == Some(own))
                .map(|status| status.term)
        };
        let leaders = self
            .members
            .iter()
            .filter(|(number, _)| self.runs(**number));
        leaders
            .filter_map(|(number, member)| Some((leads(member)?, *number)))
            .max()
            .map(|(_, number)| number)
    }

    /// Whether a node runs and has not ended itself.
    pub fn runs(&self, number: usize) -> bool {
        self.members.get(&number).is_some_and(|member| {
            member
                .machine
                .as_ref()
                .is_some_and(|machine| !machine.power.is_cancelled())
        })
    }

    /// Sets how long work on a machine's disk takes at most.
    pub fn set_disk_millis(&self, number: usize, millis: u64) {
        if let Some(machine) = self.members.get(&number).and_then(|m| m.machine.as_ref()) {
            machine.disk_millis.store(millis, Ordering::Relaxed);
        }
    }

    /// Sets a machine's wall clock ahead, or back.
    pub fn set_clock(&self, number: usize, offset_millis: i64) {
        if let Some(machine) = self.members.get(&number).and_then(|m| m.machine.as_ref()) {
            machine
                .clock
                .offset_millis
                .store(offset_millis, Ordering::Relaxed);
        }
    }

    /// Cuts one machine off from all others, both ways, or mends its links.
    pub fn isolate(&self, number: usize, cut: bool) {
        let own = Self::address(number);
        for other in self.addresses().into_iter().filter(|other| *other != own) {
            self.network.set_cut(&own, &other, cut);
            self.network.set_cut(&other, &own, cut);
        }
    }

    /// Founds the cluster of all members, as the first of them.
    ///
    /// # Errors
    /// Why it was not founded.
    pub async fn found(&self) -> Result<(), String> {
        let member = self.members.get(&1).ok_or("no machines")?;
        let machine = member.machine.as_ref().ok_or("machine 1 has no power")?;
        let env = self.env(
            member.address.clone(),
            machine.power.clone(),
            machine.clock.clone(),
        );
        found_cluster(
            &env,
            &member.disk,
            &self.addresses(),
            &Beginning::usual(FirstKey::of(ADMIN_TOKEN), Default::default()),
        )
        .await
        .map(|_| ())
        .map_err(|error| error.to_string())
    }

    /// A client's view of the cluster, on a machine of its own.
    pub fn client(&self, name: &str) -> (Cluster, CancellationToken) {
        let power = CancellationToken::new();
        let clock = Arc::new(MachineClock::new(self.start));
        let env = self.env(Address(name.to_owned()), power.clone(), clock);
        let settings = ClusterSettings::new(self.addresses());
        (Cluster::start(env, settings, Shutdown::default()), power)
    }

    /// Lets time go on.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// A cluster of `count` nodes that is founded and has leaders, and a client.
    ///
    /// # Errors
    /// What did not happen in time.
    pub async fn founded(&mut self, count: usize) -> Result<Cluster, String> {
        self.add(count);
        for number in 1..=count {
            self.start(number).await?;
        }
        self.found().await?;
        let (cluster, _) = self.client("client:1");
        cluster
            .wait_ready(Duration::from_secs(30))
            .await
            .map_err(|error| error.to_string())?;
        Ok(cluster)
    }
}

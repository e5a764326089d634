//! What befalls a cluster, drawn from the seed: when each fault begins and what
//! ends it.
//!
//! At most one fault of a run damages what is durable (a failed sync, flipped
//! bits): with two copies acknowledged of three, two damaged disks at once may
//! lose data, and nothing is promised then.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_runtime::{Address, Disk, Entropy};

use crate::world::{RESERVE_BYTES, World};

/// One change of the world.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A node loses power.
    PowerCut(usize),
    /// Every node loses power at once.
    PowerCutAll,
    /// A node's disk stops after so many more changes, in the middle of
    /// whatever is written then; [`Step::PowerCut`] follows.
    StopDisk(usize, u64),
    /// A node's process is killed.
    Kill(usize),
    /// A node is asked to end, and hands its groups over.
    Stop(usize),
    /// A node is started, if it does not run.
    Start(usize),
    /// A node is cut off from the others, or no longer.
    Isolate(usize, bool),
    /// What others send to a node is lost, or no longer.
    Deaf(usize, bool),
    /// What a node sends to others is lost, or no longer.
    Mute(usize, bool),
    /// The link between two nodes is cut, or mended.
    Pair(usize, usize, bool),
    /// Of 1,000 messages so many are lost, and they take at most so many ms.
    Quality(u64, u64),
    /// A node's disk takes at most so many ms for a piece of work.
    SlowDisk(usize, u64),
    /// A node's wall clock is off by so many ms.
    Clock(usize, i64),
    /// A node is started with such a clock.
    StartWithClock(usize, i64),
    /// A node's next sync fails.
    FailSync(usize),
    /// A node whose sync failed is started again, must refuse, and gets an
    /// empty disk.
    Replace(usize),
    /// So many bits of a node's fragments flip.
    Flip(usize, u64),
    /// A node's disk is full but for its reserve, or no longer.
    Full(usize, bool),
}

/// Steps with their times.
pub type Schedule = Vec<(Duration, Step)>;

/// How long all clients work while faults come.
pub const WORK: Duration = Duration::from_secs(30);
/// The first fault comes after this, when there is something to harm.
const QUIET: u64 = 2_000;
/// The last fault begins at this time.
const LAST_BEGIN: u64 = 22_000;

/// Draws a schedule for `nodes` nodes.
pub fn draw(entropy: &dyn Entropy, nodes: usize) -> Schedule {
    let mut draw = Draw {
        entropy,
        nodes,
        steps: Vec::new(),
        damaged: false,
    };
    let count = 2 + draw.below(5);
    for _ in 0..count {
        draw.fault();
    }
    let mut steps = draw.steps;
    // Stable, so that equal times keep the order in which they were drawn.
    steps.sort_by_key(|(at, _)| *at);
    steps
}

struct Draw<'e> {
    entropy: &'e dyn Entropy,
    nodes: usize,
    steps: Schedule,
    damaged: bool,
}

impl Draw<'_> {
    fn below(&self, bound: u64) -> u64 {
        self.entropy.below(bound)
    }

    fn add(&mut self, at: u64, step: Step) {
        self.steps.push((Duration::from_millis(at), step));
    }

    fn during(&mut self, from: u64, to: u64, step: impl Fn(bool) -> Step) {
        self.add(from, step(true));
        self.add(to, step(false));
    }

    fn fault(&mut self) {
        let node = 1 + self.below(self.nodes as u64) as usize;
        let at = QUIET + self.below(LAST_BEGIN - QUIET);
        let short = at + 100 + self.below(1_500);
        let long = at + 500 + self.below(9_000);
        match self.below(17) {
            0 => {
                self.add(at, Step::PowerCut(node));
                self.add(long, Step::Start(node));
            }
            1 | 2 => {
                self.add(at, Step::PowerCutAll);
                for number in 1..=self.nodes {
                    let later = short + self.below(800);
                    self.add(later, Step::Start(number));
                }
            }
            3 => {
                let changes = self.below(25);
                self.add(at, Step::StopDisk(node, changes));
                self.add(at + 400, Step::PowerCut(node));
                self.add(at + 500 + self.below(2_000), Step::Start(node));
            }
            4 => {
                self.add(at, Step::Kill(node));
                self.add(short, Step::Start(node));
            }
            5 => {
                self.add(at, Step::Stop(node));
                self.add(at + 1_500, Step::Kill(node));
                self.add(at + 1_600, Step::Start(node));
            }
            6 => self.during(at, long, |on| Step::Isolate(node, on)),
            7 => self.during(at, long, |on| Step::Deaf(node, on)),
            8 => self.during(at, long, |on| Step::Mute(node, on)),
            9 => {
                let mut now = at;
                for turn in 0..6 + self.below(6) {
                    self.add(now, Step::Isolate(node, turn % 2 == 0));
                    now += 200 + self.below(1_300);
                }
                self.add(now, Step::Isolate(node, false));
            }
            10 => {
                let other = 1 + node % self.nodes;
                self.during(at, long, |on| Step::Pair(node, other, on));
            }
            11 => {
                let (lost, latency) = (20 + self.below(180), 5 + self.below(60));
                self.add(at, Step::Quality(lost, latency));
                self.add(long, Step::Quality(0, 2));
            }
            12 => {
                let millis = 50 + self.below(700);
                self.add(at, Step::SlowDisk(node, millis));
                self.add(long, Step::SlowDisk(node, 3));
            }
            13 => {
                let hour = 3_600_000;
                let off = if self.below(2) == 0 { hour } else { -hour };
                self.add(at, Step::PowerCut(node));
                self.add(short, Step::StartWithClock(node, off));
                self.add(short + 500 + self.below(9_000), Step::Clock(node, 0));
            }
            14 if !self.damaged => {
                self.damaged = true;
                self.add(at, Step::FailSync(node));
                self.add(at + 1_000 + self.below(3_000), Step::Replace(node));
            }
            15 if !self.damaged => {
                self.damaged = true;
                let bits = 1 + self.below(12);
                self.add(at, Step::Flip(node, bits));
            }
            _ => self.during(at, long, |on| Step::Full(node, on)),
        }
    }
}

/// What must be undone, and what a node may not do any more.
#[derive(Default)]
pub struct Applied {
    /// Bytes taken from disks.
    taken: BTreeMap<usize, u64>,
    /// Nodes whose next sync fails, or has failed.
    failing: Vec<usize>,
}

impl Applied {
    /// Does one step.
    pub async fn step(&mut self, world: &mut World, step: &Step) {
        world.trace.tell(&format!("fault {step:?}"));
        match *step {
            Step::PowerCut(node) => world.power_cut(node),
            Step::PowerCutAll => {
                for node in world.members.keys().copied().collect::<Vec<_>>() {
                    world.power_cut(node);
                }
            }
            // A sync that fails on a disk that cannot note that it failed is
            // two faults at once.
            Step::StopDisk(node, _) if self.failing.contains(&node) => {}
            Step::StopDisk(node, changes) => {
                if let Some(member) = world.members.get(&node) {
                    member.disk.cut_after(changes);
                }
            }
            Step::Kill(node) => world.kill(node),
            Step::Stop(node) => self.stop(world, node),
            Step::Start(node) => self.start(world, node).await,
            Step::Isolate(node, on) => world.isolate(node, on),
            Step::Deaf(node, on) => self.links(world, node, on, true),
            Step::Mute(node, on) => self.links(world, node, on, false),
            Step::Pair(a, b, on) => {
                let (a, b) = (World::address(a), World::address(b));
                world.network.set_cut(&a, &b, on);
                world.network.set_cut(&b, &a, on);
            }
            Step::Quality(lost, latency) => world.network.set_quality(lost, latency),
            Step::SlowDisk(node, millis) => world.set_disk_millis(node, millis),
            Step::Clock(node, off) => world.set_clock(node, off),
            Step::StartWithClock(node, off) => {
                self.start(world, node).await;
                world.set_clock(node, off);
            }
            Step::FailSync(node) => {
                if let Some(member) = world.members.get(&node).filter(|_| world.runs(node)) {
                    member.disk.fail_next_sync();
                    self.failing.push(node);
                }
            }
            Step::Replace(node) => self.replace(world, node).await,
            Step::Flip(node, bits) => flip(world, node, bits),
            Step::Full(node, true) => self.fill(world, node),
            Step::Full(node, false) => self.empty(world, node),
        }
    }

    fn stop(&self, world: &World, node: usize) {
        let Some(member) = world.members.get(&node) else {
            return;
        };
        if let (Some(machine), Some(node)) = (&member.machine, member.node.clone()) {
            let shutdown = machine.shutdown.clone();
            let env = node.cluster().env().clone();
            env.tasks.spawn(
                "stop",
                Box::pin(async move {
                    node.hand_over(Duration::from_secs(1)).await;
                    shutdown.begin();
                }),
            );
        }
    }

    fn links(&self, world: &World, node: usize, on: bool, inbound: bool) {
        let own = World::address(node);
        for other in world.addresses().into_iter().filter(|other| *other != own) {
            let (from, to): (&Address, &Address) = if inbound {
                (&other, &own)
            } else {
                (&own, &other)
            };
            world.network.set_cut(from, to, on);
        }
    }

    async fn start(&mut self, world: &mut World, node: usize) {
        if world.runs(node) {
            return;
        }
        match world.start(node).await {
            Ok(()) => world.trace.tell(&format!("node {node} starts")),
            Err(error) if self.failing.contains(&node) => {
                world
                    .trace
                    .tell(&format!("node {node} stays away: {error}"));
            }
            Err(error) => world
                .trace
                .wrong(format!("node {node} does not start: {error}")),
        }
    }

    /// What an operator does with a disk that failed: tries it once more, in
    /// vain, and puts in an empty one.
    async fn replace(&mut self, world: &mut World, node: usize) {
        if world.runs(node) || !self.failing.contains(&node) {
            return;
        }
        let failed = world
            .members
            .get(&node)
            .is_some_and(|member| member.disk.open("failed").is_ok());
        if !failed {
            // A power cut came before any sync did.
            self.failing.retain(|other| *other != node);
            return self.start(world, node).await;
        }
        world.kill(node);
        if world.start(node).await.is_ok() {
            let what = format!("node {node} starts with a disk whose sync had failed");
            world.trace.wrong(what);
        }
        self.failing.retain(|other| *other != node);
        self.taken.remove(&node);
        world.replace_disk(node);
        self.start(world, node).await;
    }

    fn fill(&mut self, world: &World, node: usize) {
        let Some(member) = world.members.get(&node) else {
            return;
        };
        let Ok(space) = member.disk.space() else {
            return;
        };
        let left = RESERVE_BYTES + (256 << 10);
        let taken = space.free.saturating_sub(left);
        member.disk.set_free(space.free - taken);
        *self.taken.entry(node).or_default() += taken;
    }

    fn empty(&mut self, world: &World, node: usize) {
        let Some(taken) = self.taken.remove(&node) else {
            return;
        };
        if let Some(member) = world.members.get(&node)
            && let Ok(space) = member.disk.space()
        {
            member.disk.set_free(space.free + taken);
        }
    }

    /// Ends all faults: every link and disk is good, and every node runs.
    pub async fn heal(&mut self, world: &mut World) {
        world.trace.tell("all faults end");
        world.network.mend();
        world.network.set_quality(0, 2);
        for node in world.members.keys().copied().collect::<Vec<_>>() {
            self.empty(world, node);
            world.set_clock(node, 0);
            world.set_disk_millis(node, 3);
            if self.failing.contains(&node) {
                if world.runs(node) {
                    // No sync came in time to fail: the power cut takes the fault away.
                    world.power_cut(node);
                }
                self.replace(world, node).await;
            }
            let stopping = world.members.get(&node).and_then(|m| m.machine.as_ref());
            if stopping.is_some_and(|machine| machine.shutdown.has_begun()) {
                world.kill(node);
            }
            if !world.runs(node) {
                world.power_cut(node);
            }
            self.start(world, node).await;
        }
    }
}

/// Flips bits where there is data, since most of a segment is holes.
fn flip(world: &World, node: usize, bits: u64) {
    const PAGE: u64 = 4 << 10;
    let Some(member) = world.members.get(&node) else {
        return;
    };
    let disk = &member.disk;
    let mut pages = Vec::new();
    for name in disk.list("blobs").unwrap_or_default() {
        let name = format!("blobs/{name}");
        let Ok(len) = disk.open(&name).and_then(|file| file.len()) else {
            continue;
        };
        for page in 0..len / PAGE {
            let at = page * PAGE;
            let used = disk.peek(&name, at, PAGE as usize);
            if used.is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0)) {
                pages.push((name.clone(), at));
            }
        }
    }
    for _ in 0..bits {
        let page = world.entropy.below(pages.len() as u64) as usize;
        let bit = world.entropy.below(PAGE * 8);
        if let Some((name, at)) = pages.get(page) {
            // The file was there a moment ago, and nothing runs meanwhile.
            let _ = disk.flip_bit(name, at * 8 + bit);
            world
                .trace
                .tell(&format!("bit {bit} at {at} of {name} flips"));
        }
    }
}

//! Doing the steps of a schedule to the world, and undoing them at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_model::{GroupId, NodeId, NodeState};
use holdfast_node::identity::Identity;
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Address, Disk};

use super::{Step, damage};
use crate::checks;
use crate::orders::Operator;
use crate::world::{RESERVE_BYTES, World};

/// How many times slower a slow node is.
const SLOW_TIMES: u64 = 50;
/// The longest that work on a good disk takes, in milliseconds.
const GOOD_DISK_MILLIS: u64 = 3;

/// Why a node's disk is not to be served with again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bad {
    /// A sync fails, or has failed: once the disk has noted it, it must be refused.
    Failing,
    /// No sync succeeds, that of the note neither: it must be refused, by the note
    /// or by the others.
    Untrusted,
    /// Bits have flipped: it may be refused, or be good enough.
    Rotten,
    /// It must not be taken back: it is old, or was given up.
    Outcast,
    /// The same, and it is an older copy: it runs only where others can tell.
    Older,
}

/// What must be undone, and what a node may not do any more.
#[derive(Default)]
pub struct Applied {
    /// Bytes taken from disks.
    taken: BTreeMap<usize, u64>,
    /// Nodes whose disks are bad.
    bad: BTreeMap<usize, Bad>,
    /// Copies of disks, and which start of which disk each is.
    copies: BTreeMap<usize, (MemoryDisk, Identity)>,
    operator: Option<Operator>,
    /// Nodes that were ordered to drain, and whether the order was taken.
    drained: Vec<(usize, NodeId, Arc<AtomicBool>)>,
    /// Names of all steps that were done.
    pub seen: BTreeSet<String>,
    /// When the schedule began, since the run did.
    pub begun: Duration,
    /// How often named points were passed before all faults ended.
    pub passed: BTreeMap<&'static str, u64>,
    /// Nodes whose drains ended before all faults did.
    pub drains_ended: Vec<usize>,
}

impl Applied {
    /// Does one step.
    pub async fn step(&mut self, world: &mut World, step: &Step) {
        world.trace.tell(&format!("fault {step:?}"));
        self.seen.insert(step.name());
        match *step {
            Step::PowerCut(_)
            | Step::PowerCutAll
            | Step::StopDisk(..)
            | Step::CutAt(..)
            | Step::Kill(_)
            | Step::CutLeader(_)
            | Step::Stop(_)
            | Step::Start(_)
            | Step::StartAll => self.machine(world, step).await,
            Step::Isolate(..)
            | Step::Deaf(..)
            | Step::Mute(..)
            | Step::Pair(..)
            | Step::Links(_)
            | Step::Silence(_) => links(world, step),
            Step::SlowDisk(node, millis) => world.set_disk_millis(node, millis),
            Step::SlowNode(node, on) => {
                let times = if on { SLOW_TIMES } else { 1 };
                world.set_disk_millis(node, GOOD_DISK_MILLIS * times);
                world.network.set_slow(&World::address(node), times);
            }
            Step::Clock(node, off) => world.set_clock(node, off),
            Step::StartWithClock(node, off) => {
                self.start(world, node).await;
                world.set_clock(node, off);
            }
            Step::Full(node, true) => self.fill(world, node),
            Step::Full(node, false) => self.empty(world, node),
            Step::FullAll(on) => {
                for node in world.numbers() {
                    match on {
                        true => self.fill(world, node),
                        false => self.empty(world, node),
                    }
                }
            }
            Step::Grow => {
                world.add(1);
                let node = world.members.len();
                self.start(world, node).await;
            }
            Step::Drain(node) => self.drain(world, node),
            Step::KeepIndex(node, whole) => keep_index(world, node, whole),
            _ => self.damage(world, step).await,
        }
    }

    async fn machine(&mut self, world: &mut World, step: &Step) {
        match *step {
            Step::PowerCut(node) => world.power_cut(node),
            Step::PowerCutAll => {
                for node in world.numbers() {
                    world.power_cut(node);
                }
            }
            // A sync that fails on a disk that cannot note that it failed is
            // two faults at once.
            Step::StopDisk(node, _) if self.bad.contains_key(&node) => {}
            // Nothing is written then, until its next start.
            Step::StopDisk(node, _) if !world.runs(node) => {}
            Step::StopDisk(node, changes) => {
                if let Some(member) = world.members.get(&node) {
                    member.disk.cut_after(changes);
                }
            }
            Step::CutAt(point, before) => world.points.arm(point, before),
            Step::Kill(node) => world.kill(node),
            Step::CutLeader(group) => {
                if let Some(node) = world.leader(GroupId(group)) {
                    world.power_cut(node);
                }
            }
            Step::Stop(node) => stop(world, node),
            Step::Start(node) => self.start(world, node).await,
            _ => {
                for node in world.numbers() {
                    self.start(world, node).await;
                }
            }
        }
    }

    async fn damage(&mut self, world: &mut World, step: &Step) {
        match *step {
            Step::FailSync(node) => {
                if let Some(member) = world.members.get(&node).filter(|_| world.runs(node)) {
                    member.disk.fail_next_sync();
                    self.bad.insert(node, Bad::Failing);
                }
            }
            Step::FailSyncs(node, _) | Step::Refuse(node) => {
                if let Some(member) = world.members.get(&node) {
                    match *step {
                        Step::FailSyncs(_, syncs) => member.disk.fail_syncs_after(syncs),
                        _ => member.disk.refuse_changes(),
                    }
                    self.bad.insert(node, Bad::Untrusted);
                }
            }
            Step::Mend(node) => {
                if let Some(member) = world.members.get(&node) {
                    member.disk.mend();
                }
            }
            Step::Flip(node, bits, heads) => damage::flip_fragments(world, node, bits, heads),
            Step::ZeroFile(node) => damage::zero_file(world, node),
            Step::RotIndex(node) => damage::rot_index(world, node),
            Step::RotLog(node, bits) | Step::RotState(node, bits) => {
                let rotten = match step {
                    Step::RotLog(..) => damage::flip_log(world, node, bits),
                    _ => damage::flip_state(world, node, bits),
                };
                if rotten {
                    self.bad.insert(node, Bad::Rotten);
                }
                world.power_cut(node);
                self.start(world, node).await;
            }
            Step::SwapDisk(node) => {
                self.taken.remove(&node);
                world.replace_disk(node);
                self.start(world, node).await;
            }
            Step::Lose(node) => {
                if let Some(id) = world.node_id(node) {
                    world.power_cut(node);
                    self.operator(world).order(world, id, NodeState::Lost);
                    self.bad.insert(node, Bad::Outcast);
                }
            }
            Step::CopyDisk(node) => {
                if let Some(copy) = world.copy_disk(node)
                    && let Ok(Some(identity)) = Identity::find(&copy)
                {
                    self.copies.insert(node, (copy, identity));
                }
            }
            Step::OldDisk(node) => self.put_back(world, node).await,
            Step::Replace(node) => self.replace(world, node).await,
            _ => {}
        }
    }

    /// Starts a node with the copy of its disk, if all the others know of a later
    /// start than the one that the copy is about to have: nobody else can tell
    /// (docs/decisions/0011-older-copies.md).
    async fn put_back(&mut self, world: &mut World, node: usize) {
        let Some((copy, identity)) = self.copies.remove(&node) else {
            return;
        };
        if !world.others_know_later(node, identity.disk, identity.incarnation + 1) {
            world.trace.tell(&format!(
                "node {node} keeps its disk: the others do not know of its starts"
            ));
            self.seen.remove(&Step::OldDisk(node).name());
            self.seen.insert("OldDiskLeftOut".to_owned());
            return;
        }
        self.taken.remove(&node);
        world.insert_disk(node, copy);
        self.bad.insert(node, Bad::Older);
        self.start(world, node).await;
    }

    fn operator(&mut self, world: &World) -> &Operator {
        self.operator.get_or_insert_with(|| Operator::new(world))
    }

    fn drain(&mut self, world: &World, node: usize) {
        if let Some(id) = world.node_id(node) {
            let order = self.operator(world).order(world, id, NodeState::Draining);
            self.drained.push((node, id, order));
        }
    }

    async fn start(&mut self, world: &mut World, node: usize) {
        if world.runs(node) {
            return;
        }
        if self.bad.get(&node) == Some(&Bad::Older) && !world.others_know_copy(node) {
            return world.trace.tell(&format!("the copy of node {node} waits"));
        }
        match world.start(node).await {
            Ok(()) => world.trace.tell(&format!("node {node} starts")),
            Err(error) if self.bad.contains_key(&node) => {
                world
                    .trace
                    .tell(&format!("node {node} stays away: {error}"));
            }
            Err(error) if world.members.get(&node).is_some_and(|m| m.disk.is_cut()) => {
                world
                    .trace
                    .tell(&format!("the disk of node {node} stops: {error}"));
            }
            Err(error) => world
                .trace
                .wrong(format!("node {node} does not start: {error}")),
        }
    }

    /// What a person does with a disk that failed: tries it once more, in vain,
    /// and puts in an empty one.
    async fn replace(&mut self, world: &mut World, node: usize) {
        let Some(bad) = self.bad.get(&node).copied() else {
            return;
        };
        let failed = world
            .members
            .get(&node)
            .is_some_and(|member| member.disk.open("failed").is_ok());
        match bad {
            Bad::Failing if world.runs(node) => return,
            Bad::Failing if !failed => {
                // A power cut came before any sync did.
                self.bad.remove(&node);
                return self.start(world, node).await;
            }
            Bad::Untrusted if world.runs(node) => {
                let what = format!("node {node} runs with a disk that takes no sync");
                world.trace.wrong(what);
            }
            Bad::Rotten | Bad::Outcast | Bad::Older if world.runs(node) => {
                // Flipped where nothing is read, or not yet; or nobody has been
                // there to refuse it.
                world.trace.tell(&format!("node {node} still runs"));
            }
            _ => {}
        }
        world.kill(node);
        if failed && world.start(node).await.is_ok() {
            let what = format!("node {node} starts with a disk that has failed");
            world.trace.wrong(what);
        }
        self.bad.remove(&node);
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

    /// Notes how far things have come while the faults were there.
    pub async fn look(&mut self, world: &World) {
        self.passed = world.points.passed();
        for one in self.drained(world) {
            if checks::drained(world, &[one]).await.is_ok() {
                self.drains_ended.push(one.0);
            }
        }
    }

    /// Ends all faults: every link and disk is good, and every node runs.
    pub async fn heal(&mut self, world: &mut World) {
        world.trace.tell("all faults end");
        world.network.mend();
        world.points.disarm();
        for node in world.numbers() {
            self.empty(world, node);
            world.set_clock(node, 0);
            world.set_disk_millis(node, GOOD_DISK_MILLIS);
            if let Some(bad) = self.bad.get(&node) {
                if *bad == Bad::Failing && world.runs(node) {
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

    /// Nodes that were drained and kept their disks since, by their ids.
    pub fn drained(&self, world: &World) -> Vec<(usize, NodeId)> {
        let drained = self.drained.iter().filter(|(node, id, taken)| {
            taken.load(Ordering::Relaxed) && world.node_id(*node) == Some(*id)
        });
        drained.map(|(node, id, _)| (*node, *id)).collect()
    }
}

fn stop(world: &World, node: usize) {
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
                node.save_index().await;
                shutdown.begin();
            }),
        );
    }
}

fn keep_index(world: &World, node: usize, whole: bool) {
    let Some(node) = world.members.get(&node).and_then(|m| m.node.clone()) else {
        return;
    };
    let env = node.cluster().env().clone();
    let (engine, trace) = (node.fragments().engine().clone(), world.trace.clone());
    let keep = async move {
        let kept = match whole {
            true => engine.checkpoint().await,
            false => engine.save().await,
        };
        if let Err(error) = kept {
            trace.tell(&format!("an index is not saved: {error}"));
        }
    };
    env.tasks.spawn("keep-index", Box::pin(keep));
}

fn links(world: &World, step: &Step) {
    match *step {
        Step::Isolate(node, on) => world.isolate(node, on),
        Step::Deaf(node, on) => one_way(world, node, on, true),
        Step::Mute(node, on) => one_way(world, node, on, false),
        Step::Pair(a, b, on) => {
            let (a, b) = (World::address(a), World::address(b));
            world.network.set_cut(&a, &b, on);
            world.network.set_cut(&b, &a, on);
        }
        Step::Links(quality) => world.network.set_quality(quality),
        Step::Silence(group) => world.network.silence(group.map(GroupId)),
        _ => {}
    }
}

fn one_way(world: &World, node: usize, on: bool, inbound: bool) {
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

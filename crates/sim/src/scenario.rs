//! One seed from birth to judgement: clients work, faults come and end, and
//! then everything that was promised is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_client::{Cluster, ClusterError};
use holdfast_controller::ControllerSettings;
use holdfast_metadata::command::{ClusterCommand, Command};
use holdfast_model::{GroupId, NodeState};
use holdfast_runtime::Entropy;
use tokio_util::sync::CancellationToken;

use crate::checks;
use crate::faults::{Applied, Schedule, WORK, draw};
use crate::journal::{Counts, Did, Journal};
use crate::workload::Client;
use crate::world::{World, run};

/// Clients that work at the same time.
const CLIENTS: usize = 4;
/// How long a client's last operation may take.
const LAST_OPERATION: Duration = Duration::from_secs(200);
/// How long a healed cluster may take to have leaders.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to be whole again: longer than the pause between two
/// rounds of scrubbing, a census, a repair, and two generations of clean-up.
const WHOLE: Duration = Duration::from_secs(240);
/// How often it is looked whether rot has been found.
const SCRUB_LOOK: Duration = Duration::from_secs(5);
/// Between the two final looks at every object.
const STABLE: Duration = Duration::from_secs(10);

/// How long clients pause between two operations at most.
const PAUSE: Duration = Duration::from_millis(250);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// How many nodes; drawn from the seed where none are given.
    pub nodes: Option<usize>,
    /// Whether its story is printed as it goes.
    pub live: bool,
    /// The longest that a client pauses between two operations.
    pub pause: Duration,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: None,
            live: false,
            pause: PAUSE,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// Digest of everything that happened, and of how many events.
    pub digest: (String, u64),
    /// How much clients did.
    pub counts: Counts,
    /// When the clients and the schedule began, since the run did.
    pub begun: Duration,
    /// What clients did, in the order of the answers.
    pub did: Vec<Did>,
    /// Simulated time.
    pub took: Duration,
    /// Kinds of faults that came (`fault:`), and points at which power was cut
    /// (`point:`).
    pub seen: Vec<String>,
    /// How often each named point was passed.
    pub passed: BTreeMap<&'static str, u64>,
    /// The same, until all faults ended.
    pub passed_under_faults: BTreeMap<&'static str, u64>,
    /// Nodes whose drains had ended by then.
    pub drained_under_faults: Vec<usize>,
    /// What must not be and was; empty when all is well.
    pub wrong: Vec<String>,
    /// The end of the story.
    pub story: Vec<String>,
}

impl Report {
    /// What clients began and ended between two times of the schedule.
    pub fn during(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Did> {
        let (from, to) = (self.begun + from, self.begun + to);
        let within = move |did: &&Did| did.begun >= from && did.begun + did.took <= to;
        self.did.iter().filter(within)
    }
}

/// Runs a seed to its end, with faults drawn from it.
pub fn run_seed(what: Run) -> Report {
    run_with(what, |entropy, nodes| (draw(entropy, nodes), WORK))
}

/// Runs a seed with a schedule of its own, and for how long clients work.
pub fn run_with(
    what: Run,
    schedule: impl FnOnce(&dyn Entropy, usize) -> (Schedule, Duration),
) -> Report {
    run(what.seed, async |mut world| {
        let nodes = what.nodes.unwrap_or_else(|| match world.entropy.below(8) {
            0 => 5,
            1 | 2 => 4,
            _ => 3,
        });
        hurry(&mut world);
        if what.live {
            world.trace.print();
        }
        let journal = Journal::new(world.trace.clone());
        let started = tokio::time::Instant::now();
        let mut applied = Applied::default();
        let schedule = schedule(world.entropy.as_ref(), nodes);
        world.client_pause = what.pause;
        let done = scenario(&mut world, nodes, &journal, schedule, &mut applied).await;
        if let Err(error) = done {
            checks::tell_workers(&world);
            world.trace.wrong(error);
        }
        let faults = applied.seen.iter().map(|name| format!("fault:{name}"));
        let cut = world.points.cut();
        let points = cut.iter().map(|point| format!("point:{point}"));
        Report {
            seed: what.seed,
            nodes,
            digest: world.trace.digest(),
            counts: journal.counts(),
            begun: applied.begun,
            did: journal.all_done(),
            took: started.elapsed(),
            seen: faults.chain(points).collect(),
            passed: world.points.passed(),
            passed_under_faults: applied.passed,
            drained_under_faults: applied.drains_ended,
            wrong: world.trace.wrongs(),
            story: world.trace.story(),
        }
    })
}

/// Small files and short times, so that a run of seconds sees logs purged,
/// nodes given up and orphans deleted.
pub fn hurry(world: &mut World) {
    world.log_file_bytes = 512 << 10;
    world.controller = ControllerSettings {
        down_grace: Duration::from_secs(5),
        return_steady: Duration::from_secs(1),
        census_interval: Duration::from_secs(4),
        floor_delay: Duration::from_secs(6),
        orphan_grace: Duration::from_secs(8),
        scrub_bytes_per_second: 1 << 30,
        compaction_pause: Duration::from_secs(2),
        ..ControllerSettings::default()
    };
}

async fn scenario(
    world: &mut World,
    nodes: usize,
    journal: &Journal,
    (schedule, work): (Schedule, Duration),
    applied: &mut Applied,
) -> Result<(), String> {
    world.founded(nodes).await?;
    let stop = CancellationToken::new();
    let mut working = Vec::new();
    for number in 1..=CLIENTS {
        working.push(begin(world, number, journal, stop.clone()).await?);
    }
    let begun = tokio::time::Instant::now();
    applied.begun = world.trace.at();
    for (at, step) in schedule {
        tokio::time::sleep_until(begun + at).await;
        applied.step(world, &step).await;
    }
    tokio::time::sleep_until(begun + work).await;
    applied.look(world).await;
    applied.heal(world).await;
    stop.cancel();
    checks::until(world, LAST_OPERATION, async |_| {
        match working.iter().all(|done| done.load(Ordering::Relaxed)) {
            true => Ok(()),
            false => Err(checks::Not::Yet("a client's last operation hangs".into())),
        }
    })
    .await?;
    judge(world, journal, applied).await
}

async fn begin(
    world: &World,
    number: usize,
    journal: &Journal,
    stop: CancellationToken,
) -> Result<Arc<AtomicBool>, String> {
    let (cluster, _) = world.client(&format!("client:{}", number + 1));
    let ready = cluster.wait_ready(READY).await;
    ready.map_err(|error| format!("client {number}: {error}"))?;
    let client = Client::new(number, cluster.clone(), journal.clone());
    let client = client.ok_or("the cluster has no bucket for files")?;
    let done = Arc::new(AtomicBool::new(false));
    let work = client.work(stop, done.clone(), world.client_pause);
    cluster.env().tasks.spawn("client", Box::pin(work));
    Ok(done)
}

/// Looks at everything that was promised.
async fn judge(world: &mut World, journal: &Journal, applied: &Applied) -> Result<(), String> {
    let (cluster, _) = world.client("judge:1");
    let ready = cluster.wait_ready(READY).await;
    ready.map_err(|error| format!("the healed cluster is not ready: {error}"))?;
    give_up_the_gone(world, &cluster).await?;
    let judge = Client::new(0, cluster.clone(), journal.clone());
    let judge = judge.ok_or("the cluster has no bucket for files")?;
    let first = read_all(&judge, journal).await?;
    become_whole(world).await?;
    let drained = applied.drained(world);
    let emptied = checks::until(world, WHOLE, async |world| {
        checks::drained(world, &drained).await
    });
    let emptied = emptied.await;
    emptied.map_err(|why| format!("a drain does not end: {why}"))?;
    let mut done = BTreeSet::new();
    checks::until(world, WHOLE, async |world| {
        checks::replicas(world, &mut done)
    })
    .await?;
    world.pass(STABLE).await;
    if read_all(&judge, journal).await? != first {
        return Err("an unknown outcome was decided after everything had settled".into());
    }
    journal.judge();
    Ok(())
}

/// Waits until the disks hold what the rows say, and all of it can be read: rot
/// is found by the next round of scrubbing, and repaired after it.
async fn become_whole(world: &World) -> Result<(), String> {
    let begun = tokio::time::Instant::now();
    loop {
        let whole = checks::until(world, WHOLE, checks::fragments).await;
        whole.map_err(|why| format!("the cluster does not become whole: {why}"))?;
        match checks::readable(world).await {
            Ok(_) => return Ok(()),
            Err(why) if begun.elapsed() > WHOLE => return Err(why),
            Err(_) => world.pass(SCRUB_LOOK).await,
        }
    }
}

/// Reads every key; in a healed cluster none may fail.
async fn read_all(judge: &Client, journal: &Journal) -> Result<Vec<Option<u64>>, String> {
    let mut values = Vec::new();
    for key in journal.keys() {
        let read = judge.read_whole(&key).await;
        values.push(read.map_err(|error| format!("{} cannot be read: {error}", key.as_str()))?);
    }
    Ok(values)
}

/// Says of nodes whose disk is gone for good that they are lost, as an
/// operator does.
async fn give_up_the_gone(world: &World, cluster: &Cluster) -> Result<(), String> {
    for node in checks::gone(world) {
        world
            .trace
            .tell(&format!("node {node} is given up for lost"));
        let change = ClusterCommand::SetNodeState {
            node,
            state: NodeState::Lost,
        };
        let env = cluster.env();
        let id = env.entropy.request_id(env.clock.as_ref());
        let command = Command::Cluster(Box::new(change));
        let result: Result<_, ClusterError> = cluster
            .propose(GroupId::CLUSTER, id, command, READY, None)
            .await;
        result.map_err(|error| format!("a node cannot be given up: {error}"))?;
    }
    Ok(())
}

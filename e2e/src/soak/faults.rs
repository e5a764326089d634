//! What is broken, one thing after the other, and made whole again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use holdfast_e2e::processes::{Cluster, Member};

use crate::numbers::Numbers;
use crate::report::Watch;

/// An orderly end, as long as Kubernetes waits for one.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Between two faults, so that not all of the run is one.
const REST: std::ops::Range<u64> = 1_000..8_000;
/// Longer than silent nodes' fragments are waited for.
const LONG_OUTAGE: std::ops::Range<u64> = 25_000..40_000;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    NodeKilled,
    NodeStopped,
    NodePaused,
    NodeAwayForLong,
    TwoNodesKilled,
    AllNodesKilled,
    GatewayKilled,
    GatewayStopped,
    GatewayPaused,
    WorkerKilled,
    WorkerStopped,
    WorkerPaused,
    RabbitWiped,
    RabbitPaused,
    RedisWiped,
    RedisPaused,
}

/// Each with its weight: nodes hold the promises, so they break most.
const ALL: [(Fault, u64); 16] = [
    (Fault::NodeKilled, 8),
    (Fault::NodeStopped, 4),
    (Fault::NodePaused, 6),
    (Fault::NodeAwayForLong, 2),
    (Fault::TwoNodesKilled, 3),
    (Fault::AllNodesKilled, 2),
    (Fault::GatewayKilled, 3),
    (Fault::GatewayStopped, 3),
    (Fault::GatewayPaused, 2),
    (Fault::WorkerKilled, 2),
    (Fault::WorkerStopped, 1),
    (Fault::WorkerPaused, 1),
    (Fault::RabbitWiped, 1),
    (Fault::RabbitPaused, 1),
    (Fault::RedisWiped, 1),
    (Fault::RedisPaused, 2),
];

pub struct Faults {
    numbers: Numbers,
    watch: Arc<Watch>,
    made: BTreeMap<Fault, u64>,
}

impl Faults {
    pub fn new(numbers: Numbers, watch: Arc<Watch>) -> Self {
        Self {
            numbers,
            watch,
            made: BTreeMap::new(),
        }
    }

    /// How often each was made.
    pub fn summary(&self) -> String {
        let all: Vec<_> = self
            .made
            .iter()
            .map(|(fault, count)| format!("{fault:?} {count}"))
            .collect();
        all.join(", ")
    }

    /// Breaks things until `end`.
    pub async fn run(&mut self, cluster: &mut Cluster, end: Instant) -> Result<()> {
        while Instant::now() < end {
            self.wait(REST).await;
            let fault = self.draw();
            self.watch.faults.fetch_add(1, Ordering::Relaxed);
            *self.made.entry(fault).or_default() += 1;
            self.watch.breaks(&format!("{fault:?}"));
            none_has_ended(cluster)?;
            self.make(cluster, fault)
                .await
                .with_context(|| format!("{fault:?}"))?;
            self.watch.breaks("nothing");
        }
        Ok(())
    }

    /// Everything runs again.
    pub async fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        none_has_ended(cluster)?;
        for member in cluster.nodes.iter_mut().chain(&mut cluster.gateways) {
            member.ready().await?;
        }
        Ok(())
    }

    fn draw(&mut self) -> Fault {
        let sum = ALL.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.numbers.below(sum);
        for (fault, weight) in ALL {
            if drawn < weight {
                return fault;
            }
            drawn -= weight;
        }
        Fault::NodeKilled
    }

    async fn wait(&mut self, millis: std::ops::Range<u64>) {
        let millis = self.numbers.between(millis.start, millis.end);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn make(&mut self, cluster: &mut Cluster, fault: Fault) -> Result<()> {
        let count = cluster.nodes.len() as u64;
        let one = self.numbers.below(count) as usize;
        let half = self.numbers.below(2) as usize;
        match fault {
            Fault::NodeKilled => self.kill(&mut cluster.nodes, &[one], 0..12_000).await,
            Fault::NodeAwayForLong => self.kill(&mut cluster.nodes, &[one], LONG_OUTAGE).await,
            Fault::TwoNodesKilled => {
                let other = (one + 1) % cluster.nodes.len();
                self.kill(&mut cluster.nodes, &[one, other], 0..6_000).await
            }
            Fault::AllNodesKilled => {
                let all: Vec<_> = (0..cluster.nodes.len()).collect();
                self.kill(&mut cluster.nodes, &all, 0..4_000).await
            }
            Fault::NodeStopped => self.stop(&mut cluster.nodes[one]).await,
            Fault::NodePaused => self.pause(&cluster.nodes[one], 500..12_000).await,
            Fault::GatewayKilled => self.kill(&mut cluster.gateways, &[half], 0..3_000).await,
            Fault::GatewayStopped => self.stop(&mut cluster.gateways[half]).await,
            Fault::GatewayPaused => self.pause(&cluster.gateways[half], 500..8_000).await,
            Fault::WorkerKilled => self.kill(&mut cluster.workers, &[half], 0..3_000).await,
            Fault::WorkerStopped => self.stop(&mut cluster.workers[half]).await,
            Fault::WorkerPaused => self.pause(&cluster.workers[half], 500..20_000).await,
            Fault::RabbitWiped => {
                let rabbit = cluster.rabbitmq.as_mut().context("no RabbitMQ")?;
                rabbit.wipe();
                self.wait(0..10_000).await;
                rabbit.start_again().await
            }
            Fault::RabbitPaused => {
                let rabbit = cluster.rabbitmq.as_ref().context("no RabbitMQ")?;
                rabbit.pause();
                self.wait(500..15_000).await;
                rabbit.resume();
                Ok(())
            }
            Fault::RedisWiped => {
                cluster.redis.wipe();
                self.wait(0..8_000).await;
                cluster.redis.start_again().await
            }
            Fault::RedisPaused => {
                cluster.redis.pause();
                self.wait(500..10_000).await;
                cluster.redis.resume();
                Ok(())
            }
        }
    }

    /// All at once, and after a while started again.
    async fn kill(
        &mut self,
        members: &mut [Member],
        which: &[usize],
        away: std::ops::Range<u64>,
    ) -> Result<()> {
        for at in which {
            members[*at].kill();
        }
        self.wait(away).await;
        for at in which {
            members[*at].start()?;
        }
        for at in which {
            members[*at].ready().await?;
        }
        Ok(())
    }

    async fn stop(&mut self, member: &mut Member) -> Result<()> {
        member.stop(ENDS_WITHIN).await?;
        self.wait(0..3_000).await;
        member.start()?;
        member.ready().await
    }

    async fn pause(&mut self, member: &Member, time: std::ops::Range<u64>) -> Result<()> {
        member.running()?.pause();
        self.wait(time).await;
        member.running()?.resume();
        Ok(())
    }
}

/// A process that ended without having been told to has a bug.
fn none_has_ended(cluster: &mut Cluster) -> Result<()> {
    for member in cluster.members() {
        let name = member.name.clone();
        let program = member.program.as_mut().context("it does not run")?;
        if let Some(status) = program.ended()? {
            bail!("{name} ended by itself with {status}");
        }
    }
    Ok(())
}

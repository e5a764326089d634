//! What our processes use up: processor time and bytes written.

use std::fs;

use anyhow::{Context, Result};
use holdfast_e2e::processes::{Cluster, Member};

/// Ticks of a second in `/proc/<pid>/stat`, on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time that our processes have used, in seconds.
pub fn processor_seconds(cluster: &Cluster) -> Result<f64> {
    let members = cluster.nodes.iter().chain(&cluster.gateways);
    let members = members.chain(&cluster.workers);
    members.map(processor_seconds_of).sum()
}

fn processor_seconds_of(member: &Member) -> Result<f64> {
    let program = member.program.as_ref().context("it does not run")?;
    let text = fs::read_to_string(format!("/proc/{}/stat", program.pid()))?;
    let (_, fields) = text.rsplit_once(") ").context("no fields")?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || -> Result<f64> { Ok(fields.next().context("no time")?.parse()?) };
    Ok((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// Bytes that the nodes have had written to disk since they began.
fn written_bytes(cluster: &Cluster) -> Result<f64> {
    let mut bytes = 0.0;
    for node in &cluster.nodes {
        let program = node.program.as_ref().context("a node does not run")?;
        let text = fs::read_to_string(format!("/proc/{}/io", program.pid()))?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("write_bytes: "));
        bytes += line.context("no write_bytes")?.parse::<f64>()?;
    }
    Ok(bytes)
}

/// What was used up by one measurement of the store.
pub struct Meter<'a> {
    cluster: &'a Cluster,
    seconds: f64,
    bytes: f64,
}

impl<'a> Meter<'a> {
    /// From now on.
    pub fn start(cluster: &'a Cluster) -> Result<Self> {
        Ok(Self {
            cluster,
            seconds: processor_seconds(cluster)?,
            bytes: written_bytes(cluster)?,
        })
    }

    /// Processor seconds and bytes written for each of `count` operations since the start.
    pub fn per(&self, count: usize) -> Result<(f64, f64)> {
        let seconds = processor_seconds(self.cluster)? - self.seconds;
        let bytes = written_bytes(self.cluster)? - self.bytes;
        Ok((seconds / count as f64, bytes / count as f64))
    }
}

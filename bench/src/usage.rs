//! What our processes use up: processor time, and bytes written to the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;

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

/// Bytes of a sector in the kernel's statistics, whatever the disk's own are.
const SECTOR_BYTES: f64 = 512.0;

/// Bytes that have been written to the disk that the data lies on, by whomever:
/// a process's own count in `/proc/<pid>/io` takes a whole folio of the page
/// cache for each page changed in it, which is several times what is written.
fn written_bytes() -> Result<f64> {
    let device = fs::metadata(std::env::current_exe()?)?.dev();
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xf_ff00),
    );
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))
        .context("the statistics of the disk that the data lies on")?;
    let sectors = text.split_whitespace().nth(6).context("no sectors")?;
    Ok(sectors.parse::<f64>()? * SECTOR_BYTES)
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
            bytes: written_bytes()?,
        })
    }

    /// Processor seconds and bytes written for each of `count` operations since the start.
    pub fn per(&self, count: usize) -> Result<(f64, f64)> {
        let seconds = processor_seconds(self.cluster)? - self.seconds;
        let bytes = written_bytes()? - self.bytes;
        Ok((seconds / count as f64, bytes / count as f64))
    }
}

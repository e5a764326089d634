//! Whether every object has all its copies, as the cluster itself has counted
//! it: the census of `/api/stats`, never its queue of repairs.

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use crate::gateway::Gateway;

/// What a gateway says of the objects' copies.
#[derive(Clone, Debug, Deserialize)]
pub struct Redundancy {
    /// Objects with fragments.
    pub objects: u64,
    /// Of them, readable with fewer fragments than they should have.
    pub degraded: u64,
    /// Not readable until disks come back.
    pub unavailable: u64,
    /// Not readable any more.
    pub lost: u64,
    /// Fragments that are not where they should be.
    pub missing_fragments: u64,
    /// Disks that count and did not answer.
    pub silent_disks: u64,
    /// Whether all of it was counted in the present layout.
    pub complete: bool,
    /// When the group was counted that was counted the longest ago.
    as_of: Option<String>,
    /// Chunks that the groups know to lack a fragment: what repair has before it.
    #[serde(skip)]
    pub queued_chunks: u64,
}

impl Redundancy {
    /// What is said now.
    ///
    /// # Errors
    /// When there is no answer, or another one.
    pub async fn fetch(gateway: &Gateway) -> Result<Self> {
        let mut stats = gateway.json("/api/stats").await?;
        let queued = stats["repair"]["degraded_chunks"].as_u64();
        let queued_chunks = queued.with_context(|| format!("no queue in {stats}"))?;
        let redundancy = stats["redundancy"].take();
        let told = serde_json::from_value(redundancy)
            .with_context(|| format!("another census in {stats}"))?;
        Ok(Self {
            queued_chunks,
            ..told
        })
    }

    /// That every group was counted after `since`, and no object lacks anything.
    /// Disks that are silent are allowed: nothing needs them then.
    ///
    /// # Errors
    /// What is not so.
    pub fn whole_since(&self, since: Timestamp) -> Result<()> {
        self.counted_since(since)?;
        let lacking = self.degraded + self.unavailable + self.lost + self.missing_fragments;
        ensure!(lacking == 0, "{self:?}");
        Ok(())
    }

    /// That every group was counted after `since`.
    ///
    /// # Errors
    /// What is not so.
    pub fn counted_since(&self, since: Timestamp) -> Result<()> {
        ensure!(self.complete, "incomplete: {self:?}");
        let as_of = self.as_of.as_ref().context("no group was counted")?;
        let as_of: Timestamp = as_of.parse().with_context(|| format!("a time: {as_of}"))?;
        ensure!(as_of > since, "counted before {since}: {self:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl FnOnce(&mut Redundancy)) -> Redundancy {
        let mut told = Redundancy {
            objects: 4,
            degraded: 0,
            unavailable: 0,
            lost: 0,
            missing_fragments: 0,
            silent_disks: 1,
            complete: true,
            as_of: Some("2026-01-01T00:00:05.25Z".into()),
            queued_chunks: 0,
        };
        change(&mut told);
        told
    }

    #[test]
    fn whole_is_what_was_counted_whole_in_every_group_and_since_then() {
        let since: Timestamp = "2026-01-01T00:00:05Z".parse().unwrap();
        let late: Timestamp = "2026-01-01T00:00:06Z".parse().unwrap();
        told(|_| {}).whole_since(since).unwrap();
        assert!(told(|_| {}).whole_since(late).is_err());
        let wrong: [fn(&mut Redundancy); 6] = [
            |told| told.degraded = 1,
            |told| told.unavailable = 1,
            |told| told.lost = 1,
            |told| told.missing_fragments = 1,
            |told| told.complete = false,
            |told| told.as_of = None,
        ];
        for change in wrong {
            assert!(told(change).whole_since(since).is_err());
        }
    }
}

//! The redundancy census of a whole cluster, put together from what its nodes
//! say of the groups that they lead: pure, and the same for everybody who judges
//! whether a cluster is whole.
//!
//! What has not been counted is named and never guessed: a group between two
//! leaders, one whose nodes do not answer, and one that was last counted under
//! another layout.

use std::collections::BTreeMap;

use holdfast_metadata::protocol::{CensusReport, GroupCensus};
use holdfast_model::{Epoch, GroupId, Layout, Timestamp};

/// The newest count of each group.
pub type GroupCensuses = BTreeMap<GroupId, GroupCensus>;

/// Takes what a node reports where it is newer: by the layout's epoch, then by
/// the time. A group is in the reports of two nodes for a moment after its
/// leader has changed.
pub fn take_report(known: &mut GroupCensuses, report: &CensusReport) {
    for count in &report.groups {
        let known = known.entry(count.group).or_insert(*count);
        if (count.epoch, count.time) > (known.epoch, known.time) {
            *known = *count;
        }
    }
}

/// Objects by how they are. Counted are those whose bytes are in fragments, and
/// what workers made of them; what is inside a group's own records has as many
/// copies as the group has members.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// All of them.
    pub objects: u64,
    /// Readable, with fewer fragments than they should have on disks that
    /// answer, whether or not there is room to make more.
    pub degraded: u64,
    /// Not readable until disks come back.
    pub unavailable: u64,
    /// Not readable any more.
    pub lost: u64,
    /// Fragments that are not where they should be, on disks that answer.
    pub missing: u64,
    /// Disks that count and did not answer, in the worst group.
    pub silent_disks: u64,
}

impl Counts {
    /// Whether every object has all that it should have.
    pub fn clean(&self) -> bool {
        self.lacking() + self.missing + self.silent_disks == 0
    }

    /// Objects that do not have all their copies.
    pub fn lacking(&self) -> u64 {
        self.degraded + self.unavailable + self.lost
    }

    fn add(&mut self, census: &GroupCensus) {
        self.objects += census.objects;
        self.degraded += census.degraded;
        self.unavailable += census.unavailable;
        self.lost += census.lost;
        self.missing += census.missing;
        self.silent_disks = self.silent_disks.max(census.silent_disks);
    }
}

/// What the groups' censuses come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redundancy {
    /// The sums over the groups that were counted.
    pub counts: Counts,
    /// The layout's epoch that it is of.
    pub epoch: Epoch,
    /// When the group was counted that was counted the longest ago.
    pub oldest: Option<Timestamp>,
    /// Groups with objects that nobody says to have counted in this layout: what
    /// they hold is in no sum.
    pub uncounted: Vec<GroupId>,
}

impl Redundancy {
    /// The sums, once they are of every group.
    pub fn complete(&self) -> Option<Counts> {
        self.uncounted.is_empty().then_some(self.counts)
    }
}

/// Sums up what was counted of a layout's groups.
pub fn sum_up(known: &GroupCensuses, layout: &Layout) -> Redundancy {
    let mut sum = Redundancy {
        counts: Counts::default(),
        epoch: layout.epoch,
        oldest: None,
        uncounted: Vec::new(),
    };
    for group in layout.data_groups() {
        let census = known.get(&group);
        let Some(census) = census.filter(|census| census.epoch == layout.epoch) else {
            sum.uncounted.push(group);
            continue;
        };
        sum.counts.add(census);
        let oldest = sum.oldest.get_or_insert(census.time);
        *oldest = census.time.min(*oldest);
    }
    sum
}

#[cfg(test)]
#[path = "census_tests.rs"]
mod tests;

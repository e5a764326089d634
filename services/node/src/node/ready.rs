//! Whether a node can do its work: a matter of its own, never of whether others
//! are there. Without a majority every node of a cluster would be unready at
//! once, and whoever takes away what is not ready might take them all.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use holdfast_metadata::raft::lag::Lag;
use holdfast_model::GroupId;

use super::Node;

impl Node {
    /// Whether it can serve: it belongs to a cluster, it is not ending, and none
    /// of its members of groups is far behind what a leader has announced.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("the node is ending".into());
        }
        let groups = self.born().map_err(|error| error.to_string())?;
        check_lags(&groups.lags(), self.carried())
    }

    /// The groups of which this node knows no leader.
    pub fn without_leader(&self) -> Vec<GroupId> {
        let Ok(groups) = self.born() else {
            return Vec::new();
        };
        let carried = self.carried();
        let statuses = groups.shared().statuses().into_iter();
        statuses
            .filter(|status| status.leader.is_none() && carried(status.group))
            .map(|status| status.group)
            .collect()
    }

    /// Whether the layout has this disk carry a group. One that went elsewhere
    /// while this node was away is given up some time later, and one that comes
    /// is a learner until then: nobody counts on either here.
    fn carried(&self) -> impl Fn(GroupId) -> bool {
        let state = self.groups.get().and_then(|groups| groups.shared().state());
        let own = self.identity().disk;
        move |group| {
            let layout = state.as_ref().map(|state| &state.layout.groups);
            layout
                .and_then(|groups| groups.get(&group))
                .is_none_or(|disks| disks.contains(&own))
        }
    }
}

/// Whether no group that is carried here is far behind.
fn check_lags(
    lags: &BTreeMap<GroupId, Lag>,
    carried: impl Fn(GroupId) -> bool,
) -> Result<(), String> {
    let mut lags = lags.iter();
    match lags.find(|(group, lag)| lag.is_far() && carried(**group)) {
        Some((group, lag)) => Err(format!("its member of group {group} {lag}")),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "ready_tests.rs"]
mod tests;

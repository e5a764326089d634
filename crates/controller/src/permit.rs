//! The maintenance permit: who may take a node away, and when nobody may.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_client::GroupView;
use holdfast_model::{ClusterState, DiskId, GroupId, HIBERNATE, NodeId, NodeState, Timestamp};

use crate::census::Census;
use crate::error::WorkError;

/// What the decision looks at.
pub struct PermitCase<'a> {
    /// The cluster's state.
    pub state: &'a ClusterState,
    /// The node that is to be taken away.
    pub node: NodeId,
    /// For which reason.
    pub reason: &'a str,
    /// Whether a person takes it upon themselves that objects lack copies, or
    /// have not been counted.
    pub degraded: bool,
    /// Disks whose nodes answer.
    pub answering: &'a BTreeSet<DiskId>,
    /// The groups, as their leaders see them.
    pub groups: &'a BTreeMap<GroupId, GroupView>,
    /// The last census of each group with objects.
    pub censuses: &'a BTreeMap<GroupId, Census>,
    /// The time.
    pub now: Timestamp,
    /// How old a census may be.
    pub max_age: Duration,
}

/// Why no node may be taken away now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PermitRefusal {
    /// There is no such node.
    #[error("there is no node {0}")]
    NoSuchNode(NodeId),
    /// Another has it.
    #[error("node {node} has the permit: {reason}")]
    Held {
        /// Which node.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Another node is away already.
    #[error("node {0} does not answer")]
    NodeAway(NodeId),
    /// A group has no leader.
    #[error("metadata group {0} has no leader")]
    NoLeader(GroupId),
    /// A group has fewer members than it should.
    #[error("metadata group {group} lacks a member: {why}")]
    MemberLacks {
        /// The group.
        group: GroupId,
        /// What is wrong.
        why: String,
    },
    /// A group has not been counted lately, or under another layout.
    #[error("metadata group {0} has not been counted since the last change")]
    CensusOld(GroupId),
    /// Some objects have fewer fragments than they should.
    #[error(
        "metadata group {group} is not whole: {degraded} objects degraded, {unavailable} \
         unavailable, {lost} lost, {missing} fragments missing, {silent_disks} disks silent"
    )]
    NotClean {
        /// The group.
        group: GroupId,
        /// Objects.
        degraded: u64,
        /// Objects.
        unavailable: u64,
        /// Objects.
        lost: u64,
        /// Fragments.
        missing: u64,
        /// Disks.
        silent_disks: u64,
    },
}

/// Why a permit was not granted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PermitError {
    /// The cluster is not whole enough.
    #[error(transparent)]
    Refused(#[from] PermitRefusal),
    /// It could not be found out, or group 0 refused.
    #[error(transparent)]
    Work(#[from] WorkError),
}

/// Whether a node may be taken away now: nobody else is away, every group has
/// all its members and every object all its fragments, counted lately.
///
/// Who asks again for a permit it has may have it, whatever has become of the
/// cluster since: its own node is away by now. Who asks although objects lack
/// copies is spared the census and nothing else. To stop all nodes together
/// ([`HIBERNATE`]) it is enough that nobody has it.
///
/// # Errors
/// The first reason why not.
pub fn may_take_permit(case: &PermitCase<'_>) -> Result<(), PermitRefusal> {
    let layout = &case.state.layout;
    if !layout.nodes.contains_key(&case.node) {
        return Err(PermitRefusal::NoSuchNode(case.node));
    }
    if let Some(permit) = &case.state.permit {
        if permit.node == case.node && permit.reason == case.reason {
            return Ok(());
        }
        let (node, reason) = (permit.node, permit.reason.clone());
        return Err(PermitRefusal::Held { node, reason });
    }
    if case.reason == HIBERNATE {
        // All nodes stop together: what is on their disks is not less for it.
        return Ok(());
    }
    // A node that is away already may be worked on; no other may be away.
    let gone = |state| matches!(state, NodeState::Lost | NodeState::Drained);
    let others = layout
        .nodes
        .values()
        .filter(|node| node.id != case.node && !gone(node.state));
    if let Some(away) = others
        .into_iter()
        .find(|node| !case.answering.contains(&node.disk))
    {
        return Err(PermitRefusal::NodeAway(away.id));
    }
    for (group, members) in &layout.groups {
        check_members(case, *group, members)?;
    }
    if case.degraded {
        return Ok(());
    }
    layout
        .data_groups()
        .into_iter()
        .try_for_each(|group| check_census(case, group))
}

fn check_members(
    case: &PermitCase<'_>,
    group: GroupId,
    members: &[DiskId],
) -> Result<(), PermitRefusal> {
    let view = case.groups.get(&group).filter(|view| view.leader.is_some());
    let Some(status) = view.and_then(|view| view.status.as_ref()) else {
        return Err(PermitRefusal::NoLeader(group));
    };
    let lacks = |why: String| Err(PermitRefusal::MemberLacks { group, why });
    let wanted = usize::from(case.state.layout.metadata_replicas);
    if members.len() < wanted {
        return lacks(format!("it has {} of {wanted}", members.len()));
    }
    if !status.learners.is_empty() {
        return lacks("its members are being changed".into());
    }
    for member in members {
        let own = case
            .state
            .layout
            .node_of(*member)
            .is_some_and(|node| node.id == case.node);
        if !own && !case.answering.contains(member) {
            return lacks(format!("disk {member} does not answer"));
        }
        if !status.voters.contains(&member.raft_id()) {
            return lacks(format!("disk {member} does not vote"));
        }
    }
    Ok(())
}

fn check_census(case: &PermitCase<'_>, group: GroupId) -> Result<(), PermitRefusal> {
    let max_age = u64::try_from(case.max_age.as_millis()).unwrap_or(u64::MAX);
    let fresh = |census: &&Census| {
        census.epoch == case.state.layout.epoch && case.now.since(census.began) <= max_age
    };
    let Some(census) = case.censuses.get(&group).filter(fresh) else {
        return Err(PermitRefusal::CensusOld(group));
    };
    if census.clean() {
        return Ok(());
    }
    Err(PermitRefusal::NotClean {
        group,
        degraded: census.degraded,
        unavailable: census.unavailable,
        lost: census.lost,
        missing: census.missing,
        silent_disks: census.silent_disks,
    })
}

#[cfg(test)]
#[path = "permit_tests.rs"]
mod tests;

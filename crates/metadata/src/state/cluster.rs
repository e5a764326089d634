//! The cluster's own state, in group 0.
//!
//! Every change raises the revision; every change of the layout raises its
//! epoch too, so that a layout computed from an older one is refused.

use holdfast_model::{
    AccessKey, AccessKeyId, ActiveRelease, ClusterState, DiskId, Epoch, Layout, LayoutNode, NodeId,
    NodeState, Permit, Role, Supported, Timestamp,
};

use super::{Applied, Machine, Stop, buckets, invalid, keys, releases, rows};
use crate::command::{ClusterCommand, Outcome, Refusal};
use crate::store::StoreError;

/// The most nodes of a cluster: the state is sent whole.
const MAX_NODES: usize = 1_000;
/// The most credentials of a cluster, for the same reason.
const MAX_ACCESS_KEYS: usize = 10_000;
/// The weight of a new node: the usual one.
const USUAL_WEIGHT: u32 = 100;

pub(super) fn held(why: impl Into<String>) -> Stop {
    Stop::Refused(Refusal::Held(why.into()))
}

/// A node's start, as it reports it.
struct Start<'c> {
    node: NodeId,
    disk: DiskId,
    address: &'c str,
    zone: &'c Option<String>,
    host: &'c Option<String>,
    incarnation: u64,
    supports: Supported,
}

impl Machine<'_, '_> {
    pub(super) fn change_cluster(&mut self, change: &ClusterCommand) -> Applied {
        let old: ClusterState = rows::read(self.rows, &keys::cluster())?
            .ok_or_else(|| StoreError::Corrupt("group 0 has no cluster state".to_owned()))?;
        let mut state = old.clone();
        let outcome = change_state(&mut state, change, self.now())?;
        if state != old {
            state.revision = old.revision.next();
            if state.layout != old.layout {
                state.layout.epoch = old.layout.epoch.next();
            }
            self.put(&keys::cluster(), &state)?;
        }
        Ok(outcome.unwrap_or_else(|| Outcome::Joined(Box::new(state))))
    }
}

/// Changes the state, or refuses; `None` means that the outcome is the state.
fn change_state(
    state: &mut ClusterState,
    change: &ClusterCommand,
    now: Timestamp,
) -> Result<Option<Outcome>, Stop> {
    match change {
        ClusterCommand::Join {
            node,
            disk,
            address,
            zone,
            host,
            incarnation,
            supports,
        } => {
            let start = Start {
                node: *node,
                disk: *disk,
                address,
                zone,
                host,
                incarnation: *incarnation,
                supports: *supports,
            };
            join(&mut state.layout, state.active, &start)?;
            return Ok(None);
        }
        ClusterCommand::SetLayout { seen, layout } => set_layout(&mut state.layout, *seen, layout)?,
        ClusterCommand::SetNodeState { node, state: to } => {
            set_node_state(&mut state.layout, *node, *to)?;
        }
        ClusterCommand::PlaceNode { node, zone, host } => {
            let node = known_node(&mut state.layout, *node)?;
            place(node, zone, host.as_ref());
        }
        ClusterCommand::PutAccessKey(key) => put_access_key(&mut state.access_keys, key)?,
        ClusterCommand::RevokeAccessKey(id) => revoke_access_key(&mut state.access_keys, *id)?,
        ClusterCommand::CreateBucket { id, name } => {
            buckets::create(&mut state.buckets, *id, name, now)?;
        }
        ClusterCommand::SetVersioning { bucket, versioning } => {
            buckets::set_versioning(&mut state.buckets, *bucket, *versioning)?;
        }
        ClusterCommand::DeleteBucket { bucket } => {
            // The revision that this change makes.
            let attempt = state.revision.next();
            let attempt = buckets::begin_deletion(&mut state.buckets, *bucket, attempt)?;
            return Ok(Some(Outcome::Deleting(attempt)));
        }
        ClusterCommand::SettleDeletion {
            bucket,
            attempt,
            empty,
        } => buckets::settle_deletion(&mut state.buckets, *bucket, *attempt, *empty)?,
        ClusterCommand::EndDeletion { bucket, attempt } => {
            buckets::end_deletion(&mut state.buckets, *bucket, *attempt)?;
        }
        ClusterCommand::TakePermit { node, reason } => {
            return take_permit(state, *node, reason, now)
                .map(|permit| Some(Outcome::Permit(permit)));
        }
        ClusterCommand::SetTimes(times) => {
            times.check().map_err(invalid)?;
            state.times = *times;
        }
        ClusterCommand::ReleasePermit { epoch } => {
            if state
                .permit
                .as_ref()
                .is_none_or(|permit| permit.epoch != *epoch)
            {
                return Err(Refusal::Stale.into());
            }
            state.permit = None;
        }
        ClusterCommand::Finalize { to } => releases::finalize(state, *to)?,
    }
    Ok(Some(Outcome::Done))
}

fn known_node(layout: &mut Layout, id: NodeId) -> Result<&mut LayoutNode, Stop> {
    layout
        .nodes
        .get_mut(&id)
        .ok_or_else(|| invalid(format!("there is no node {id}")))
}

fn place(node: &mut LayoutNode, zone: &str, host: Option<&String>) {
    node.zone = Some(zone.to_owned());
    if host.is_some() {
        node.host = host.cloned();
    }
    if node.state == NodeState::Unplaced {
        node.state = NodeState::Active;
    }
}

fn join(layout: &mut Layout, active: ActiveRelease, start: &Start<'_>) -> Result<(), Stop> {
    releases::check_start(&start.supports, active)?;
    let same_disk = |node: &&LayoutNode| {
        node.id != start.node
            && (node.disk == start.disk || node.disk.raft_id() == start.disk.raft_id())
    };
    if let Some(other) = layout.nodes.values().find(same_disk) {
        return Err(held(format!(
            "the disk's number is that of node {}",
            other.id
        )));
    }
    let count = layout.nodes.len();
    let Some(node) = layout.nodes.get_mut(&start.node) else {
        if count >= MAX_NODES {
            return Err(held("the cluster has as many nodes as it can"));
        }
        let state = match start.zone {
            Some(_) => NodeState::Active,
            None => NodeState::Unplaced,
        };
        let node = LayoutNode {
            id: start.node,
            disk: start.disk,
            address: start.address.to_owned(),
            zone: start.zone.clone(),
            host: start.host.clone(),
            weight: USUAL_WEIGHT,
            state,
            incarnation: start.incarnation,
            supports: start.supports,
        };
        layout.nodes.insert(start.node, node);
        return Ok(());
    };
    if node.disk != start.disk {
        return Err(held(format!(
            "the node is known with the disk {}",
            node.disk
        )));
    }
    if node.state == NodeState::Lost {
        return Err(held("the node was given up for lost"));
    }
    if start.incarnation < node.incarnation {
        return Err(Refusal::Stale.into());
    }
    node.incarnation = start.incarnation;
    node.supports = start.supports;
    node.address = start.address.to_owned();
    // A place, once assigned, is changed by order alone.
    if let Some(zone) = start.zone.as_ref().filter(|_| node.zone.is_none()) {
        place(node, zone, start.host.as_ref());
    }
    if node.host.is_none() {
        node.host.clone_from(start.host);
    }
    Ok(())
}

fn set_layout(layout: &mut Layout, seen: Epoch, new: &Layout) -> Result<(), Stop> {
    if seen != layout.epoch {
        return Err(Refusal::Stale.into());
    }
    new.check().map_err(invalid)?;
    if new.slots != layout.slots || new.metadata_replicas != layout.metadata_replicas {
        return Err(invalid("slots and metadata replicas are fixed at birth"));
    }
    if new.redundancy.data == 0 {
        return Err(invalid("a chunk needs a data fragment"));
    }
    let revived = new.nodes.values().any(|node| {
        let old = layout.nodes.get(&node.id);
        old.is_some_and(|old| old.state == NodeState::Lost && node.state != NodeState::Lost)
    });
    if revived {
        return Err(invalid("a node given up for lost does not come back"));
    }
    let epoch = layout.epoch;
    *layout = new.clone();
    // The caller gives it the next one.
    layout.epoch = epoch;
    Ok(())
}

fn set_node_state(layout: &mut Layout, id: NodeId, to: NodeState) -> Result<(), Stop> {
    let disk = known_node(layout, id)?.disk;
    let carries = layout.groups.values().any(|disks| disks.contains(&disk));
    let node = known_node(layout, id)?;
    if node.state == NodeState::Lost && to != NodeState::Lost {
        return Err(invalid("a node given up for lost does not come back"));
    }
    if to == NodeState::Active && node.zone.is_none() {
        return Err(invalid("the node has no zone yet"));
    }
    if to == NodeState::Drained && carries {
        return Err(held("the node still carries metadata groups"));
    }
    node.state = to;
    Ok(())
}

fn admins_besides(keys: &[AccessKey], id: AccessKeyId) -> usize {
    keys.iter()
        .filter(|key| key.role == Role::Admin && key.id != id)
        .count()
}

fn put_access_key(keys: &mut Vec<AccessKey>, new: &AccessKey) -> Result<(), Stop> {
    let token_used = |key: &AccessKey| key.id != new.id && key.token_sha256 == new.token_sha256;
    if keys.iter().any(token_used) {
        return Err(held("another credential has that token"));
    }
    let count = keys.len();
    let others = admins_besides(keys, new.id);
    match keys.iter_mut().find(|key| key.id == new.id) {
        Some(old) => {
            if old.role == Role::Admin && new.role != Role::Admin && others == 0 {
                return Err(held("it is the last admin's"));
            }
            *old = new.clone();
        }
        None if count >= MAX_ACCESS_KEYS => {
            return Err(held("there are as many credentials as there can be"));
        }
        None => keys.push(new.clone()),
    }
    Ok(())
}

fn revoke_access_key(keys: &mut Vec<AccessKey>, id: AccessKeyId) -> Result<(), Stop> {
    let Some(at) = keys.iter().position(|key| key.id == id) else {
        return Err(invalid("there is no such credential"));
    };
    let admin = keys.get(at).is_some_and(|key| key.role == Role::Admin);
    if admin && admins_besides(keys, id) == 0 {
        return Err(held("it is the last admin's"));
    }
    keys.remove(at);
    Ok(())
}

fn take_permit(
    state: &mut ClusterState,
    node: NodeId,
    reason: &str,
    now: Timestamp,
) -> Result<Permit, Stop> {
    if let Some(permit) = &state.permit {
        if permit.node == node && permit.reason == reason {
            return Ok(permit.clone());
        }
        return Err(held(format!(
            "node {} has the permit: {}",
            permit.node, permit.reason
        )));
    }
    let disk = known_node(&mut state.layout, node)?.disk;
    let permit = Permit {
        epoch: state.next_permit,
        node,
        disk,
        reason: reason.to_owned(),
        granted: now,
    };
    state.next_permit = permit.epoch.next();
    state.permit = Some(permit.clone());
    Ok(permit)
}

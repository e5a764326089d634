//! What must be true of a cluster that was left in peace: replicas are the
//! same, rows keep their invariants, and what rows refer to is on the disks.
//!
//! All of it is read past the nodes' own answers: from their stores and engines.

mod references;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holdfast_blobs::FragmentState;
use holdfast_metadata::raft::applier::read_members;
use holdfast_metadata::state::{check_invariants, read_cluster};
use holdfast_metadata::store::{ReadView, Row, Rows};
use holdfast_model::{ClusterState, DiskId, GroupId, LayoutNode, NodeId, NodeState};
use holdfast_node::Node;

use self::references::{References, references};
use crate::world::World;

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Nodes that every chunk and every group needs.
const REDUNDANCY: usize = 3;

/// Why a check is not satisfied: yet, or for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Not {
    /// Time may help.
    Yet(String),
    /// It must never be.
    Ever(String),
}

/// Waits until `check` is satisfied, at most for `limit`.
///
/// # Errors
/// Why it is not.
pub async fn until(
    world: &World,
    limit: Duration,
    check: impl AsyncFnMut(&World) -> Result<(), Not>,
) -> Result<(), String> {
    until_every(world, limit, LOOK_EVERY, check).await
}

/// The same, looking as often as is said.
///
/// # Errors
/// Why it is not satisfied.
pub async fn until_every(
    world: &World,
    limit: Duration,
    pause: Duration,
    mut check: impl AsyncFnMut(&World) -> Result<(), Not>,
) -> Result<(), String> {
    let mut waited = Duration::ZERO;
    loop {
        match check(world).await {
            Ok(()) => return Ok(()),
            Err(Not::Ever(why)) => return Err(why),
            Err(Not::Yet(why)) if waited >= limit => return Err(format!("after {limit:?}: {why}")),
            Err(Not::Yet(_)) => {}
        }
        world.pass(pause).await;
        waited += pause;
    }
}

fn yet(why: impl ToString) -> Not {
    Not::Yet(why.to_string())
}

fn ever(why: impl ToString) -> Not {
    Not::Ever(why.to_string())
}

/// The nodes that run, by their disks.
fn nodes(world: &World) -> BTreeMap<DiskId, Arc<Node>> {
    let nodes = world.members.values().filter_map(|m| m.node.clone());
    nodes.map(|node| (node.identity().disk, node)).collect()
}

/// The newest state of the cluster that any node's store has.
fn cluster_state(nodes: &BTreeMap<DiskId, Arc<Node>>) -> Result<ClusterState, Not> {
    let mut newest: Option<ClusterState> = None;
    for node in nodes.values() {
        let view = node.store().snapshot().map_err(ever)?;
        let state = read_cluster(&view.group(GroupId::CLUSTER)).map_err(ever)?;
        let better = |state: &ClusterState| {
            newest
                .as_ref()
                .is_none_or(|old| old.revision < state.revision)
        };
        if let Some(state) = state.filter(better) {
            newest = Some(state);
        }
    }
    newest.ok_or_else(|| yet("no node has the cluster's state"))
}

/// Compares the replicas of every group. Those in `done` were compared before:
/// groups tick now and then, so not all stand still at once.
pub fn replicas(world: &World, done: &mut BTreeSet<GroupId>) -> Result<(), Not> {
    let nodes = nodes(world);
    let state = cluster_state(&nodes)?;
    let mut views: BTreeMap<DiskId, ReadView> = BTreeMap::new();
    for (disk, node) in &nodes {
        views.insert(*disk, node.store().snapshot().map_err(ever)?);
    }
    let mut behind = Vec::new();
    for (group, disks) in &state.layout.groups {
        if !done.contains(group) {
            match same_rows(*group, disks, &views)? {
                None => {
                    done.insert(*group);
                }
                Some(why) => behind.push(why),
            }
        }
    }
    match behind.first() {
        None => Ok(()),
        Some(why) => Err(yet(why)),
    }
}

/// Whether a group's replicas have the same rows; why that cannot be said now.
fn same_rows(
    group: GroupId,
    disks: &[DiskId],
    views: &BTreeMap<DiskId, ReadView>,
) -> Result<Option<String>, Not> {
    let mut first: Option<((u64, u64), Vec<Row>)> = None;
    for disk in disks {
        let Some(view) = views.get(disk) else {
            return Ok(Some(format!(
                "group {group} is on disk {disk}, which is away"
            )));
        };
        let Some(applied) = view.group(group).applied().map_err(ever)? else {
            return Ok(Some(format!("group {group} has no rows on disk {disk}")));
        };
        let rows: Result<Vec<Row>, _> = view.rows(group).map_err(ever)?.collect();
        let rows = rows.map_err(ever)?;
        if let Err(why) = check_invariants(&view.group(group)).map_err(ever)? {
            return Err(ever(format!("group {group} on disk {disk}: {why}")));
        }
        match &first {
            None => first = Some((applied, rows)),
            Some((at, _)) if *at != applied => {
                return Ok(Some(format!("group {group} is at {at:?} and {applied:?}")));
            }
            Some((at, other)) if *other != rows => {
                let differs = other.iter().zip(&rows).position(|(a, b)| a != b);
                return Err(ever(format!(
                    "replicas of group {group} differ at {at:?}: {} and {} rows, the first \
                     difference at {differs:?}",
                    other.len(),
                    rows.len()
                )));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

/// The offline census: every fragment that rows refer to is on its disk and
/// whole, every chunk has all of its fragments, and nothing else is there but
/// what the groups know to be garbage.
pub async fn fragments(world: &World) -> Result<(), Not> {
    let nodes = nodes(world);
    let state = cluster_state(&nodes)?;
    let refer = references(&state, &nodes)?;
    let mut there = BTreeSet::new();
    for (disk, node) in &nodes {
        let listed = node.fragments().engine().list(None, usize::MAX).await;
        for entry in listed.map_err(yet)? {
            if entry.state == FragmentState::Whole {
                there.insert((entry.id, *disk));
            } else if refer.fragments.contains(&(entry.id, *disk)) {
                return Err(yet(format!("{} on disk {disk} is corrupt", entry.id)));
            }
        }
    }
    if let Some((id, disk)) = refer.fragments.difference(&there).next() {
        return Err(yet(format!("{id} is referred to and not on disk {disk}")));
    }
    if refer.degraded > 0 {
        return Err(yet(format!("{} chunks lack fragments", refer.degraded)));
    }
    let known: BTreeSet<_> = refer.fragments.union(&refer.garbage).copied().collect();
    let orphans: Vec<_> = there
        .difference(&known)
        .filter(|(id, _)| !refer.unfinished.contains(&id.group))
        .collect();
    if let Some((id, disk)) = orphans.first() {
        return Err(yet(format!(
            "{} fragments on disks that nobody refers to, such as {id} on {disk}",
            orphans.len()
        )));
    }
    census_agrees(&nodes, &refer)
}

/// The controllers' census says of each group what the disks say (P4).
fn census_agrees(nodes: &BTreeMap<DiskId, Arc<Node>>, refer: &References) -> Result<(), Not> {
    let mut seen = BTreeSet::new();
    for node in nodes.values() {
        let Some(controller) = node.controller() else {
            continue;
        };
        for (group, census) in controller.census() {
            let Some((uploads, chunks)) = refer.committed.get(&group) else {
                continue;
            };
            seen.insert(group);
            if census.wrong > 0 {
                return Err(ever(format!(
                    "{} ranges of group {group} have sums that are not those of their rows",
                    census.wrong
                )));
            }
            let counted = (uploads.len() as u64, *chunks);
            if (census.objects, census.chunks) != counted || !census.clean() {
                return Err(yet(format!(
                    "the census of group {group} says {census:?}, the disks {counted:?} and clean"
                )));
            }
        }
    }
    match refer.committed.keys().find(|group| !seen.contains(group)) {
        None => Ok(()),
        Some(group) => Err(yet(format!("nobody has counted group {group}"))),
    }
}

/// Every fragment that rows refer to can be read whole from its disk.
///
/// # Errors
/// The first that cannot.
pub async fn readable(world: &World) -> Result<u64, String> {
    use futures_util::StreamExt;
    let nodes = nodes(world);
    let said = |not: Not| match not {
        Not::Yet(why) | Not::Ever(why) => why,
    };
    let state = cluster_state(&nodes).map_err(said)?;
    let refer = references(&state, &nodes).map_err(said)?;
    let mut read = 0;
    for (id, disk) in refer.fragments {
        let Some(node) = nodes.get(&disk) else {
            return Err(format!("{id} is on disk {disk}, which is away"));
        };
        let engine = node.fragments().engine();
        let failed = |error: &dyn std::fmt::Display| format!("{id} on disk {disk}: {error}");
        let (_, mut blocks) = engine
            .read(id, 0..u64::MAX)
            .await
            .map_err(|error| failed(&error))?;
        while let Some(block) = blocks.next().await {
            read += block.map_err(|error| failed(&error))?.data.len() as u64;
        }
    }
    Ok(read)
}

/// Nodes that were ordered to drain are drained: they carry no group, and their
/// disks are empty. One may still wait for an upload that died without a word
/// and may be committed until its intent is over, an hour later: then nothing
/// else is on its disk.
pub async fn drained(world: &World, drained: &[(usize, NodeId)]) -> Result<(), Not> {
    let nodes = nodes(world);
    let state = cluster_state(&nodes)?;
    let active = |node: &&LayoutNode| node.state == NodeState::Active;
    if state.layout.nodes.values().filter(active).count() < REDUNDANCY {
        // There is nowhere to go, and the controller says so.
        return Ok(());
    }
    for (number, id) in drained {
        let Some(node) = state.layout.nodes.get(id) else {
            return Err(ever(format!("node {number} is not in the layout")));
        };
        let left = match nodes.get(&node.disk) {
            Some(node) => {
                let listed = node.fragments().engine().list(None, usize::MAX).await;
                listed.map_err(ever)?
            }
            None => Vec::new(),
        };
        if node.state == NodeState::Drained {
            if !left.is_empty() {
                let left = left.len();
                let what = format!("node {number} counts as drained with {left} fragments");
                return Err(ever(what));
            }
            continue;
        }
        let refer = references(&state, &nodes)?;
        let carries = state.layout.groups.values().any(|d| d.contains(&node.disk));
        let waits = left.iter().all(|entry| {
            let referred = refer.fragments.contains(&(entry.id, node.disk));
            refer.unfinished.contains(&entry.id.group) && !referred
        });
        if carries || left.is_empty() || !waits {
            return Err(yet(format!("node {number} is {:?}", node.state)));
        }
    }
    Ok(())
}

/// Tells what the controllers' workers say of themselves, for who looks why a
/// run has failed.
pub fn tell_workers(world: &World) {
    for (number, member) in &world.members {
        let controller = member.node.as_ref().and_then(|node| node.controller());
        for view in controller.map(|all| all.debug()).unwrap_or_default() {
            world.trace.tell(&format!("node {number}: {view:?}"));
        }
    }
    for (number, member) in &world.members {
        let Some(node) = &member.node else { continue };
        let view = node.store().snapshot();
        for status in node.status().groups {
            let members = view.as_ref().ok();
            let members = members.and_then(|view| read_members(&view.group(status.group)).ok());
            world
                .trace
                .tell(&format!("node {number}: {status:?} {members:?}"));
        }
    }
    if let Ok(state) = cluster_state(&nodes(world)) {
        for node in state.layout.nodes.values() {
            let (id, disk) = (node.id, node.disk);
            let what = format!("layout: node {id}, disk {disk}, {:?}", node.state);
            world.trace.tell(&what);
        }
    }
}

/// Nodes of the layout that no machine is any more.
pub fn gone(world: &World) -> Vec<NodeId> {
    let nodes = nodes(world);
    let Ok(state) = cluster_state(&nodes) else {
        return Vec::new();
    };
    let layout = state.layout.nodes.values();
    layout
        .filter(|node| !nodes.contains_key(&node.disk) && node.state != NodeState::Lost)
        .map(|node| node.id)
        .collect()
}

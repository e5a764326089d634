//! What is decided, by what is there: here a cluster of which nothing is wrong,
//! which each test makes wrong in its own way.

mod losses;
mod release;
mod rollout;
mod scale;
mod sleep;
mod volumes;
mod whole;

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_crd::StorageCluster;
use holdfast_metadata::protocol::{DiskStatus, GroupCensus, Status};
use holdfast_model::layout::initial_slots;
use holdfast_model::{
    ClusterId, ClusterState, DiskId, Epoch, GroupId, Layout, LayoutNode, NodeId, NodeState, Permit,
    Redundancy, Timestamp,
};
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::json;

use super::*;
use crate::nodes::Sight;
use crate::observe::Machine;

const ROOM: u64 = 100 << 30;

fn id(ordinal: u32) -> NodeId {
    NodeId::from_bytes([ordinal as u8 + 1; 16])
}

fn disk(ordinal: u32) -> DiskId {
    DiskId::from_bytes([ordinal as u8 + 101; 16])
}

/// A cluster of which nothing is wrong.
struct World {
    now_seconds: i64,
    resource: StorageCluster,
    set: StatefulSet,
    pods: BTreeMap<u32, PodSight>,
    claims: BTreeMap<u32, ClaimSight>,
    can_grow: Option<bool>,
    machines: BTreeMap<String, Machine>,
    sight: Sight,
    own: holdfast_model::Supported,
    common_tag: Option<String>,
    leaderless: Duration,
}

impl World {
    fn of(nodes: u32) -> Self {
        let ordinals = 0..nodes;
        let state = state(nodes);
        let groups: Vec<GroupId> = state.layout.groups.keys().copied().collect();
        let sight = Sight {
            nodes: ordinals.clone().map(|n| (n, status(n))).collect(),
            censuses: groups
                .iter()
                .map(|group| (*group, census(*group)))
                .collect(),
            leaders: groups.iter().map(|group| (*group, disk(0))).collect(),
            state: Some(state),
            ..Sight::default()
        };
        Self {
            now_seconds: 0,
            resource: resource(nodes),
            set: set(nodes),
            pods: ordinals.clone().map(|n| (n, pod(n))).collect(),
            claims: ordinals.clone().map(|n| (n, claim(n))).collect(),
            can_grow: None,
            machines: ordinals.map(machine).collect(),
            sight,
            own: Default::default(),
            common_tag: Some("tag".into()),
            leaderless: Duration::ZERO,
        }
    }

    fn decide(&self) -> Verdict {
        super::decide(&self.situation(Some(&self.set)))
    }

    fn situation<'a>(&'a self, set: Option<&'a StatefulSet>) -> Situation<'a> {
        Situation {
            now_seconds: self.now_seconds,
            resource: &self.resource,
            name: "demo",
            namespace: "files",
            set,
            pods: self.pods.clone(),
            claims: self.claims.clone(),
            can_grow: self.can_grow,
            machines: &self.machines,
            sight: &self.sight,
            leaderless: self.leaderless,
            own: self.own,
            common_tag: self.common_tag.clone(),
        }
    }

    fn state(&mut self) -> &mut ClusterState {
        self.sight.state.as_mut().unwrap()
    }

    fn node(&mut self, ordinal: u32) -> &mut LayoutNode {
        self.state().layout.nodes.get_mut(&id(ordinal)).unwrap()
    }

    fn hold_permit(&mut self, ordinal: u32, reason: &str) {
        self.state().permit = Some(Permit {
            epoch: Epoch(7),
            node: id(ordinal),
            disk: disk(ordinal),
            reason: reason.into(),
            granted: Timestamp(0),
        });
    }

    fn silence(&mut self, ordinal: u32) {
        self.sight.nodes.remove(&ordinal);
    }

    fn outdate(&mut self, ordinals: &[u32]) {
        for ordinal in ordinals {
            self.pods.get_mut(ordinal).unwrap().revision = "old".into();
        }
    }

    /// Its pod is there and not ready, for so long, and its node does not answer.
    fn stop(&mut self, ordinal: u32, seconds: i64) {
        self.silence(ordinal);
        let down = self.pods.get_mut(&ordinal).unwrap();
        (down.ready, down.not_ready_seconds) = (false, seconds);
    }

    /// The note of the operator that it drains a node to remove it.
    fn mark(&mut self, ordinal: u32) {
        let mark = BTreeMap::from([(MARK.to_owned(), id(ordinal).to_string())]);
        self.set.metadata.annotations = Some(mark);
    }

    /// So many pods are to run.
    fn set_replicas(&mut self, replicas: i32) {
        self.set.spec.as_mut().unwrap().replicas = Some(replicas);
    }

    /// Nobody runs, and so nobody says anything.
    fn all_gone(&mut self) {
        self.pods.clear();
        self.sight = Sight::default();
        self.set_replicas(0);
    }

    fn census(&mut self) -> &mut GroupCensus {
        self.sight.censuses.get_mut(&GroupId(1)).unwrap()
    }

    fn want(&mut self, nodes: u32) {
        self.resource.spec.nodes.replicas = nodes;
    }
}

fn resource(nodes: u32) -> StorageCluster {
    serde_json::from_value(json!({
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "StorageCluster",
        "metadata": {"name": "demo", "namespace": "files", "generation": 4},
        "spec": {"nodes": {"replicas": nodes, "storage": {"size": "100Gi"}}},
    }))
    .unwrap()
}

fn set(nodes: u32) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": "demo-node", "generation": 2},
        "spec": {
            "replicas": nodes,
            "serviceName": "demo-nodes",
            "selector": {},
            "template": {},
            "volumeClaimTemplates": [
                {"spec": {"resources": {"requests": {"storage": "100Gi"}}}},
            ],
        },
        "status": {"replicas": nodes, "observedGeneration": 2, "updateRevision": "new"},
    }))
    .unwrap()
}

fn pod(ordinal: u32) -> PodSight {
    PodSight {
        revision: "new".into(),
        ready: true,
        machine: Some(format!("machine-{ordinal}")),
        ..PodSight::default()
    }
}

fn claim(ordinal: u32) -> ClaimSight {
    ClaimSight {
        uid: format!("claim-{ordinal}"),
        smaller: false,
        grown: true,
        removed: None,
    }
}

fn machine(ordinal: u32) -> (String, Machine) {
    let place = Machine {
        zone: format!("zone-{ordinal}"),
        labelled: true,
        cordoned: false,
    };
    (format!("machine-{ordinal}"), place)
}

fn status(ordinal: u32) -> Status {
    Status {
        node: id(ordinal),
        disk: disk(ordinal),
        cluster: Some(ClusterId::from_bytes([9; 16])),
        incarnation: 1,
        wire_version: 1,
        supports: Default::default(),
        recorded: Some(Default::default()),
        now: Timestamp(0),
        state: None,
        space: DiskStatus {
            capacity: ROOM,
            free: ROOM / 2,
            fragment_bytes: 1 << 30,
            ..DiskStatus::default()
        },
        groups: Vec::new(),
        draining: false,
        disk_hangs: false,
        started: Timestamp(0),
        address: address(ordinal),
        zone: None,
        host: None,
    }
}

fn address(ordinal: u32) -> String {
    holdfast_plan::names::node_address("demo", "files", ordinal)
}

fn state(nodes: u32) -> ClusterState {
    let layout_node = |ordinal: u32| LayoutNode {
        id: id(ordinal),
        disk: disk(ordinal),
        address: address(ordinal),
        zone: Some(format!("zone-{ordinal}")),
        host: Some(format!("machine-{ordinal}")),
        weight: 100,
        state: NodeState::Active,
        incarnation: 1,
        supports: Default::default(),
    };
    let disks: Vec<DiskId> = (0..3).map(disk).collect();
    ClusterState {
        cluster: ClusterId::from_bytes([9; 16]),
        revision: Epoch(1),
        layout: Layout {
            epoch: Epoch(5),
            redundancy: Redundancy::copies(3),
            metadata_replicas: 3,
            slots: initial_slots(2),
            nodes: (0..nodes).map(|n| (id(n), layout_node(n))).collect(),
            groups: (0..3).map(|g| (GroupId(g), disks.clone())).collect(),
        },
        buckets: Vec::new(),
        access_keys: Vec::new(),
        permit: None,
        next_permit: Epoch(8),
        times: Default::default(),
        active: Default::default(),
    }
}

fn census(group: GroupId) -> GroupCensus {
    GroupCensus {
        group,
        objects: 10,
        degraded: 0,
        unavailable: 0,
        lost: 0,
        missing: 0,
        silent_disks: 0,
        epoch: Epoch(5),
        time: Timestamp(1_000),
    }
}

/// What the nodes of a cluster say of which nothing is wrong.
pub(crate) fn whole_sight(nodes: u32) -> Sight {
    World::of(nodes).sight
}

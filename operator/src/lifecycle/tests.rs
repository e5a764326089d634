//! What is decided, by what is there.

use std::collections::BTreeMap;

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
    resource: StorageCluster,
    set: StatefulSet,
    pods: BTreeMap<u32, PodSight>,
    claims: BTreeMap<u32, ClaimSight>,
    can_grow: Option<bool>,
    machines: BTreeMap<String, Machine>,
    sight: Sight,
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
            resource: resource(nodes),
            set: set(nodes),
            pods: ordinals.clone().map(|n| (n, pod(n))).collect(),
            claims: ordinals.clone().map(|n| (n, claim(n))).collect(),
            can_grow: None,
            machines: ordinals.map(machine).collect(),
            sight,
        }
    }

    fn decide(&self) -> Verdict {
        super::decide(&Situation {
            resource: &self.resource,
            name: "demo",
            namespace: "files",
            set: Some(&self.set),
            pods: self.pods.clone(),
            claims: self.claims.clone(),
            can_grow: self.can_grow,
            machines: &self.machines,
            sight: &self.sight,
        })
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
    }
}

fn machine(ordinal: u32) -> (String, Machine) {
    let place = Machine {
        zone: format!("zone-{ordinal}"),
        labelled: true,
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

#[test]
fn nothing_is_done_to_a_cluster_that_is_well() {
    let verdict = World::of(3).decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.notes, []);
    assert_eq!((verdict.storage_replicas, verdict.busy), (3, Busy::No));
    assert_eq!(verdict.storage_disruptions, 1);
}

#[test]
fn nobody_may_take_a_node_while_an_object_lacks_a_copy_or_somebody_works_on_one() {
    let mut degraded = World::of(3);
    let census = degraded.sight.censuses.get_mut(&GroupId(1)).unwrap();
    census.degraded = 1;
    assert_eq!(degraded.decide().storage_disruptions, 0);
    let mut uncounted = World::of(3);
    uncounted.state().layout.epoch = Epoch(6);
    assert_eq!(uncounted.decide().storage_disruptions, 0);
    let mut held = World::of(3);
    held.hold_permit(1, "a person works on it");
    assert_eq!(held.decide().storage_disruptions, 0);
    let mut leaderless = World::of(3);
    leaderless.sight.leaders.clear();
    assert_eq!(leaderless.decide().storage_disruptions, 0);
}

#[test]
fn a_cluster_is_founded_once_all_first_members_answer() {
    let mut world = World::of(3);
    world.sight = Sight::default();
    let verdict = world.decide();
    assert_eq!((verdict.busy, verdict.steps), (Busy::Birth, vec![]));
    for ordinal in 0..3 {
        let mut unborn = status(ordinal);
        unborn.cluster = None;
        world.sight.nodes.insert(ordinal, unborn);
    }
    let ordinals = vec![0, 1, 2];
    assert_eq!(world.decide().steps, [Step::Found { ordinals }]);
}

#[test]
fn a_node_whose_pod_has_moved_is_placed_anew() {
    let mut world = World::of(3);
    world.pods.get_mut(&1).unwrap().machine = Some("machine-2".into());
    let step = Step::Place {
        node: id(1),
        zone: "zone-2".into(),
        machine: "machine-2".into(),
    };
    assert_eq!(world.decide().steps, [step]);
}

#[test]
fn an_outdated_pod_is_restarted_with_the_permit_from_the_highest_down() {
    let mut world = World::of(3);
    world.outdate(&[0, 1, 2]);
    let restart = |ordinal| Step::Restart {
        node: id(ordinal),
        ordinal,
        anyway: false,
    };
    let verdict = world.decide();
    assert_eq!(
        (verdict.busy, verdict.steps),
        (Busy::Rolling, vec![restart(2)])
    );
    // Held, and the pod is still the old one: an operator died in between.
    world.hold_permit(2, RESTART);
    assert_eq!(world.decide().steps, [restart(2)]);
    // The new pod is not ready: nobody else is touched.
    world.pods.insert(2, pod(2));
    world.pods.get_mut(&2).unwrap().ready = false;
    assert_eq!(world.decide().steps, []);
    // It is ready, but its node does not answer yet.
    world.pods.get_mut(&2).unwrap().ready = true;
    world.silence(2);
    assert_eq!(world.decide().steps, []);
    // It does.
    world.sight.nodes.insert(2, status(2));
    let release = Step::Release {
        node: id(2),
        epoch: Epoch(7),
    };
    assert_eq!(world.decide().steps, [release]);
    world.state().permit = None;
    assert_eq!(world.decide().steps, [restart(1)]);
}

#[test]
fn a_pod_that_serves_nothing_is_replaced_first_and_needs_no_permit() {
    let mut world = World::of(3);
    world.outdate(&[0, 1, 2]);
    world.silence(0);
    let down = world.pods.get_mut(&0).unwrap();
    (down.ready, down.not_ready_seconds) = (false, 5);
    assert_eq!(world.decide().steps, [Step::DeletePod { ordinal: 0 }]);
    // While nobody speaks for the cluster it must have been so for a minute.
    world.sight.leaders.clear();
    assert_eq!(world.decide().steps, []);
    world.pods.get_mut(&0).unwrap().not_ready_seconds = 60;
    assert_eq!(world.decide().steps, [Step::DeletePod { ordinal: 0 }]);
}

#[test]
fn no_pod_is_replaced_before_its_set_has_been_looked_at() {
    let mut world = World::of(3);
    world.outdate(&[0, 1, 2]);
    world.set.metadata.generation = Some(3);
    assert_eq!(world.decide().steps, []);
}

#[test]
fn a_rollout_waits_for_whoever_has_the_permit() {
    let mut world = World::of(3);
    world.outdate(&[2]);
    world.hold_permit(0, "a person works on it");
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.notes.first().unwrap().reason, "PermitHeld");
}

#[test]
fn a_person_may_say_that_one_generation_goes_on_while_degraded() {
    let mut world = World::of(3);
    world.outdate(&[2]);
    let key = holdfast_plan::names::PROCEED_WHILE_DEGRADED;
    let says = |generation: &str| BTreeMap::from([(key.to_owned(), generation.to_owned())]);
    let anyway = |world: &World| match world.decide().steps.as_slice() {
        [Step::Restart { anyway, .. }] => *anyway,
        other => panic!("{other:?}"),
    };
    world.resource.metadata.annotations = Some(says("3"));
    assert!(!anyway(&world));
    world.resource.metadata.annotations = Some(says("4"));
    assert!(anyway(&world));
}

#[test]
fn a_smaller_cluster_drains_then_asks_then_shrinks_then_gives_back() {
    let mut world = World::of(4);
    world.want(3);
    let mark = |node| Step::Mark { node };
    let verdict = world.decide();
    let draining = Step::SetState {
        node: id(3),
        state: NodeState::Draining,
    };
    assert_eq!(verdict.steps, [mark(Some(id(3))), draining]);
    assert_eq!((verdict.storage_replicas, verdict.busy), (4, Busy::Scaling));
    // It drains: the number stays.
    world.node(3).state = NodeState::Draining;
    world.set.metadata.annotations = Some(BTreeMap::from([(MARK.to_owned(), id(3).to_string())]));
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.storage_replicas), (vec![], 4));
    // Found empty: the permit first.
    world.node(3).state = NodeState::Drained;
    let verdict = world.decide();
    assert_eq!(verdict.steps, [Step::PermitRemoval { node: id(3) }]);
    assert_eq!(verdict.storage_replicas, 4);
    world.hold_permit(3, REMOVE);
    assert_eq!(world.decide().storage_replicas, 3);
    // The set is smaller, and the pod still ends.
    world.set.spec.as_mut().unwrap().replicas = Some(3);
    world.silence(3);
    assert_eq!(world.decide().steps, [mark(None)]);
    world.pods.remove(&3);
    let release = Step::Release {
        node: id(3),
        epoch: Epoch(7),
    };
    assert_eq!(world.decide().steps, [release, mark(None)]);
}

#[test]
fn a_drain_that_somebody_took_back_is_taken_back() {
    let mut world = World::of(4);
    world.node(3).state = NodeState::Draining;
    // An administrator's own drain is not ours to end.
    assert_eq!(world.decide().steps, []);
    world.set.metadata.annotations = Some(BTreeMap::from([(MARK.to_owned(), id(3).to_string())]));
    let active = Step::SetState {
        node: id(3),
        state: NodeState::Active,
    };
    assert_eq!(world.decide().steps, [active, Step::Mark { node: None }]);
}

#[test]
fn what_cannot_be_done_without_a_node_is_said_with_numbers() {
    let mut full = World::of(4);
    full.want(3);
    full.sight.nodes.get_mut(&3).unwrap().space.fragment_bytes = 200 << 30;
    let verdict = full.decide();
    assert_eq!(verdict.steps, []);
    let (reason, sentence) = verdict.stalled.unwrap();
    assert_eq!(reason, "CannotScaleDown");
    assert!(sentence.contains("204800 MiB"), "{sentence}");
    let mut away = World::of(4);
    away.want(3);
    away.silence(1);
    assert!(away.decide().stalled.unwrap().1.contains("does not answer"));
    let mut few = World::of(4);
    few.want(3);
    few.node(0).state = NodeState::Down;
    assert!(few.decide().stalled.unwrap().1.contains("2 other nodes"));
}

#[test]
fn a_node_that_never_joined_goes_at_once_but_only_where_the_cluster_says_so() {
    let mut world = World::of(4);
    world.want(3);
    world.silence(3);
    world.state().layout.nodes.remove(&id(3));
    assert_eq!(world.decide().storage_replicas, 3);
    // Those who answer may not have heard of its joining.
    world.sight.leaders.remove(&GroupId::CLUSTER);
    assert_eq!(world.decide().storage_replicas, 4);
}

#[test]
fn a_node_that_was_removed_and_comes_back_takes_data_again() {
    let mut world = World::of(4);
    world.node(3).state = NodeState::Drained;
    let active = Step::SetState {
        node: id(3),
        state: NodeState::Active,
    };
    assert_eq!(world.decide().steps, [active]);
}

#[test]
fn a_drained_volume_goes_only_where_that_was_asked_for() {
    let mut world = World::of(4);
    world.want(3);
    world.node(3).state = NodeState::Drained;
    world.set.spec.as_mut().unwrap().replicas = Some(3);
    world.silence(3);
    world.pods.remove(&3);
    assert_eq!(world.decide().steps, []);
    world.resource.spec.nodes.storage.retention.when_scaled_down =
        holdfast_crd::RetentionPolicy::Delete;
    let delete = Step::DeleteClaim {
        ordinal: 3,
        uid: "claim-3".into(),
    };
    assert_eq!(world.decide().steps, [delete]);
    // Whatever the resource says, a volume that is not known to be empty stays.
    world.node(3).state = NodeState::Down;
    assert_eq!(world.decide().steps, []);
}

#[test]
fn a_lost_node_is_given_up_only_by_name_and_only_when_silent() {
    let mut world = World::of(3);
    world.resource.spec.removed_nodes = vec![id(1).to_string()];
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.notes.first().unwrap().reason, "NodeAnswers");
    let (reason, sentence) = verdict.stalled.unwrap();
    assert_eq!(reason, "NodeAnswers");
    assert!(sentence.contains(&id(1).to_string()), "{sentence}");
    // The operator alone does not reach it.
    world.silence(1);
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.notes.first().unwrap().reason, "NodeReady");
    world.pods.get_mut(&1).unwrap().ready = false;
    let lost = Step::SetState {
        node: id(1),
        state: NodeState::Lost,
    };
    assert_eq!(world.decide().steps, [lost]);
    world.resource.spec.removed_nodes = vec![id(77).to_string()];
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.notes.first().unwrap().reason, "UnknownNode");
}

#[test]
fn a_lost_nodes_volume_goes_by_the_identity_that_was_recorded() {
    let mut world = World::of(3);
    world.silence(1);
    world.node(1).state = NodeState::Lost;
    world.resource.spec.removed_nodes = vec![id(1).to_string()];
    // Nothing says which volume it was on.
    assert_eq!(world.decide().steps, []);
    let recorded = |uid: &str| {
        let list = json!([{
            "id": id(1).to_string(), "pod": "demo-node-1", "ordinal": 1,
            "pvcUID": uid, "state": "Silent",
        }]);
        let status = json!({"nodes": {"replicas": 3, "ready": 2, "list": list}});
        serde_json::from_value(status).unwrap()
    };
    world.resource.status = Some(recorded("another"));
    assert_eq!(world.decide().steps, []);
    world.resource.status = Some(recorded("claim-1"));
    let delete = Step::DeleteClaim {
        ordinal: 1,
        uid: "claim-1".into(),
    };
    assert_eq!(world.decide().steps, [delete]);
}

#[test]
fn volumes_grow_where_their_class_lets_them_and_the_set_is_made_again() {
    let mut world = World::of(3);
    world.claims.get_mut(&1).unwrap().smaller = true;
    world.can_grow = Some(true);
    let ordinals = vec![1];
    assert_eq!(world.decide().steps, [Step::Grow { ordinals }]);
    world.can_grow = Some(false);
    let verdict = world.decide();
    assert_eq!(verdict.steps, []);
    assert_eq!(verdict.stalled.unwrap().0, "VolumesCannotGrow");
    // All have their room; the template is still the old one.
    world.claims.get_mut(&1).unwrap().smaller = false;
    world.resource.spec.nodes.storage.size =
        k8s_openapi::apimachinery::pkg::api::resource::Quantity("200Gi".into());
    assert_eq!(world.decide().steps, [Step::RecreateSet]);
    world.hold_permit(0, "a person works on it");
    assert_eq!(world.decide().steps, []);
}

#[test]
fn nothing_is_decided_while_the_resource_is_suspended_or_sleeps() {
    let mut world = World::of(4);
    world.want(3);
    world.outdate(&[0]);
    world.resource.spec.suspend = true;
    assert_eq!(world.decide().steps, []);
    world.resource.spec.suspend = false;
    world.resource.spec.hibernate = true;
    let verdict = world.decide();
    assert_eq!((verdict.steps, verdict.hibernated), (vec![], true));
}

#[test]
fn a_cluster_does_not_fall_asleep_over_a_drain_or_a_restart() {
    let mut world = World::of(4);
    world.resource.spec.hibernate = true;
    world.hold_permit(2, RESTART);
    let verdict = world.decide();
    assert!(!verdict.hibernated);
    assert_eq!(verdict.notes.first().unwrap().reason, "HibernateWaits");
    let mut world = World::of(4);
    world.resource.spec.hibernate = true;
    world.node(3).state = NodeState::Draining;
    assert!(!world.decide().hibernated);
    // Asleep, nobody answers: it stays so.
    world.sight = Sight::default();
    assert!(world.decide().hibernated);
}

//! What a node takes from group 0's answer, from a group 0 that is acted here.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_blobs::EngineSettings;
use holdfast_controller::ControllerSettings;
use holdfast_metadata::log::LogSettings;
use holdfast_metadata::protocol::{self, encode_result};
use holdfast_model::{
    ClusterId, DiskId, Epoch, Layout, LayoutNode, NodeId, Redundancy, Supported,
    layout::initial_slots,
};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{
    Body, Call, Disk, Env, OnFatal, Reply, Shutdown, Transport, TransportError, still,
};

use super::*;
use crate::node::NodeParts;

pub(crate) const CLUSTER: ClusterId = ClusterId::from_bytes([9; 16]);
pub(crate) const PEER: DiskId = DiskId::from_bytes([3; 16]);

/// A world in which nobody answers, and time passes: for tests that start with
/// it paused.
pub(crate) fn paused() -> Env {
    Env {
        clock: still::paused_clock(),
        ..still::env(1)
    }
}

/// A member of group 0 that answers every start so.
struct Joining(Outcome);

impl Transport for Joining {
    fn call(&self, to: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let reply = if call.path == protocol::PROPOSE {
            let head = encode_result(&Ok(self.0.clone()));
            Ok(Reply {
                head,
                body: Body::Empty,
            })
        } else {
            Err(TransportError::Connect {
                to: to.clone(),
                reason: "it only takes starts".into(),
            })
        };
        std::future::ready(reply).boxed()
    }
}

/// A cluster of one other disk, in its start of that number.
pub(crate) fn cluster(revision: u64, incarnation: u64) -> ClusterState {
    let id = NodeId::from_bytes([5; 16]);
    let node = LayoutNode {
        id,
        weight: 100,
        disk: PEER,
        address: "peer:8000".into(),
        zone: None,
        host: None,
        state: NodeState::Active,
        incarnation,
        supports: Default::default(),
    };
    ClusterState {
        cluster: CLUSTER,
        revision: Epoch(revision),
        layout: Layout {
            epoch: Epoch(revision),
            redundancy: Redundancy::copies(1),
            metadata_replicas: 1,
            slots: initial_slots(1),
            nodes: [(id, node)].into(),
            groups: [(GroupId::CLUSTER, vec![PEER])].into(),
        },
        buckets: Vec::new(),
        access_keys: Vec::new(),
        permit: None,
        next_permit: Epoch(1),
        times: Default::default(),
        active: Default::default(),
    }
}

/// Has a disk belong to the cluster.
pub(crate) fn adopt(disk: &dyn Disk, env: &Env) {
    let mut identity = Identity::start(disk, env.entropy.as_ref(), &Supported::OWN).unwrap();
    identity.cluster = Some(CLUSTER);
    identity.save(disk).unwrap();
}

/// A node on this disk.
pub(crate) async fn start(env: Env, disk: Arc<dyn Disk>, on_fatal: OnFatal) -> Arc<Node> {
    Node::start(parts(env, disk, on_fatal)).await.unwrap()
}

/// What such a node is made of.
pub(crate) fn parts(env: Env, disk: Arc<dyn Disk>, on_fatal: OnFatal) -> NodeParts {
    NodeParts {
        env,
        disk,
        address: Address("own:8000".into()),
        seeds: Vec::new(),
        zone: None,
        host: None,
        supports: Supported::OWN,
        engine: EngineSettings {
            segment_bytes: 1 << 20,
            reserve_bytes: None,
        },
        log: LogSettings {
            file_bytes: 64 << 10,
        },
        controller: ControllerSettings::default(),
        limits: Default::default(),
        on_fatal,
        shutdown: Shutdown::default(),
    }
}

/// A node of the cluster that knows of the other's first start, and whose own is
/// answered so.
async fn joining(outcome: Outcome, on_fatal: OnFatal) -> Arc<Node> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30, 1));
    let mut env = still::env(1);
    adopt(disk.as_ref(), &env);
    env.transport = Arc::new(Joining(outcome));
    let node = start(env, disk, on_fatal).await;
    node.cluster.learn(cluster(1, 1));
    node.born().unwrap().learn(Arc::new(cluster(1, 1)));
    node
}

#[tokio::test]
async fn the_starts_that_group_0_answers_a_join_with_are_known_at_once() {
    let outcome = Outcome::Joined(Box::new(cluster(2, 3)));
    let node = joining(outcome, Arc::new(|fatal| panic!("{fatal:?}"))).await;
    let known = || node.born().unwrap().known_start(PEER);
    assert_eq!(known(), 1);
    assert!(node.join().await);
    assert_eq!(known(), 3);
    assert_eq!(node.cluster.state().unwrap().revision, Epoch(2));
}

#[tokio::test]
async fn an_older_copy_that_group_0_refuses_is_noted_as_failed() {
    let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let on_fatal = Arc::new(move |fatal| told.send(fatal).unwrap());
    let node = joining(Outcome::Refused(Refusal::Stale), on_fatal).await;
    assert!(!node.join().await);
    let end = ends.try_recv();
    assert!(matches!(end, Ok(Fatal::Outdated(_))), "{end:?}");
}

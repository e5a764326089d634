//! What a node answers about maintenance, and what sealing does to its disk.

use std::sync::Arc;

use holdfast_model::{ClusterState, DiskId, LayoutNode, NodeId, NodeState, Timestamp};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Disk, still};

use super::*;
use crate::node::join::tests::{PEER, adopt, cluster, start};
use crate::seal::Seal;

async fn node(belongs: bool) -> (Arc<Node>, MemoryDisk) {
    let memory = MemoryDisk::new(1 << 30, 1);
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let env = still::env(1);
    if belongs {
        adopt(disk.as_ref(), &env);
    }
    let node = start(env, disk, Arc::new(|fatal| panic!("{fatal:?}"))).await;
    (node, memory)
}

fn asked(reason: String) -> PermitRequest {
    PermitRequest {
        node: NodeId::from_bytes([7; 16]),
        reason,
        degraded: false,
    }
}

fn sealing(disk: DiskId, epoch: u64) -> SealRequest {
    let epoch = Epoch(epoch);
    SealRequest { disk, epoch }
}

#[tokio::test]
async fn a_node_without_a_cluster_has_nothing_to_say_of_one() {
    let (node, _) = node(false).await;
    assert_eq!(node.census_report().err(), Some(NodeError::NotBorn));
    let permit = node.permit(asked("restart".into())).await;
    assert_eq!(permit.err(), Some(NodeError::NotBorn));
    let release = node.release(ReleaseRequest { epoch: Epoch(1) }).await;
    assert_eq!(release.err(), Some(NodeError::NotBorn));
    assert_eq!(node.taking_since(), None);
}

#[tokio::test]
async fn a_reason_has_1_to_200_bytes_before_anybody_is_asked() {
    let (node, _) = node(false).await;
    for (bytes, fits) in [(0, false), (1, true), (200, true), (201, false)] {
        let answer = node.permit(asked("x".repeat(bytes))).await;
        let refused = matches!(answer, Err(NodeError::Invalid(_)));
        assert_eq!(!refused, fits, "{bytes} bytes: {answer:?}");
    }
}

#[tokio::test]
async fn a_node_that_leads_nothing_reports_no_counts() {
    let (node, _) = node(true).await;
    let report = node.census_report().unwrap();
    assert!(report.groups.is_empty(), "{report:?}");
    assert_eq!(report.chunks_to_copy, 0);
}

#[tokio::test]
async fn an_order_to_seal_another_disk_seals_nothing() {
    let (node, memory) = node(true).await;
    let answer = node.seal(sealing(PEER, 5)).await;
    assert!(matches!(answer, Err(NodeError::Mistaken(_))), "{answer:?}");
    assert!(node.seal.enter(None).is_ok());
    assert!(Seal::find(&memory).unwrap().enter(None).is_ok());
}

/// Whoever sealed counts what is on the disk next: what is still being written
/// would not be among it.
#[tokio::test]
async fn sealing_is_answered_when_it_is_durable_and_nothing_is_written_any_more() {
    let (node, memory) = node(true).await;
    let own = node.identity().disk;
    let writing = node.seal.enter(None).unwrap();
    let mut answer = Box::pin(node.seal(sealing(own, 5)));
    for _ in 0..100 {
        let waits = tokio::select! {
            biased;
            _ = &mut answer => false,
            () = tokio::task::yield_now() => true,
        };
        assert!(waits, "a fragment is being written");
    }
    drop(writing);
    answer.await.unwrap();
    for seal in [&node.seal, &Seal::find(&memory).unwrap()] {
        assert!(seal.enter(None).is_err());
        assert!(seal.enter(Some(Epoch(5))).is_err());
    }
}

/// A cluster of which the node is a member, with this disk and in this state.
fn member(node: &Node, revision: u64, disk: DiskId, state: NodeState) -> Arc<ClusterState> {
    let mut cluster = cluster(revision, 1);
    let own = node.identity().node;
    let other = cluster.layout.nodes.values().next().unwrap().clone();
    let entry = LayoutNode {
        id: own,
        disk,
        zone: Some("a".into()),
        state,
        ..other
    };
    cluster.layout.nodes.insert(own, entry);
    Arc::new(cluster)
}

#[tokio::test]
async fn data_goes_to_a_disk_that_the_layout_names_as_active() {
    let (node, _) = node(true).await;
    let own = node.identity().disk;
    assert_eq!(node.taking_since(), None, "no layout is known");
    for (revision, disk, state, taking) in [
        (1, own, NodeState::Active, Some(Epoch(1))),
        (2, own, NodeState::Draining, None),
        (3, own, NodeState::Active, Some(Epoch(3))),
        (4, PEER, NodeState::Active, None),
    ] {
        let state = member(&node, revision, disk, state);
        node.born().unwrap().learn(state);
        assert_eq!(node.taking_since(), taking, "layout {revision}");
    }
}

#[test]
fn a_report_has_each_count_of_a_census_under_its_own_name() {
    let census = Census {
        objects: 1,
        degraded: 2,
        unavailable: 3,
        lost: 4,
        missing: 5,
        silent_disks: 6,
        epoch: Epoch(7),
        time: Timestamp(8),
        chunks: 10,
        orphans: 11,
        walked: 12,
        wrong: 13,
        began: Timestamp(14),
    };
    let told = GroupCensus {
        group: GroupId(9),
        objects: 1,
        degraded: 2,
        unavailable: 3,
        lost: 4,
        missing: 5,
        silent_disks: 6,
        epoch: Epoch(7),
        time: Timestamp(8),
    };
    assert_eq!(counts(GroupId(9), &census), told);
}

#[tokio::test]
async fn a_seal_whose_sync_fails_ends_the_disk_and_one_without_room_does_not() {
    type Harm = fn(&MemoryDisk);
    let cases: [(Harm, NodeError, bool); 2] = [
        (|disk| disk.set_free(0), NodeError::DiskFull, false),
        (MemoryDisk::fail_next_sync, NodeError::DiskFailed, true),
    ];
    for (harm, told, ends) in cases {
        let memory = MemoryDisk::new(1 << 30, 1);
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let (env, ended) = (still::env(1), Arc::new(std::sync::Mutex::new(Vec::new())));
        adopt(disk.as_ref(), &env);
        let end = ended.clone();
        let node = start(
            env,
            disk,
            Arc::new(move |fatal| end.lock().unwrap().push(fatal)),
        )
        .await;
        harm(&memory);
        let sealed = node.seal(sealing(node.identity().disk, 5)).await;
        assert_eq!(sealed, Err(told));
        let ended = ended.lock().unwrap();
        let failed = matches!(ended[..], [Fatal::DiskFailed(_)]);
        assert_eq!((failed, ended.is_empty()), (ends, !ends), "{ended:?}");
        assert_eq!(crate::identity::Identity::find(&memory).is_err(), ends);
        assert!(node.seal.enter(None).is_ok(), "it is not sealed");
    }
}

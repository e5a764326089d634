//! When a node is ready, and that it is so at once.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_metadata::protocol::{self, GroupMessage, RaftBatch};
use holdfast_metadata::wire::WireEntry;
use holdfast_model::Timestamp;
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Disk, still};
use minicbor::bytes::ByteSlice;

use super::*;
use crate::node::join::tests::{CLUSTER, PEER, adopt, cluster, start};

/// A group that the layout of the tests gives to nobody.
const UNKNOWN: GroupId = GroupId(3);

async fn node(belongs: bool) -> Arc<Node> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30, 1));
    let env = still::env(1);
    if belongs {
        adopt(disk.as_ref(), &env);
    }
    start(env, disk, Arc::new(|fatal| panic!("{fatal:?}"))).await
}

/// Has a leader tell the node's member of a group that it has committed so much.
async fn announce(node: &Node, group: GroupId, commit: u64) {
    const MSG_APPEND: i32 = 3;
    let own = node.identity().disk;
    let (to, from, term) = (own.raft_id(), PEER.raft_id(), 9_u64);
    let entries: Vec<WireEntry> = Vec::new();
    let context: &ByteSlice = (&[][..]).into();
    // As the wire has it: an array of the message's fields.
    let (log_term, index, none) = (term, commit, 0_u64);
    let message: Bytes = protocol::encode(&(
        MSG_APPEND, to, from, term, log_term, index, entries, commit, none, none, false, none,
        context, 0_i64,
    ));
    let batch = RaftBatch {
        cluster: CLUSTER,
        from: PEER,
        to: own,
        incarnation: 1,
        sent: Timestamp(0),
        messages: vec![GroupMessage { group, message }],
        knows: None,
        starts: Vec::new(),
    };
    node.born().unwrap().deliver(batch).await.unwrap();
}

#[tokio::test]
async fn a_node_is_not_ready_while_a_member_that_it_carries_is_far_behind() {
    for (commit, ready) in [(1_000, true), (1_001, false)] {
        let node = node(true).await;
        announce(&node, UNKNOWN, commit).await;
        assert_eq!(node.ready().is_ok(), ready, "{commit}");
    }
    let node = node(true).await;
    node.born().unwrap().learn(Arc::new(cluster(1, 1)));
    announce(&node, GroupId::CLUSTER, 5_000).await;
    assert_eq!(node.ready(), Ok(()), "the layout gives it to another");
    announce(&node, UNKNOWN, 5_000).await;
    let why = "its member of group 3 is 5000 entries behind";
    assert_eq!(node.ready(), Err(why.into()));
}

#[tokio::test]
async fn a_node_without_leaders_is_ready_and_one_without_a_cluster_or_that_ends_is_not() {
    assert!(node(false).await.ready().is_err());
    let node = node(true).await;
    assert_eq!(node.ready(), Ok(()));
    node.draining.store(true, Ordering::Relaxed);
    assert_eq!(node.ready(), Err("the node is ending".into()));
}

#[test]
fn one_member_that_is_far_behind_is_enough_if_it_is_carried_here() {
    let (near, far) = (Lag::of(1_500, 500, false), Lag::of(6_000, 990, false));
    let all: BTreeMap<_, _> = [(GroupId(1), near), (GroupId(2), near), (UNKNOWN, far)].into();
    let why = "its member of group 3 is 5010 entries behind";
    assert_eq!(check_lags(&all, |_| true), Err(why.into()));
    assert_eq!(check_lags(&all, |group| group != UNKNOWN), Ok(()));
    let all: BTreeMap<_, _> = [(GroupId(1), Lag::of(9, 9, true))].into();
    let why = "its member of group 1 takes in a snapshot";
    assert_eq!(check_lags(&all, |_| true), Err(why.into()));
    assert_eq!(check_lags(&BTreeMap::new(), |_| true), Ok(()));
}

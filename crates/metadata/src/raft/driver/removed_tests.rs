//! A leader that a change of members takes out altogether: its predecessor began
//! it, since a leader itself is not asked to. And a candidate that it takes out.

use holdfast_model::RequestId;
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};
use tokio::sync::oneshot;

use super::tests::{A, Alone, NEW, born};
use crate::protocol::ProposeRequest;
use crate::wire::{MemberChange, conf_change};

const ADD_VOTER: u8 = 0;
const REMOVE: u8 = 1;

/// The new member says that it has the log up to there.
async fn has(alone: &mut Alone, index: u64) {
    let raft = &alone.driver.groups[&A].node.raft;
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgAppendResponse);
    (message.from, message.to) = (NEW.raft_id(), raft.id);
    (message.term, message.index) = (raft.term, index);
    alone.driver.on_message(A, message);
    alone.settle().await;
}

fn end(alone: &Alone) -> u64 {
    alone.driver.groups[&A].node.raft.raft_log.last_index()
}

#[tokio::test]
async fn a_leader_that_is_no_member_any_more_leads_no_more_whatever_is_durable_then() {
    let disk = born();
    let mut alone = Alone::start_leading(&disk, &[A]).await.unwrap();
    let own = alone.driver.identity.disk.raft_id();
    let changes = vec![(ADD_VOTER, NEW.raft_id()), (REMOVE, own)];
    let change = conf_change(&MemberChange { changes }).unwrap();
    let group = alone.driver.groups.get_mut(&A).unwrap();
    group.node.propose_conf_change(Vec::new(), change).unwrap();
    alone.settle().await;
    // Both votes are needed until the change is left, by an entry of its own.
    let left = end(&alone);
    has(&mut alone, 1).await;
    let (answer, _) = oneshot::channel();
    let request = ProposeRequest {
        group: A,
        id: RequestId::from_bytes([1; 16]),
        command: crate::command::Command::Tick,
    };
    alone.driver.on_propose(request, answer.into());
    // Its round is being written when the change is left.
    assert!(alone.driver.pump() && alone.driver.writing.is_some());
    assert_eq!(end(&alone), left + 1);
    has(&mut alone, left).await;
    let raft = &alone.driver.groups[&A].node.raft;
    assert!(raft.prs().get(own).is_none(), "it is removed");
    assert_eq!(raft.state, StateRole::Follower);
    has(&mut alone, left + 1).await;
}

#[tokio::test]
async fn a_candidate_that_is_no_member_any_more_wins_no_election() {
    let disk = born();
    let mut alone = Alone::start_leading(&disk, &[A]).await.unwrap();
    let own = alone.driver.identity.disk.raft_id();
    let change = |changes| conf_change(&MemberChange { changes }).unwrap();
    let group = alone.driver.groups.get_mut(&A).unwrap();
    let added = change(vec![(ADD_VOTER, NEW.raft_id())]);
    group.node.apply_conf_change(&added).unwrap();
    let term = group.node.raft.term + 1;
    group.node.raft.become_follower(term, raft::INVALID_ID);
    group.campaign();
    vote(&mut alone, MessageType::MsgRequestPreVoteResponse);
    let group = alone.driver.groups.get_mut(&A).unwrap();
    assert_eq!(group.node.raft.state, StateRole::Candidate);
    let removed = change(vec![(REMOVE, own)]);
    group.node.apply_conf_change(&removed).unwrap();
    group.resign_if_removed();
    vote(&mut alone, MessageType::MsgRequestVoteResponse);
    let group = alone.driver.groups.get_mut(&A).unwrap();
    assert_eq!(group.node.raft.state, StateRole::Follower);
    // Nor does it stand, as one that the layout prefers would after a start.
    group.campaign();
    assert_eq!(group.node.raft.state, StateRole::Follower);
}

/// The other member votes for this one, in the term that it stands for.
fn vote(alone: &mut Alone, kind: MessageType) {
    let raft = &alone.driver.groups[&A].node.raft;
    let mut message = Message::default();
    message.set_msg_type(kind);
    (message.from, message.to) = (NEW.raft_id(), raft.id);
    let ahead = u64::from(kind == MessageType::MsgRequestPreVoteResponse);
    message.term = raft.term + ahead;
    alone.driver.on_message(A, message);
}

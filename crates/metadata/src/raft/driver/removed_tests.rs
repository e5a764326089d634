//! A leader that a change of members takes out altogether: its predecessor began
//! it, since a leader itself is not asked to. And a candidate that it takes out.

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::Group;
use super::admin::{ADD_VOTER, REMOVE};
use super::tests::{A, Alone, NEW, born};
use crate::wire::{MemberChange, conf_change};

/// Changes the members of a group as a committed entry would.
fn change(group: &mut Group, changes: Vec<(u8, u64)>) {
    let change = conf_change(&MemberChange { changes }).unwrap();
    group.node.apply_conf_change(&change).unwrap();
}

/// The new member says that it has the log up to there.
fn has(alone: &mut Alone, index: u64) {
    let raft = &alone.driver.groups[&A].node.raft;
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgAppendResponse);
    (message.from, message.to) = (NEW.raft_id(), raft.id);
    (message.term, message.index) = (raft.term, index);
    alone.driver.on_message(A, message);
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
    has(&mut alone, 1);
    alone.settle().await;
    alone.propose(A, 1);
    // Its round is being written when the change is left.
    assert!(alone.driver.pump() && alone.driver.writing.is_some());
    assert_eq!(end(&alone), left + 1);
    has(&mut alone, left);
    alone.settle().await;
    let raft = &alone.driver.groups[&A].node.raft;
    assert!(raft.prs().get(own).is_none(), "it is removed");
    assert_eq!(raft.state, StateRole::Follower);
    has(&mut alone, left + 1);
    alone.settle().await;
}

#[tokio::test]
async fn who_has_all_of_a_removed_leaders_log_is_asked_to_stand_at_once() {
    for lacks in [0, 1] {
        let disk = born();
        let mut alone = Alone::start_leading(&disk, &[A]).await.unwrap();
        let own = alone.driver.identity.disk.raft_id();
        change(
            alone.driver.groups.get_mut(&A).unwrap(),
            vec![(ADD_VOTER, NEW.raft_id())],
        );
        let all = end(&alone);
        has(&mut alone, all - lacks);
        let group = alone.driver.groups.get_mut(&A).unwrap();
        change(group, vec![(REMOVE, own)]);
        group.resign_if_removed();
        let raft = &group.node.raft;
        let asked = |message: &Message| message.get_msg_type() == MessageType::MsgTimeoutNow;
        assert_eq!(raft.msgs.iter().any(asked), lacks == 0, "{:?}", raft.msgs);
        assert_eq!(raft.state, StateRole::Follower);
    }
}

#[tokio::test]
async fn a_candidate_that_is_no_member_any_more_wins_no_election() {
    let disk = born();
    let mut alone = Alone::start_leading(&disk, &[A]).await.unwrap();
    let own = alone.driver.identity.disk.raft_id();
    let group = alone.driver.groups.get_mut(&A).unwrap();
    change(group, vec![(ADD_VOTER, NEW.raft_id())]);
    let term = group.node.raft.term + 1;
    group.node.raft.become_follower(term, raft::INVALID_ID);
    group.campaign();
    vote(&mut alone, MessageType::MsgRequestPreVoteResponse);
    let group = alone.driver.groups.get_mut(&A).unwrap();
    assert_eq!(group.node.raft.state, StateRole::Candidate);
    change(group, vec![(REMOVE, own)]);
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

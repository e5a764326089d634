//! A group that stands still beside one that goes on: a leader has sent entries
//! and nobody has ever heard of it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_runtime::Disk;
use holdfast_runtime::memory_disk::MemoryDisk;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{GetEntriesContext, Storage};

use super::Applied;
use super::tests::{A, Alone, B, LOG, NEW, born};
use crate::log::{LogFiles, MAX_FILES};

/// Entries of the leader that is gone.
const ENTRIES: u64 = 5;
const TERM: u64 = 9;

/// Has B follow a leader that sends entries and commits none of them.
async fn follow(alone: &mut Alone) -> u64 {
    let end = alone.driver.groups[&B].node.raft.raft_log.last_index();
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgAppend);
    (message.from, message.to) = (NEW.raft_id(), alone.driver.identity.disk.raft_id());
    (message.term, message.index) = (TERM, end);
    message.log_term = alone.driver.groups[&B].node.store().end().term;
    let entries = (1..=ENTRIES).map(|n| Entry {
        term: TERM,
        index: end + n,
        data: Bytes::from(vec![n as u8; 700]),
        ..Entry::default()
    });
    message.set_entries(entries.collect::<Vec<_>>().into());
    alone.driver.on_message(B, message);
    alone.settle().await;
    end
}

/// What B holds after `end`.
fn held(alone: &Alone, end: u64) -> Vec<(u64, u64, Bytes)> {
    let log = alone.driver.groups[&B].node.store();
    let context = GetEntriesContext::empty(false);
    let last = log.last_index().unwrap();
    let entries = log.entries(end + 1, last + 1, None, context).unwrap();
    let plain = entries
        .into_iter()
        .map(|one| (one.index, one.term, one.data));
    plain.collect()
}

fn files(disk: &MemoryDisk) -> usize {
    disk.list("raft").unwrap().len()
}

/// A commits so many entries; what it has applied is durable now and then.
async fn go_on(alone: &mut Alone, disk: &MemoryDisk, entries: u64) -> usize {
    let mut most = 0;
    for _ in 0..entries / 10 {
        alone.commit(A, 10).await;
        let (a, b) = (alone.applied(A), alone.applied(B));
        let durable = BTreeMap::from([(A, a), (B, b)]);
        alone.driver.on_applied(Applied::Durable(durable));
        alone.settle().await;
        most = most.max(files(disk));
    }
    most
}

#[tokio::test]
async fn a_group_without_a_majority_does_not_keep_the_files_of_the_others() {
    let disk = born();
    let mut alone = Alone::start(&disk).await.unwrap();
    let end = follow(&mut alone).await;
    let known = held(&alone, end);
    assert_eq!(known.len() as u64, ENTRIES);
    let first = alone.driver.files.newest();
    let most = go_on(&mut alone, &disk, 1_500).await;
    assert!(alone.driver.files.newest() > first + 20, "too few files");
    // A spare one may lie beside them, and one more may have been begun.
    assert!((MAX_FILES..=MAX_FILES + 3).contains(&most), "{most} files");
    assert_eq!(held(&alone, end), known);
    assert_eq!(alone.applied(B), end);
    disk.power_cut();
    // The log alone: what A's rows were said to be, they are in memory here.
    let opened = LogFiles::open(Arc::new(disk.clone()), LOG, 0).unwrap();
    let log = &opened.groups[&B];
    assert_eq!(log.hard().term, TERM);
    let tail = log.tail(end).unwrap().entries;
    let found: Vec<_> = tail.iter().map(|one| (one.at.index, one.at.term)).collect();
    let wanted: Vec<_> = known.iter().map(|one| (one.0, one.1)).collect();
    assert_eq!(found, wanted);
}

/// What is in the log may be read while it is written again.
#[tokio::test]
async fn no_file_is_freed_while_what_it_holds_is_written_again() {
    let disk = born();
    let mut alone = Alone::start(&disk).await.unwrap();
    let end = follow(&mut alone).await;
    let known = held(&alone, end);
    disk.power_cut();
    // Nothing of it is in memory now.
    let mut alone = Alone::start_leading(&disk, &[A]).await.unwrap();
    alone.driver.again.looked_at = u64::MAX;
    alone.commit(A, 600).await;
    assert!(files(&disk) > MAX_FILES);
    alone.driver.again.looked_at = 0;
    assert!(alone.driver.write_again());
    // The group goes on at this very moment, and is durable before it is written.
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgHeartbeat);
    (message.from, message.to) = (NEW.raft_id(), alone.driver.identity.disk.raft_id());
    (message.term, message.commit) = (TERM, end + ENTRIES);
    alone.driver.on_message(B, message);
    assert!(alone.driver.pump());
    while alone.apply() {}
    assert_eq!(alone.applied(B), end + ENTRIES);
    let everything = BTreeMap::from([(A, alone.applied(A)), (B, end + ENTRIES)]);
    let before = files(&disk);
    alone.driver.on_applied(Applied::Durable(everything));
    assert_eq!(files(&disk), before);
    alone.settle().await;
    assert!(files(&disk) < before);
    assert_eq!(known.len() as u64, ENTRIES);
}

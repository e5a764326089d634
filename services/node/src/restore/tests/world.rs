//! A backup, and data directories to restore it into.

use std::io::Cursor;
use std::sync::Arc;

use holdfast_metadata::log::{Checkpoint, GroupRound, LogEnd, LogFiles, LogSettings, Round};
use holdfast_metadata::protocol::{BackupHead, encode};
use holdfast_metadata::raft::applier::write_members;
use holdfast_metadata::raft::snapshot::open_rows;
use holdfast_metadata::state::initial_rows;
use holdfast_metadata::store::Store;
use holdfast_metadata::wire::{Members, WireHardState};
use holdfast_model::layout::initial_slots;
use holdfast_model::{
    ClusterId, ClusterState, DiskId, Epoch, GroupId, Layout, LayoutNode, NodeId, NodeState,
    Redundancy,
};
use holdfast_runtime::Disk;
use holdfast_runtime::disk::{read_file, replace_file};
use holdfast_runtime::memory_disk::MemoryDisk;
use sha2::{Digest, Sha256};

use super::super::places::STORE_FILE;
use super::super::{RESTORING_FILE, RestoreError, RestoreParts, Restored, restore};
use crate::identity::Identity;

pub(super) const GROUPS: u16 = 3;
pub(super) const INDEX: u64 = 41;
pub(super) const TERM: u64 = 6;
pub(super) const LOG: LogSettings = LogSettings {
    file_bytes: 1 << 20,
};
pub(super) const KEPT: &str = "before-restore";

pub(super) fn cluster_id(byte: u8) -> ClusterId {
    ClusterId::from_bytes([byte; 16])
}

pub(super) fn disk_id(number: u8) -> DiskId {
    DiskId::from_bytes([number; 16])
}

/// A cluster of four nodes whose groups have three members each: group `n` is
/// on all disks but `n % 4`.
pub(super) fn cluster() -> ClusterState {
    let node = |number: u8| LayoutNode {
        id: NodeId::from_bytes([number; 16]),
        disk: disk_id(number),
        address: format!("node{number}:8000"),
        zone: Some(format!("z{number}")),
        host: None,
        weight: 100,
        state: NodeState::Active,
        incarnation: 1,
        supports: Default::default(),
    };
    let nodes: Vec<_> = (0..4).map(node).collect();
    let members = |group: u16| {
        let others = (0..4).filter(|disk| u16::from(*disk) != group % 4);
        others.map(disk_id).collect()
    };
    ClusterState {
        cluster: cluster_id(1),
        revision: Epoch(9),
        layout: Layout {
            epoch: Epoch(2),
            redundancy: Redundancy::copies(3),
            metadata_replicas: 3,
            slots: initial_slots(GROUPS),
            nodes: nodes.into_iter().map(|node| (node.id, node)).collect(),
            groups: (0..=GROUPS)
                .map(|group| (GroupId(group), members(group)))
                .collect(),
        },
        buckets: Vec::new(),
        access_keys: Vec::new(),
        permit: None,
        next_permit: Epoch(1),
        times: Default::default(),
        active: Default::default(),
    }
}

pub(super) fn members(state: &ClusterState, group: GroupId) -> Members {
    Members {
        voters: state.layout.groups[&group]
            .iter()
            .map(|disk| disk.raft_id())
            .collect(),
        ..Members::default()
    }
}

pub(super) type GroupRows = Vec<(Vec<u8>, Vec<u8>)>;

/// A group's rows as a store that a group has run on holds them.
pub(super) fn rows_of(state: &ClusterState, group: GroupId) -> GroupRows {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(64 << 20, 1));
    let store = Store::open(&disk, "state").unwrap();
    let mut batch = store.begin().unwrap();
    let mut txn = batch.group(group).unwrap();
    for (key, value) in initial_rows(group, state) {
        txn.put(&key, &value).unwrap();
    }
    txn.put(&[7, 7], format!("a row of group {group}").as_bytes())
        .unwrap();
    let end = LogEnd {
        index: INDEX,
        term: TERM,
    };
    write_members(&mut txn, end, &members(state, group)).unwrap();
    drop(txn);
    batch.commit(true).unwrap();
    open_rows(&store, group)
        .unwrap()
        .rows
        .map(Result::unwrap)
        .collect()
}

pub(super) fn section(file: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    file.push(kind);
    file.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    file.extend_from_slice(payload);
}

/// A backup as `docs/formats.md` has it, with rows cut where they please.
pub(super) fn backup(state: &ClusterState) -> Vec<u8> {
    let mut file = b"HFBACKUP\0\0\0\x01".to_vec();
    section(&mut file, 1, &encode(state));
    for group in state.layout.groups.keys() {
        let head = BackupHead {
            group: *group,
            applied: INDEX,
            term: TERM,
        };
        section(&mut file, 2, &encode(&head));
        let mut rows = Vec::new();
        for (key, value) in rows_of(state, *group) {
            rows.extend_from_slice(&(key.len() as u32).to_be_bytes());
            rows.extend_from_slice(&(value.len() as u32).to_be_bytes());
            rows.extend_from_slice(&key);
            rows.extend_from_slice(&value);
        }
        for piece in rows.chunks(13) {
            section(&mut file, 3, piece);
        }
        section(&mut file, 4, &(rows.len() as u64).to_be_bytes());
    }
    let hash = Sha256::digest(&file);
    section(&mut file, 5, &hash);
    file
}

/// A node's directory after some life: a state, and a log in a term beyond the backup's.
pub(super) fn lived_in(number: u8, cluster: Option<ClusterId>, term: u64) -> MemoryDisk {
    let memory = MemoryDisk::new(256 << 20, u64::from(number) + 1);
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let identity = Identity {
        disk_version: 1,
        node: NodeId::from_bytes([number; 16]),
        disk: disk_id(number),
        cluster,
        incarnation: 5,
        active: None,
    };
    identity.save(disk.as_ref()).unwrap();
    disk.create_dir("blobs").unwrap();
    replace_file(disk.as_ref(), "blobs/segment", b"fragments").unwrap();
    Store::open(&disk, STORE_FILE).unwrap();
    let files = LogFiles::open(disk, LOG, 0).unwrap().files;
    let mut part = GroupRound::new(GroupId(1));
    part.hard = Some(WireHardState {
        term,
        vote: 7,
        commit: 0,
    });
    files
        .write(&Round { groups: vec![part] }, &Checkpoint::default())
        .unwrap();
    memory
}

pub(super) fn four() -> Vec<MemoryDisk> {
    (0..4)
        .map(|n| lived_in(n, Some(cluster_id(1)), 100 + u64::from(n)))
        .collect()
}

pub(super) fn run(
    file: &[u8],
    disks: &[MemoryDisk],
    force: bool,
) -> Result<Restored, RestoreError> {
    let named = |(at, disk): (usize, &MemoryDisk)| {
        (format!("d{at}"), Arc::new(disk.clone()) as Arc<dyn Disk>)
    };
    restore(RestoreParts {
        backup: &|| Ok(Box::new(Cursor::new(file.to_vec()))),
        directories: disks.iter().enumerate().map(named).collect(),
        kept_as: KEPT.into(),
        log: LOG,
        force,
    })
}

/// Checks that a directory holds exactly what the backup has for it.
pub(super) fn assert_restored(state: &ClusterState, disk: &MemoryDisk, number: u8) -> u64 {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    assert!(read_file(disk.as_ref(), RESTORING_FILE).unwrap().is_none());
    let store = Store::open(&disk, STORE_FILE).unwrap();
    let logs = LogFiles::open(disk.clone(), LOG, 0).unwrap().groups;
    let mut term = 0;
    for (group, disks) in &state.layout.groups {
        let rows: GroupRows = open_rows(&store, *group)
            .unwrap()
            .rows
            .map(Result::unwrap)
            .collect();
        if !disks.contains(&disk_id(number)) {
            assert!(
                rows.is_empty() && !logs.contains_key(group),
                "{group} is too much"
            );
            continue;
        }
        // What is known since the backup must not be newer than what it says.
        let mut renewed = state.clone();
        renewed.revision.0 += 1 << 32;
        renewed.layout.epoch.0 += 1 << 32;
        let state = if group.0 == 0 { &renewed } else { state };
        assert_eq!(rows, rows_of(state, *group), "group {group}");
        let log = &logs[group];
        let end = LogEnd {
            index: INDEX,
            term: TERM,
        };
        assert_eq!((log.begin(), log.end()), (end, end));
        let hard = log.hard();
        assert_eq!((hard.vote, hard.commit), (0, INDEX));
        assert!(term == 0 || term == hard.term);
        term = hard.term;
    }
    let blobs = read_file(disk.as_ref(), "blobs/segment").unwrap().unwrap();
    assert_eq!(blobs, &b"fragments"[..]);
    let found = Identity::find(disk.as_ref()).unwrap().unwrap();
    assert_eq!((found.disk, found.incarnation), (disk_id(number), 5));
    term
}

use std::io::Cursor;

use holdfast_metadata::protocol::{BackupHead, encode};
use holdfast_metadata::raft::snapshot::open_rows;
use holdfast_metadata::state::initial_rows;
use holdfast_model::layout::initial_slots;
use holdfast_model::{ClusterState, Epoch, Layout, LayoutNode, NodeState, Redundancy};
use holdfast_runtime::disk::{read_file, replace_file};
use holdfast_runtime::memory_disk::MemoryDisk;
use sha2::{Digest, Sha256};

use super::*;

const GROUPS: u16 = 3;
const INDEX: u64 = 41;
const TERM: u64 = 6;
const LOG: LogSettings = LogSettings {
    file_bytes: 1 << 20,
};
const KEPT: &str = "before-restore";

fn cluster_id(byte: u8) -> ClusterId {
    ClusterId::from_bytes([byte; 16])
}

fn disk_id(number: u8) -> DiskId {
    DiskId::from_bytes([number; 16])
}

/// A cluster of four nodes whose groups have three members each: group `n` is
/// on all disks but `n % 4`.
fn cluster() -> ClusterState {
    let node = |number: u8| LayoutNode {
        id: NodeId::from_bytes([number; 16]),
        disk: disk_id(number),
        address: format!("node{number}:8000"),
        zone: Some(format!("z{number}")),
        host: None,
        weight: 100,
        state: NodeState::Active,
        incarnation: 1,
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
    }
}

fn members(state: &ClusterState, group: GroupId) -> Members {
    Members {
        voters: state.layout.groups[&group]
            .iter()
            .map(|disk| disk.raft_id())
            .collect(),
        ..Members::default()
    }
}

type GroupRows = Vec<(Vec<u8>, Vec<u8>)>;

/// A group's rows as a store that a group has run on holds them.
fn rows_of(state: &ClusterState, group: GroupId) -> GroupRows {
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

fn section(file: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    file.push(kind);
    file.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    file.extend_from_slice(payload);
}

/// A backup as `docs/formats.md` has it, with rows cut where they please.
fn backup(state: &ClusterState) -> Vec<u8> {
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
fn lived_in(number: u8, cluster: Option<ClusterId>, term: u64) -> MemoryDisk {
    let memory = MemoryDisk::new(256 << 20, u64::from(number) + 1);
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let identity = Identity {
        disk_version: crate::identity::DISK_VERSION,
        node: NodeId::from_bytes([number; 16]),
        disk: disk_id(number),
        cluster,
        incarnation: 5,
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

fn four() -> Vec<MemoryDisk> {
    (0..4)
        .map(|n| lived_in(n, Some(cluster_id(1)), 100 + u64::from(n)))
        .collect()
}

fn run(file: &[u8], disks: &[MemoryDisk], force: bool) -> Result<Restored, RestoreError> {
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
fn assert_restored(state: &ClusterState, disk: &MemoryDisk, number: u8) -> u64 {
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

#[test]
fn every_member_begins_from_the_same_rows_in_a_term_above_all_earlier_ones() {
    let (state, disks) = (cluster(), four());
    let done = run(&backup(&state), &disks, false).unwrap();
    assert_eq!(done.directories.len(), 4);
    assert!(done.absent.is_empty() && done.unread_logs.is_empty());
    for (number, disk) in (0..).zip(&disks) {
        let term = assert_restored(&state, disk, number);
        assert_eq!(term, 103 + TERM_LEAP);
        let kept = disk.list(&format!("{KEPT}/raft")).unwrap();
        assert_eq!(kept.len(), 1, "the old log is kept");
        assert!(disk.open(&format!("{KEPT}/{STORE_FILE}")).is_ok());
    }
}

#[test]
fn directories_without_readable_metadata_are_restored_too() {
    let (state, disks) = (cluster(), four());
    disks[0].remove(STORE_FILE).unwrap();
    for file in disks[0].list("raft").unwrap() {
        disks[0].remove(&format!("raft/{file}")).unwrap();
    }
    let newest = disks[1].list("raft").unwrap().pop().unwrap();
    disks[1]
        .poke(&format!("raft/{newest}"), 40, &[0xff; 600])
        .unwrap();
    let done = run(&backup(&state), &disks, false).unwrap();
    assert!(done.unread_logs.len() <= 1);
    for (number, disk) in (0..).zip(&disks) {
        assert_restored(&state, disk, number);
    }
}

#[test]
fn a_backup_with_any_byte_changed_or_missing_changes_nothing() {
    let (state, disks) = (cluster(), four());
    let good = backup(&state);
    let untouched = |disks: &[MemoryDisk]| {
        disks.iter().all(|disk| {
            let names = disk.list("").unwrap();
            !names
                .iter()
                .any(|name| name == KEPT || name == RESTORING_FILE)
        })
    };
    for at in (0..good.len()).step_by(37).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        run(&bad, &disks, true).unwrap_err();
        run(&good[..at], &disks, true).unwrap_err();
    }
    let mut longer = good.clone();
    longer.push(0);
    run(&longer, &disks, true).unwrap_err();
    assert!(untouched(&disks));
    let cut = run(&good[..good.len() - 40], &disks, false).unwrap_err();
    assert!(
        matches!(cut, RestoreError::Backup(BackupError::Short)),
        "{cut}"
    );
}

#[test]
fn what_is_not_of_the_cluster_is_refused() {
    let file = backup(&cluster());
    let with = |other: MemoryDisk| {
        let mut disks = four();
        disks.push(other);
        run(&file, &disks, false).unwrap_err()
    };
    let found = with(lived_in(8, Some(cluster_id(2)), 1));
    assert!(
        matches!(found, RestoreError::OtherCluster { .. }),
        "{found}"
    );
    let found = with(lived_in(8, None, 1));
    assert!(matches!(found, RestoreError::NoCluster { .. }), "{found}");
    let found = with(MemoryDisk::new(1 << 20, 1));
    assert!(matches!(found, RestoreError::NoIdentity { .. }), "{found}");
    let found = with(lived_in(2, Some(cluster_id(1)), 1));
    assert!(matches!(found, RestoreError::SameDisk { .. }), "{found}");
    let failed = lived_in(8, Some(cluster_id(1)), 1);
    crate::identity::mark_failed(&failed, "EIO");
    assert!(matches!(with(failed), RestoreError::Identity { .. }));
}

#[test]
fn less_than_a_majority_of_a_group_needs_force() {
    let (state, disks) = (cluster(), four());
    let file = backup(&state);
    let refused = run(&file, &disks[..2], false).unwrap_err();
    assert!(
        matches!(
            refused,
            RestoreError::TooFew {
                given: 1,
                all: 3,
                ..
            }
        ),
        "{refused}"
    );
    // Three of four hold two members of each group at least.
    let done = run(&file, &disks[..3], false).unwrap();
    assert_eq!(
        done.absent,
        [(NodeId::from_bytes([3; 16]), "node3:8000".to_owned())]
    );
    let again = run(&file, &disks[..1], true).unwrap_err();
    assert!(matches!(again, RestoreError::KeptBefore { .. }), "{again}");
    run(&file, &disks[3..], true).unwrap();
    assert_restored(&state, &disks[3], 3);
}

#[test]
fn a_node_that_came_after_the_backup_carries_nothing() {
    let (state, mut disks) = (cluster(), four());
    disks.push(lived_in(9, Some(cluster_id(1)), 500));
    let done = run(&backup(&state), &disks, false).unwrap();
    assert_eq!(done.directories[4].1, 0);
    assert_restored(&state, &disks[4], 9);
}

#[test]
fn a_restore_that_is_cut_off_leaves_the_old_or_is_ended_by_the_next() {
    let (state, file) = (cluster(), backup(&cluster()));
    let mut finished = false;
    let mut marked = 0;
    // Ever later, and then every step of the change of places.
    let mut cut = 0;
    while !finished {
        let disks = four();
        disks[2].cut_after(cut);
        finished = run(&file, &disks, false).is_ok();
        disks[2].power_cut();
        for disk in &disks {
            let is_marked = read_file(disk, RESTORING_FILE).unwrap().is_some();
            marked += u32::from(is_marked);
            let start = Identity::start(disk, &holdfast_runtime::host::system::SystemEntropy);
            assert_eq!(
                start.is_err(),
                is_marked,
                "a marked directory is not started"
            );
            // The start was counted; the checks below want it as it was.
            if let Ok(mut identity) = start {
                identity.incarnation = 5;
                identity.save(disk).unwrap();
            }
        }
        let again = restore(RestoreParts {
            backup: &|| Ok(Box::new(Cursor::new(file.clone()))),
            directories: (0..)
                .zip(&disks)
                .map(|(at, disk): (usize, _)| {
                    (format!("d{at}"), Arc::new(disk.clone()) as Arc<dyn Disk>)
                })
                .collect(),
            kept_as: "kept-again".into(),
            log: LOG,
            force: false,
        });
        again.unwrap();
        for (number, disk) in (0..).zip(&disks) {
            assert_restored(&state, disk, number);
        }
        cut += if marked == 0 && cut > 8 { 5 } else { 1 };
    }
    assert!(marked > 8, "no cut came while files changed places");
}

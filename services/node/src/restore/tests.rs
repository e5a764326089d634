mod world;

use std::io::Cursor;

use holdfast_runtime::disk::read_file;
use holdfast_runtime::memory_disk::MemoryDisk;

use self::world::*;
use super::places::STORE_FILE;
use super::*;
use crate::identity::Identity;

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
    crate::identity::mark_failed(&failed, "EIO").unwrap();
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
            let start = Identity::start(
                disk,
                &holdfast_runtime::host::system::SystemEntropy,
                &holdfast_model::Supported::OWN,
            );
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

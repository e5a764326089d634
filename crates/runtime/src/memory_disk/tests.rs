use super::*;
use crate::disk::{Disk, read_file, replace_file};

#[test]
fn a_power_cut_keeps_what_was_synced_and_some_sectors_of_the_rest() {
    let mut torn = 0;
    for seed in 0..50 {
        let disk = MemoryDisk::new(1 << 20, seed);
        replace_file(&disk, "a", &[1; 4096]).unwrap();
        let file = disk.open("a").unwrap();
        file.write_all_at(&[2; 4096], 0).unwrap();
        disk.power_cut();
        assert!(file.len().is_err(), "a handle outlived the power");
        let now = read_file(&disk, "a").unwrap().unwrap();
        for sector in now.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]));
        }
        torn += u32::from(now.contains(&1) && now.contains(&2));
    }
    assert!(torn > 25, "{torn} torn writes");
}

#[test]
fn a_name_that_was_not_synced_may_vanish() {
    let (mut kept, mut gone) = (0, 0);
    for seed in 0..50 {
        let disk = MemoryDisk::new(1 << 20, seed);
        disk.create("a").unwrap().sync().unwrap();
        disk.power_cut();
        match disk.open("a") {
            Ok(_) => kept += 1,
            Err(_) => gone += 1,
        }
    }
    assert!(kept > 5 && gone > 5, "{kept} kept, {gone} gone");
}

#[test]
fn what_a_failed_sync_lost_stays_lost() {
    let disk = MemoryDisk::new(1 << 20, 1);
    replace_file(&disk, "a", &[1; 512]).unwrap();
    let file = disk.open("a").unwrap();
    file.write_all_at(&[2; 512], 0).unwrap();
    disk.fail_next_sync();
    assert!(file.sync().is_err());
    file.sync().unwrap();
    disk.power_cut();
    assert_eq!(read_file(&disk, "a").unwrap().unwrap(), &[1; 512][..]);
}

#[test]
fn syncs_that_fail_from_some_moment_on_fail_until_the_disk_is_mended() {
    let disk = MemoryDisk::new(1 << 20, 1);
    replace_file(&disk, "a", &[1; 512]).unwrap();
    let file = disk.open("a").unwrap();
    disk.fail_syncs_after(1);
    file.write_all_at(&[2; 512], 0).unwrap();
    file.sync().unwrap();
    file.write_all_at(&[3; 512], 0).unwrap();
    assert!(file.sync().is_err() && disk.sync_dir("").is_err());
    disk.end_process();
    let file = disk.open("a").unwrap();
    assert!(file.sync().is_err(), "of the next process too");
    assert_eq!(disk.peek("a", 0, 1).unwrap(), [3], "it reads as written");
    disk.mend();
    file.sync().unwrap();
    disk.power_cut();
    assert_eq!(disk.peek("a", 0, 1).unwrap(), [2], "what failed is lost");
    disk.refuse_changes();
    assert!(replace_file(&disk, "a", &[4; 512]).is_err());
    assert_eq!(disk.peek("a", 0, 1).unwrap(), [2]);
    disk.mend();
    replace_file(&disk, "a", &[4; 512]).unwrap();
}

#[test]
fn room_is_taken_and_given_back() {
    let disk = MemoryDisk::new(16384, 1);
    let file = disk.create("a").unwrap();
    file.allocate(0, 16384).unwrap();
    assert_eq!(disk.space().unwrap().free, 0);
    let other = disk.create("b").unwrap();
    let full = other.write_all_at(b"x", 0).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.punch_hole(4096, 8192).unwrap();
    assert_eq!(disk.space().unwrap().free, 8192);
    other.write_all_at(b"x", 0).unwrap();
}

#[test]
fn what_is_durable_of_a_directory_is_what_was_synced() {
    let disk = MemoryDisk::new(1 << 20, 1);
    disk.create_dir("d").unwrap();
    replace_file(&disk, "d/a", &[1; 4096]).unwrap();
    replace_file(&disk, "b", &[1; 10]).unwrap();
    let file = disk.open("d/a").unwrap();
    file.write_all_at(&[2; 4096], 2048).unwrap();
    disk.create("d/c").unwrap().sync().unwrap();
    let left = disk.durable("d");
    assert_eq!(left.list("d").unwrap(), ["a"]);
    assert_eq!(read_file(&left, "d/a").unwrap().unwrap(), &[1; 4096][..]);
    assert!(left.open("b").is_err());
    // The disk itself goes on.
    assert_eq!(disk.peek("d/a", 2048, 1).unwrap(), [2]);
    file.sync().unwrap();
    assert_eq!(disk.durable("d").peek("d/a", 2048, 1).unwrap(), [2]);
}

//! Damage that must be told from a torn end.

use super::*;

/// A log of several files; the numbers of those it has.
fn filled() -> (MemoryDisk, Vec<String>) {
    let mut random = Random(7);
    let disk = MemoryDisk::new(64 << 20, 7);
    let mut models: Models = (0..GROUPS).map(|n| (GroupId(n), Model::new())).collect();
    let files = open(&disk).unwrap().files;
    for _ in 0..40 {
        let named = checkpoint(&models);
        let mut round = Round::default();
        for (group, model) in &mut models {
            round.groups.push(model.next(*group, &mut random));
        }
        files.write(&round, &named).unwrap();
    }
    let names = disk.list("raft").unwrap();
    let names: Vec<_> = names
        .into_iter()
        .map(|name| format!("raft/{name}"))
        .collect();
    assert!(names.len() > 3, "{names:?}");
    (disk, names)
}

fn refused(disk: &MemoryDisk) -> bool {
    disk.power_cut();
    matches!(open(disk), Err(LogError::Corrupt { .. }))
}

#[test]
fn a_file_of_zeros_is_corruption_wherever_it_is() {
    let (_, names) = filled();
    for name in names {
        let (disk, _) = filled();
        disk.zero(&name).unwrap();
        assert!(refused(&disk), "{name}");
    }
}

#[test]
fn a_file_in_anothers_place_or_missing_is_corruption() {
    let (_, names) = filled();
    for pair in names.windows(2) {
        let (disk, _) = filled();
        let bytes = disk
            .peek(&pair[0], 0, SETTINGS.file_bytes as usize)
            .unwrap();
        disk.poke(&pair[1], 0, &bytes).unwrap();
        assert!(refused(&disk), "{} in {}", pair[0], pair[1]);
    }
    for name in &names[1..names.len() - 1] {
        let (disk, _) = filled();
        disk.remove(name).unwrap();
        disk.sync_dir("raft").unwrap();
        assert!(refused(&disk), "without {name}");
    }
}

#[test]
fn a_flipped_bit_is_corruption_in_all_but_the_last_record() {
    let (disk, names) = filled();
    let last = names.last().unwrap();
    let whole = open(&disk).unwrap().files.sequence();
    let mut random = Random(11);
    for _ in 0..150 {
        let name = &names[random.below(names.len() as u64) as usize];
        let (disk, _) = filled();
        let bytes = disk.peek(name, 0, SETTINGS.file_bytes as usize).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        let at = random.below(used * 8);
        disk.flip_bit(name, at).unwrap();
        disk.power_cut();
        match open(&disk) {
            Err(LogError::Corrupt { .. }) => {}
            Err(other) => panic!("bit {at} of {name}: {other}"),
            // Padding between records says nothing; in the last record a flip
            // is a torn write for all that is known.
            Ok(found) => {
                let sequence = found.files.sequence();
                let torn = name == last && sequence + 1 == whole;
                assert!(sequence == whole || torn, "bit {at} of {name}");
            }
        }
    }
}

#[test]
fn a_log_that_ends_before_what_was_durable_is_refused() {
    let (disk, _) = filled();
    let files = open(&disk).unwrap().files;
    let end = files.sequence();
    let with = |known| LogFiles::open(Arc::new(disk.clone()), SETTINGS, known);
    assert!(with(end).is_ok());
    let shortened = with(end + 1).err();
    assert!(matches!(shortened, Some(LogError::Shortened { .. })));
}

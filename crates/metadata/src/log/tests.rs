//! Any sequence of rounds, purges, kills and power cuts against a model, and
//! damage that must be told from a torn end.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::GroupId;
use holdfast_runtime::Disk;
use holdfast_runtime::memory_disk::MemoryDisk;
use raft::{GetEntriesContext, Storage};

use super::files::Recovered;
use super::*;

/// Small files, so that they are begun, purged and used again often.
const SETTINGS: LogSettings = LogSettings {
    file_bytes: 32 << 10,
};
const GROUPS: u16 = 4;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What a group's log holds.
#[derive(Clone, PartialEq, Debug)]
struct Model {
    begin: LogEnd,
    entries: Vec<WireEntry>,
    hard: WireHardState,
    /// What the state store has durably applied.
    applied: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            begin: LogEnd::default(),
            entries: Vec::new(),
            hard: WireHardState::default(),
            applied: 0,
        }
    }

    fn end(&self) -> LogEnd {
        self.entries.last().map_or(self.begin, |last| LogEnd {
            index: last.index,
            term: last.term,
        })
    }

    /// Something that a group adds, done to the model.
    fn next(&mut self, group: GroupId, random: &mut Random) -> GroupRound {
        let mut round = GroupRound::new(group);
        if random.below(40) == 0 {
            // A snapshot was installed.
            let end = LogEnd {
                index: self.end().index + random.below(9),
                term: self.hard.term.max(1),
            };
            self.begin = end;
            self.entries.clear();
            self.applied = end.index;
            self.hard.commit = end.index;
            round.reset = Some(end);
        } else if random.below(6) == 0 {
            self.hard.term += 1;
            // What is applied stays; what comes after may be another leader's.
            let kept = self.applied.max(self.begin.index) - self.begin.index;
            let most = self.entries.len() as u64 - kept;
            let keep = kept + random.below(most + 1);
            self.entries.truncate(keep as usize);
        }
        self.hard.term = self.hard.term.max(1);
        self.hard.vote = random.below(3);
        round.hard = Some(self.hard);
        let first = self.end().index + 1;
        for index in first..first + 1 + random.below(3) {
            let byte = random.below(256) as u8;
            let entry = WireEntry {
                term: self.hard.term,
                index,
                data: Bytes::from(vec![byte; random.below(2_000) as usize]),
                members: None,
            };
            self.entries.push(entry.clone());
            round.entries.push(entry);
        }
        round
    }
}

type Models = BTreeMap<GroupId, Model>;

fn checkpoint(models: &Models) -> Checkpoint {
    let groups = models.iter().filter(|(_, model)| model.hard.term > 0);
    Checkpoint {
        groups: groups
            .map(|(group, model)| (*group, (model.hard, model.end())))
            .collect(),
    }
}

/// Whether a log that was opened is what the model says.
fn compare(recovered: &Recovered, models: &Models) -> Result<(), String> {
    for (group, model) in models.iter().filter(|(_, model)| model.hard.term > 0) {
        let log = recovered.groups.get(group);
        let log = log.ok_or_else(|| format!("group {group} is gone"))?;
        let (begin, end) = (log.begin(), log.end());
        if (log.hard(), end) != (model.hard, model.end()) {
            let (found, hard, known) = (log.hard(), model.hard, model.end());
            return Err(format!(
                "group {group}: {found:?} {end:?} for {hard:?} {known:?}"
            ));
        }
        if begin.index > model.applied.max(model.begin.index) {
            let applied = model.applied;
            return Err(format!(
                "group {group} begins at {begin:?}, and {applied} is applied"
            ));
        }
        let context = GetEntriesContext::empty(false);
        let first = begin.index.max(model.begin.index) + 1;
        let found = log.entries(first, end.index + 1, None, context);
        let found = found.map_err(|error| format!("group {group}: {error}"))?;
        let wanted = model.entries.iter().filter(|entry| entry.index >= first);
        let same = |(found, wanted): (&raft::eraftpb::Entry, &WireEntry)| {
            (found.index, found.term, &found.data) == (wanted.index, wanted.term, &wanted.data)
        };
        if found.len() as u64 != end.index + 1 - first || !found.iter().zip(wanted).all(same) {
            return Err(format!("group {group} has other entries"));
        }
    }
    Ok(())
}

fn open(disk: &MemoryDisk) -> Result<Recovered, LogError> {
    LogFiles::open(Arc::new(disk.clone()), SETTINGS, 0)
}

/// Some lives of a log; how many files it came to.
fn live(seed: u64) -> u64 {
    let mut random = Random(seed);
    let disk = MemoryDisk::new(64 << 20, seed);
    let mut models: Models = (0..GROUPS).map(|n| (GroupId(n), Model::new())).collect();
    // What may be there instead: a round that was not acknowledged.
    let mut open_end: Option<Models> = None;
    let mut newest = 0;
    for life in 0..12 {
        let recovered = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        if let Err(why) = compare(&recovered, &models) {
            let other = open_end
                .take()
                .map(|other| (compare(&recovered, &other), other));
            match other {
                Some((Ok(()), other)) => models = other,
                Some((Err(also), _)) => panic!("seed {seed}, life {life}: {why}; {also}"),
                None => panic!("seed {seed}, life {life}: {why}"),
            }
        }
        open_end = None;
        let files = recovered.files;
        if random.below(3) > 0 {
            disk.cut_after(random.below(140));
        }
        for _ in 0..20 + random.below(40) {
            let named = checkpoint(&models);
            let mut after = models.clone();
            let mut round = Round::default();
            for (group, model) in &mut after {
                if random.below(3) == 0 {
                    round.groups.push(model.next(*group, &mut random));
                }
            }
            match files.write(&round, &named) {
                Ok(written) => newest = newest.max(written.place.file),
                Err(_) => {
                    open_end = Some(after);
                    break;
                }
            }
            models = after;
            if random.below(8) == 0 {
                for model in models.values_mut() {
                    let ahead = model.end().index - model.applied;
                    model.applied += random.below(ahead + 1);
                }
                let applied = models.iter().map(|(group, model)| (*group, model.applied));
                if files.purge(&applied.collect()).is_err() {
                    break;
                }
            }
        }
        match random.below(4) {
            // In the middle of a round where one was cut off: it is read, and must
            // not be gone after the next power cut.
            0 => disk.end_process(),
            _ => disk.power_cut(),
        }
    }
    newest
}

#[test]
fn what_was_acknowledged_is_read_back_after_any_crash() {
    let mut files = 0;
    for seed in 0..100 {
        files += live(seed);
    }
    assert!(files > 1_000, "files were begun {files} times");
}

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

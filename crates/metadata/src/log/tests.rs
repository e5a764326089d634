//! Any sequence of rounds, of rounds that are written again, of purges, kills
//! and power cuts against a model.

mod damage;

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

type Logs = BTreeMap<GroupId, GroupLog>;

/// Whether the logs are what the model says.
fn compare(logs: &Logs, models: &Models) -> Result<(), String> {
    for (group, model) in models.iter().filter(|(_, model)| model.hard.term > 0) {
        let log = logs.get(group);
        let log = log.ok_or_else(|| format!("group {group} is gone"))?;
        let (begin, end) = (log.begin(), log.end());
        let (found, hard, known) = (log.hard(), model.hard, model.end());
        // Of what is applied it may be known that it was committed.
        let committed = hard.commit..=hard.commit.max(model.applied);
        let promised = (found.term, found.vote) == (hard.term, hard.vote);
        if !promised || !committed.contains(&found.commit) || end != known {
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

/// Has the logs know a round as Raft's loop does.
fn note(logs: &mut Logs, files: &Arc<LogFiles>, round: &Round, written: Written) {
    for part in &round.groups {
        let begin = || GroupLog::new(part.group, files.clone(), LogEnd::default());
        let log = logs.entry(part.group).or_insert_with(begin);
        if let Some(end) = part.reset {
            log.reset(end);
        }
        log.set_hard(part.hard.unwrap());
        let entries = part.entries.iter().map(crate::wire::raft_entry);
        log.append(&entries.collect::<Result<Vec<_>, _>>().unwrap());
        log.written(part, written.place);
    }
}

/// Frees what is durably applied.
fn purge(logs: &mut Logs, files: &LogFiles, models: &Models) -> Result<(), LogError> {
    let applied = models.iter().map(|(group, model)| (*group, model.applied));
    for (group, begin) in files.purge(&applied.collect())? {
        if let Some(log) = logs.get_mut(&group)
            && begin.index <= models[&group].applied
        {
            log.purge(begin);
        }
    }
    Ok(())
}

/// Writes again what some groups have not applied: nothing is another for it.
/// Says whether something was.
fn write_again(
    logs: &mut Logs,
    files: &LogFiles,
    models: &Models,
    groups: &[GroupId],
) -> Result<bool, LogError> {
    let tails = groups.iter().filter_map(|group| {
        let tail = logs.get(group)?.tail(models[group].applied);
        Some(tail.expect("all is recorded"))
    });
    let tails: Vec<_> = tails.collect();
    let again = files.write_again(&tails, &checkpoint(models))?;
    let Some((round, written)) = &again else {
        return Ok(false);
    };
    for part in &round.groups {
        logs.get_mut(&part.group)
            .unwrap()
            .moved(part, written.place);
    }
    Ok(true)
}

/// Some lives of a log; how many files it came to, and how often something was
/// written again.
fn live(seed: u64) -> (u64, u64) {
    let mut random = Random(seed);
    let disk = MemoryDisk::new(64 << 20, seed);
    let mut models: Models = (0..GROUPS).map(|n| (GroupId(n), Model::new())).collect();
    // What may be there instead: a round that was not acknowledged.
    let mut open_end: Option<Models> = None;
    let (mut newest, mut again) = (0, 0);
    // Applies nothing for many lives.
    let stuck = GroupId(random.below(u64::from(GROUPS)) as u16);
    for life in 0..12 {
        let recovered = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        if let Err(why) = compare(&recovered.groups, &models) {
            let other = open_end
                .take()
                .map(|other| (compare(&recovered.groups, &other), other));
            match other {
                Some((Ok(()), other)) => models = other,
                Some((Err(also), _)) => panic!("seed {seed}, life {life}: {why}; {also}"),
                None => panic!("seed {seed}, life {life}: {why}"),
            }
        }
        open_end = None;
        let (files, mut logs) = (recovered.files, recovered.groups);
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
                Ok(written) => {
                    newest = newest.max(written.place.file);
                    note(&mut logs, &files, &round, written);
                }
                Err(_) => {
                    open_end = Some(after);
                    break;
                }
            }
            models = after;
            if random.below(6) == 0 {
                let chosen = models.keys().filter(|_| random.below(2) == 0);
                let chosen: Vec<_> = chosen.copied().collect();
                match write_again(&mut logs, &files, &models, &chosen) {
                    Ok(done) => again += u64::from(done),
                    Err(_) => break,
                }
            }
            if random.below(8) == 0 {
                for (group, model) in &mut models {
                    if *group != stuck || life % 4 == 3 {
                        let ahead = model.end().index - model.applied;
                        model.applied += random.below(ahead + 1);
                    }
                }
                if purge(&mut logs, &files, &models).is_err() {
                    break;
                }
                let same = compare(&logs, &models);
                same.unwrap_or_else(|why| panic!("seed {seed}, life {life}: {why}"));
            }
        }
        match random.below(4) {
            // In the middle of a round where one was cut off: it is read, and must
            // not be gone after the next power cut.
            0 => disk.end_process(),
            _ => disk.power_cut(),
        }
    }
    (newest, again)
}

#[test]
fn what_was_acknowledged_is_read_back_after_any_crash() {
    let (mut files, mut again) = (0, 0);
    for seed in 0..100 {
        let (newest, rounds) = live(seed);
        files += newest;
        again += rounds;
    }
    assert!(files > 1_000, "files were begun {files} times");
    assert!(again > 1_000, "{again} rounds were written again");
}

/// One group stands still while another fills file after file.
#[test]
fn a_group_that_stands_still_keeps_a_bounded_number_of_files() {
    let disk = MemoryDisk::new(64 << 20, 3);
    let mut models: Models = (0..2).map(|n| (GroupId(n), Model::new())).collect();
    let mut random = Random(3);
    let recovered = open(&disk).unwrap();
    let (mut files, mut logs) = (recovered.files, recovered.groups);
    let (still, busy) = (GroupId(0), GroupId(1));
    let mut most = 0;
    for turn in 0..600 {
        let named = checkpoint(&models);
        let mut round = Round::default();
        for (group, model) in &mut models {
            if *group == busy || turn == 0 {
                round.groups.push(model.next(*group, &mut random));
            }
        }
        let written = files.write(&round, &named).unwrap();
        note(&mut logs, &files, &round, written);
        let done = models.get_mut(&busy).unwrap();
        done.applied = done.end().index;
        let applied: BTreeMap<_, _> = models.iter().map(|(id, one)| (*id, one.applied)).collect();
        let pinned: Vec<_> = files.pinned_by(&applied).into_iter().collect();
        if !pinned.is_empty() {
            assert_eq!(pinned, [still]);
            assert!(write_again(&mut logs, &files, &models, &pinned).unwrap());
        }
        purge(&mut logs, &files, &models).unwrap();
        compare(&logs, &models).unwrap();
        most = most.max(disk.list("raft").unwrap().len());
        if turn % 50 == 49 {
            disk.power_cut();
            let recovered = open(&disk).unwrap();
            compare(&recovered.groups, &models).unwrap();
            (files, logs) = (recovered.files, recovered.groups);
        }
    }
    // Spare files and one that is being begun lie beside them.
    assert!((MAX_FILES..=MAX_FILES + 3).contains(&most), "{most} files");
    assert!(models[&still].end().index > models[&still].applied);
}

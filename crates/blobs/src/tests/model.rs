//! Any sequence of calls, restarts, crashes and rot, against a map.
//! `HOLDFAST_SEEDS` runs more of them, `HOLDFAST_FIRST_SEED` from another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::{FragmentHeader, FragmentId, Generation, GroupId};
use holdfast_runtime::Disk;
use holdfast_runtime::memory_disk::MemoryDisk;

use super::world::*;
use crate::checkpoint::files::base_name;
use crate::store::FragmentStore;
use crate::{Closing, Compactor, Engine, FragmentState, WriteError};

mod reference;

use reference::{Kept, Reference};

/// Names in use: few, so that they meet again.
const NAMES: u64 = 40;
/// Calls in one life of the engine, at most.
const STEPS: u64 = 60;
const LIVES: u64 = 8;

/// Every point of the engine at which the power can be cut by name.
const POINTS: &[&str] = &[
    "write: header written",
    "write: closing record written",
    "write: synced",
    "delete: noted",
    "delete: note synced",
    "delete: header overwritten",
    "delete: synced",
    "delete: no longer listed",
    "line: written",
    "line: synced",
    "heal: frozen",
    "checkpoint: written",
    "checkpoint: synced",
    "checkpoint: journal begun",
    "checkpoint: renamed",
    "checkpoint: durable",
    "checkpoint: tidied",
    "compact: copied",
    "compact: synced",
    "compact: verified",
    "compact: switched",
    "compact: freed",
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// How a life ends.
enum End {
    Stop,
    Kill,
    Cut,
}

struct Run {
    disk: MemoryDisk,
    random: Seeded,
    model: Reference,
    /// Names of which a call failed when the power went, and what was before.
    open: BTreeMap<FragmentId, (Option<Kept>, Option<Kept>)>,
    cut_at: BTreeSet<&'static str>,
    armed: Option<&'static str>,
    turn: u64,
    context: String,
}

fn name_of(number: u64) -> FragmentId {
    id(number.wrapping_mul(0x2545_f491_4f6c_dd1d))
}

fn content(number: u64) -> Bytes {
    let len = match number % 4 {
        0 => number,
        1 => 4096 + number,
        2 => 66_000 + number,
        _ => 1 + (number * 7919) % 280_000,
    };
    data(number, len as usize)
}

impl Run {
    fn header(&self, number: u64) -> FragmentHeader {
        let mut header = header(name_of(number));
        header.generation = Generation(5 + self.random.below(6) / 5);
        header
    }

    async fn write(&mut self, engine: &Engine, number: u64) {
        let header = self.header(number);
        let mut data = content(number);
        if self.random.below(12) == 0 {
            data = super::world::data(number + 1000, 3000);
        }
        let mut pieces = Vec::new();
        while !data.is_empty() && self.random.below(3) == 0 {
            let len = 1 + self.random.below(data.len() as u64) as usize;
            pieces.push(data.split_to(len));
        }
        pieces.push(data);
        let id = header.id;
        let before = self.model.map().get(&id).cloned();
        let ours = if pieces.len() == 1 && self.random.below(2) == 0 {
            let piece = pieces[0].clone();
            engine
                .put_small(header.clone(), piece, Closing::default())
                .await
        } else {
            engine
                .write(header.clone(), pieces.clone(), Closing::default())
                .await
        };
        if self.disk.is_cut() && ours.is_err() {
            let _ = self.model.write(header, pieces, Closing::default()).await;
            self.unknown(id, before);
            return;
        }
        if let Err(WriteError::Full) = ours {
            return;
        }
        let theirs = self.model.write(header, pieces, Closing::default()).await;
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{}", self.context),
            (Err(WriteError::Exists(a)), Err(WriteError::Exists(b))) if a == b => {}
            (ours, theirs) => panic!("{}: {ours:?}, not {theirs:?}", self.context),
        }
    }

    /// A call on `id` failed as the power went: either outcome is right.
    fn unknown(&mut self, id: FragmentId, before: Option<Kept>) {
        let after = self.model.map().get(&id).cloned();
        self.open.insert(id, (before, after));
    }

    async fn remove(&mut self, engine: &Engine, number: u64) {
        let id = name_of(number);
        let below = (self.random.below(3) == 0).then_some(Generation(6));
        let before = self.model.map().get(&id).cloned();
        let ours = engine.remove(id, below).await;
        let theirs = self.model.remove(id, below).await.unwrap();
        match ours {
            Ok(there) => assert_eq!(there, theirs, "{}", self.context),
            Err(error) => {
                assert!(self.disk.is_cut(), "{}: {error}", self.context);
                self.unknown(id, before);
            }
        }
    }

    async fn read(&mut self, engine: &Engine, number: u64) {
        let id = name_of(number);
        let start = self.random.below(3) * self.random.below(100_000);
        let range = start..start + self.random.below(200_000);
        let ours = engine.read_range(id, range.clone()).await;
        let theirs = self.model.read_range(id, range).await;
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => assert!(ours == theirs, "{}", self.context),
            (Err(ours), Err(theirs)) => {
                assert_eq!(
                    ours.to_string().split(':').next(),
                    theirs.to_string().split(':').next()
                );
            }
            (ours, theirs) => panic!("{}: {ours:?}, not {theirs:?}", self.context),
        }
    }

    /// Flips a bit of a fragment's data on the medium.
    fn rot(&mut self, engine: &Engine, number: u64) {
        let id = name_of(number);
        let at = engine.shared.entry(&id).unwrap();
        let mut map = self.model.map();
        if let (Some(at), Some(kept)) = (at, map.get_mut(&id))
            && kept.rotten.is_none()
            && !kept.data.is_empty()
        {
            let byte = self.random.below(kept.data.len() as u64);
            kept.rotten = Some(byte / crate::BLOCK_BYTES as u64);
            let name = crate::segment::segment_name(at.segment);
            let bit = (u64::from(at.offset) + 4096 + byte) * 8;
            self.disk.flip_bit(&name, bit).unwrap();
        }
    }

    /// Flips a bit of the index, and asks until it is healed.
    async fn rot_index(&mut self, engine: &Engine) {
        let base = engine.shared.index().base.clone();
        let Some(name) = base.map(|base| base_name(base.number)) else {
            return;
        };
        // One that was given up has no name any more.
        let Ok(len) = self.disk.open(&name).and_then(|file| file.len()) else {
            return;
        };
        let bit = self.random.below((len - 4096).max(1) * 8);
        self.disk.flip_bit(&name, bit).unwrap();
        for _ in 0..400 {
            if engine.list(None, usize::MAX).await.is_ok() || self.disk.is_cut() {
                return;
            }
            tokio::task::yield_now().await;
        }
        // Without room for a new base: as it was.
        self.disk.flip_bit(&name, bit).unwrap();
    }

    /// Compaction while something else goes on.
    async fn compact(&mut self, engine: &Engine, compactor: &mut Compactor, number: u64) {
        // A new one has not given up on any segment.
        *compactor = Compactor::new(engine.clone());
        let deleted = self.random.below(2) == 0;
        let steps = async {
            for _ in 0..4 {
                let _ = compactor.step().await;
            }
        };
        let other = async {
            if deleted {
                self.remove(engine, number).await;
            } else {
                self.read(engine, number).await;
            }
        };
        futures_util::future::join(steps, other).await;
    }

    /// Deletes go on when not even the reserve has room.
    async fn full(&mut self, engine: &Engine, number: u64) {
        let free = self.disk.space().unwrap().free;
        self.disk.set_free(0);
        self.remove(engine, number).await;
        let _ = engine.checkpoint().await;
        let freed = self.disk.space().unwrap().free;
        self.disk.set_free(free + freed);
    }

    async fn step(&mut self, engine: &Engine, compactor: &mut Compactor) {
        let number = self.random.below(NAMES);
        match self.random.below(25) {
            0..9 => self.write(engine, number).await,
            9 => drop(engine.begin(self.header(number), 50_000).await),
            10..16 => self.remove(engine, number).await,
            16 => self.read(engine, number).await,
            17 => self.rot(engine, number),
            18 => self.full(engine, number).await,
            19 => drop(engine.checkpoint().await),
            20 => drop(engine.save().await),
            21 => self.rot_index(engine).await,
            _ => self.compact(engine, compactor, number).await,
        }
    }

    /// The engine lists what the model does.
    async fn compare(&mut self, engine: &Engine) {
        let context = &self.context;
        let mut ours = Vec::new();
        loop {
            let after = ours.last().map(|entry: &crate::FragmentEntry| entry.id);
            let page = engine.page(after, 7).await.unwrap();
            if page.is_empty() {
                break;
            }
            ours.extend(page);
        }
        for entry in &ours {
            // Compaction and verifying find rot by themselves, and a start
            // without an index forgets that it was found.
            let mut map = self.model.map();
            if let Some(kept) = map.get_mut(&entry.id).filter(|kept| kept.rotten.is_some()) {
                kept.seen = entry.state == FragmentState::Corrupt;
            }
        }
        let theirs = self.model.page(None, usize::MAX).await.unwrap();
        assert_eq!(ours, theirs, "{context}");
        for group in (0..3).map(GroupId) {
            let (ours, theirs) = (engine.group_digests(group), self.model.group_digests(group));
            assert_eq!(ours, theirs, "{context}");
        }
        let stats = engine.stats().await.unwrap();
        assert_eq!(stats.fragments, ours.len() as u64, "{context}");
        assert_eq!(stats.bytes, ours.iter().map(|e| e.bytes).sum::<u64>());
    }

    /// After a crash: what was open has one of its outcomes, and that stays.
    async fn settle(&mut self, engine: &Engine) {
        for (id, outcomes) in std::mem::take(&mut self.open) {
            let found = engine.find(&id).await.unwrap();
            let fits = |kept: &Option<Kept>| match (kept, found) {
                (None, None) => true,
                (Some(kept), Some(found)) => {
                    let bytes = kept.data.len() as u64;
                    (kept.generation, bytes) == (found.generation, found.bytes)
                }
                _ => false,
            };
            let (before, after) = outcomes;
            let mut kept = [after, before].into_iter().find(fits).unwrap_or_else(|| {
                panic!("{}: {id} is {found:?}, neither old nor new", self.context)
            });
            // What was not acknowledged may have lost its data.
            if let Some(kept) = kept.as_mut()
                && engine.verify(id).await.is_err()
            {
                kept.rotten = Some(0);
                kept.seen = true;
                engine.delete(id).await.unwrap();
                self.model.map().remove(&id);
                continue;
            }
            match kept {
                Some(kept) => self.model.map().insert(id, kept),
                None => self.model.map().remove(&id),
            };
        }
    }

    /// Everything that is not known to rot can be read.
    async fn read_all(&mut self, engine: &Engine) {
        let all = self.model.map().clone();
        for (id, kept) in all.iter().filter(|(_, kept)| kept.rotten.is_none()) {
            let bytes = engine.read_range(*id, 0..u64::MAX).await;
            assert!(bytes.unwrap() == kept.data, "{}: {id}", self.context);
        }
    }

    async fn life(&mut self, seed: u64) -> End {
        let (engine, heard) = try_open(Arc::new(self.disk.clone()), seed, SETTINGS)
            .await
            .unwrap();
        let report = engine.report();
        let bad = report.damaged + report.lost;
        assert_eq!(bad, 0, "{}: {report:?}", self.context);
        self.settle(&engine).await;
        self.compare(&engine).await;
        self.read_all(&engine).await;
        let mut compactor = Compactor::new(engine.clone());
        let steps = self.random.below(STEPS);
        let mut end = match self.random.below(3) {
            0 if self.random.below(2) == 0 => End::Stop,
            0 => End::Kill,
            _ => End::Cut,
        };
        for step in 0..steps {
            let context = self.context.clone();
            self.context = format!("{context}, step {step}");
            if step == steps / 2 && matches!(end, End::Cut) {
                self.arm();
                self.provoke(&engine, &mut compactor).await;
            } else {
                self.step(&engine, &mut compactor).await;
            }
            if self.disk.is_cut() {
                end = End::Cut;
                self.cut_at.extend(self.armed.take());
                self.context = context;
                break;
            }
            self.compare(&engine).await;
            self.context = context;
        }
        if let End::Stop = end {
            let _ = engine.save().await;
        }
        if !matches!(end, End::Cut) {
            assert_eq!(*heard.lock().unwrap(), Vec::<String>::new());
        }
        end
    }

    /// The power will go, at a named point or after some changes.
    fn arm(&mut self) {
        // In turn, so that few seeds pass all of them.
        let point = POINTS[self.turn as usize % POINTS.len()];
        if self.random.below(8) == 0 {
            self.disk.cut_after(self.random.below(120));
        } else {
            self.disk.cut_at(point, self.random.below(2));
            self.armed = Some(point);
        }
    }

    /// Does what passes the point where the power is to go, where that is rare.
    async fn provoke(&mut self, engine: &Engine, compactor: &mut Compactor) {
        let number = self.random.below(NAMES);
        let what = self.armed.and_then(|point| point.split(':').next());
        for _ in 0..3 {
            match what {
                Some("line") => drop(engine.save().await),
                Some("checkpoint") => drop(engine.checkpoint().await),
                Some("heal") => {
                    let _ = engine.checkpoint().await;
                    self.rot_index(engine).await;
                }
                Some("compact") => {
                    // Or no segment may be sparse.
                    for _ in 0..NAMES / 4 {
                        let number = self.random.below(NAMES);
                        self.remove(engine, number).await;
                    }
                    self.compact(engine, compactor, number).await;
                }
                _ => self.step(engine, compactor).await,
            }
            if self.disk.is_cut() {
                return;
            }
        }
    }
}

fn run(seed: u64) -> BTreeSet<&'static str> {
    let mut run = Run {
        disk: MemoryDisk::new(9 << 20, seed),
        random: Seeded::new(seed),
        model: Reference::default(),
        open: BTreeMap::new(),
        cut_at: BTreeSet::new(),
        armed: None,
        turn: 0,
        context: String::new(),
    };
    for life in 0..LIVES {
        run.context = format!("seed {seed}, life {life}");
        run.turn = seed * LIVES + life;
        // A runtime a life: tasks of the last one end with it.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let end = runtime.block_on(run.life(seed * 100 + life));
        drop(runtime);
        match end {
            End::Cut => run.disk.power_cut(),
            End::Stop | End::Kill => run.disk.end_process(),
        }
    }
    run.cut_at
}

#[test]
fn the_engine_does_what_the_model_does_through_crashes_at_every_point() {
    let first = setting("HOLDFAST_FIRST_SEED", 0);
    let count = setting("HOLDFAST_SEEDS", 40);
    let mut cut_at = BTreeSet::new();
    for seed in first..first + count {
        cut_at.extend(run(seed));
    }
    if first == 0 && count >= 40 {
        let missed: Vec<_> = POINTS.iter().filter(|p| !cut_at.contains(*p)).collect();
        assert!(missed.is_empty(), "the power was never cut at {missed:?}");
    }
}

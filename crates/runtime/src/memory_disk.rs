//! A disk in memory, for tests and the simulation, that is as unkind as a real
//! one may be: a power cut keeps or loses each unsynced sector by a seeded
//! choice, and of the unsynced changes of names a prefix; a failed sync loses
//! what it should have written although later ones succeed.
//!
//! Handles opened before a power cut are dead after it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, File, Space, parent};

/// What a disk writes at once or not at all.
const SECTOR_BYTES: u64 = 512;
/// What a file system hands out.
const PAGE_BYTES: u64 = 4096;

type Sector = [u8; SECTOR_BYTES as usize];
type Page = [u8; PAGE_BYTES as usize];
/// What a sector held: nothing for zeros, as most of what is written to is new.
type Old = Option<Box<Sector>>;

/// A disk in memory. Copies are the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    files: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<NameChange>,
    dirs: BTreeSet<String>,
    next_file: u64,
    free: u64,
    total: u64,
    random: u64,
    power: u64,
    writes_until_cut: Option<u64>,
    fail_next_sync: bool,
    syncs: u64,
    /// Where the power is to be cut, and how often to pass there before.
    cut_at: Option<(String, u64)>,
    /// How often each named point was reached.
    reached: BTreeMap<&'static str, u64>,
}

/// A change of a directory that a power cut may undo.
#[derive(Clone)]
enum NameChange {
    Add(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Default)]
struct Inode {
    len: u64,
    durable_len: u64,
    pages: BTreeMap<u64, Box<Page>>,
    allocated: BTreeSet<u64>,
    /// What sectors held at the last sync, of those written since.
    before: BTreeMap<u64, Old>,
    /// The same for those that a failed sync gave up.
    lost: BTreeMap<u64, Old>,
}

impl Inode {
    fn sector(&self, sector: u64) -> Old {
        let offset = sector * SECTOR_BYTES;
        let page = self.pages.get(&(offset / PAGE_BYTES))?;
        let within = (offset % PAGE_BYTES) as usize;
        let bytes = page.get(within..within + SECTOR_BYTES as usize)?;
        Some(Box::new(bytes.try_into().ok()?))
    }

    fn put_back(&mut self, sector: u64, old: &Old) {
        let offset = sector * SECTOR_BYTES;
        match old {
            Some(bytes) => self.put(bytes.as_slice(), offset),
            None => self.clear(offset, SECTOR_BYTES),
        }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = (at % PAGE_BYTES) as usize;
            let count = rest.len().min(PAGE_BYTES as usize - within);
            let (now, later) = rest.split_at_mut(count);
            match self.pages.get(&(at / PAGE_BYTES)) {
                Some(page) => now.copy_from_slice(page.get(within..within + count).unwrap_or(&[])),
                None => now.fill(0),
            }
            rest = later;
            at += count as u64;
        }
    }

    fn remember(&mut self, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        for sector in offset / SECTOR_BYTES..(offset + len).div_ceil(SECTOR_BYTES) {
            if self.before.contains_key(&sector) {
                continue;
            }
            let old = self.lost.remove(&sector);
            let old = old.unwrap_or_else(|| self.sector(sector));
            self.before.insert(sector, old);
        }
    }

    fn put(&mut self, data: &[u8], offset: u64) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let within = (at % PAGE_BYTES) as usize;
            let count = rest.len().min(PAGE_BYTES as usize - within);
            let (now, later) = rest.split_at(count);
            let page = self
                .pages
                .entry(at / PAGE_BYTES)
                .or_insert_with(|| Box::new([0; PAGE_BYTES as usize]));
            if let Some(place) = page.get_mut(within..within + count) {
                place.copy_from_slice(now);
            }
            rest = later;
            at += count as u64;
        }
    }

    fn clear(&mut self, offset: u64, len: u64) {
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let page = at / PAGE_BYTES;
            let next = ((page + 1) * PAGE_BYTES).min(end);
            if at.is_multiple_of(PAGE_BYTES) && next - at == PAGE_BYTES {
                self.pages.remove(&page);
            } else if self.pages.contains_key(&page) {
                self.put(&vec![0; (next - at) as usize], at);
            }
            at = next;
        }
    }
}

impl State {
    fn random(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Counts a change down to the cut that was asked for.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.writes_until_cut {
            Some(0) => Err(io::Error::other("the power is cut")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn file(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.files.get_mut(&number).ok_or_else(not_found)
    }

    /// Takes pages from the free ones.
    fn allocate(&mut self, number: u64, offset: u64, len: u64) -> io::Result<()> {
        let free = self.free;
        let inode = self.file(number)?;
        let pages = offset / PAGE_BYTES..(offset + len).div_ceil(PAGE_BYTES);
        let missing: Vec<u64> = pages.filter(|p| !inode.allocated.contains(p)).collect();
        let wanted = missing.len() as u64 * PAGE_BYTES;
        if wanted > free {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        inode.allocated.extend(missing);
        self.free -= wanted;
        Ok(())
    }

    fn release(&mut self, number: u64, offset: u64, len: u64) -> io::Result<()> {
        let inode = self.file(number)?;
        let pages = offset.div_ceil(PAGE_BYTES)..(offset + len) / PAGE_BYTES;
        let mut freed = 0;
        for page in pages {
            freed += u64::from(inode.allocated.remove(&page)) * PAGE_BYTES;
        }
        self.free += freed;
        Ok(())
    }

    /// Forgets files without a name; handles to them die, which a test notices
    /// at once where a real system would hide it.
    fn drop_unnamed(&mut self) {
        let named: BTreeSet<u64> = self
            .names
            .values()
            .chain(self.durable_names.values())
            .chain(self.pending_names.iter().filter_map(|change| match change {
                NameChange::Add(_, number) => Some(number),
                _ => None,
            }))
            .copied()
            .collect();
        let mut freed = 0;
        self.files.retain(|number, inode| {
            let keep = named.contains(number);
            if !keep {
                freed += inode.allocated.len() as u64 * PAGE_BYTES;
            }
            keep
        });
        self.free += freed;
    }
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn apply(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Add(name, number) => {
            names.insert(name.clone(), *number);
        }
        NameChange::Rename(from, to) => {
            if let Some(number) = names.remove(from) {
                names.insert(to.clone(), number);
            }
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

impl MemoryDisk {
    /// An empty disk of `total` bytes. `seed` decides what a power cut keeps.
    pub fn new(total: u64, seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                files: BTreeMap::new(),
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                pending_names: Vec::new(),
                dirs: BTreeSet::from([String::new()]),
                next_file: 0,
                free: total,
                total,
                random: seed,
                power: 0,
                writes_until_cut: None,
                fail_next_sync: false,
                syncs: 0,
                cut_at: None,
                reached: BTreeMap::new(),
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere still wants to look at its disk.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk with the same on it; handles are of the old one.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let state = self.state().clone();
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Cuts the power and gives it back: what was not synced survives sector by
    /// sector as the seed has it, and handles opened before are dead.
    pub fn power_cut(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.power += 1;
        state.writes_until_cut = None;
        state.cut_at = None;
        state.fail_next_sync = false;
        let mut files = std::mem::take(&mut state.files);
        for inode in files.values_mut() {
            for (sector, old) in std::mem::take(&mut inode.before) {
                if state.random().is_multiple_of(2) {
                    inode.put_back(sector, &old);
                }
            }
            for (sector, old) in std::mem::take(&mut inode.lost) {
                inode.put_back(sector, &old);
            }
            if inode.len != inode.durable_len && state.random().is_multiple_of(2) {
                inode.len = inode.durable_len;
            }
            inode.durable_len = inode.len;
        }
        state.files = files;
        let pending = std::mem::take(&mut state.pending_names);
        let kept = state.random() % (pending.len() as u64 + 1);
        for change in pending.iter().take(kept as usize) {
            apply(&mut state.durable_names, change);
        }
        state.names = state.durable_names.clone();
        state.drop_unnamed();
    }

    /// Ends the process that has files open: handles opened before are dead,
    /// and what was written stays, synced or not.
    pub fn end_process(&self) {
        let mut state = self.state();
        state.power += 1;
        state.writes_until_cut = None;
    }

    /// Lets `changes` more writes, syncs and changes of names through; then all
    /// fail, until [`MemoryDisk::power_cut`].
    pub fn cut_after(&self, changes: u64) {
        self.state().writes_until_cut = Some(changes);
    }

    /// Cuts the power at a named point, after passing it `passes` times: from
    /// there on all changes fail, until [`MemoryDisk::power_cut`].
    pub fn cut_at(&self, point: &str, passes: u64) {
        self.state().cut_at = Some((point.to_owned(), passes));
    }

    /// Whether changes fail since the power was cut.
    pub fn is_cut(&self) -> bool {
        self.state().writes_until_cut == Some(0)
    }

    /// How often each named point was reached.
    pub fn points(&self) -> BTreeMap<&'static str, u64> {
        self.state().reached.clone()
    }

    /// Fails the next sync of a file; what it should have made durable is lost
    /// at the next power cut, whatever later syncs say.
    pub fn fail_next_sync(&self) {
        self.state().fail_next_sync = true;
    }

    /// How many syncs of files have been asked for.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Sets the bytes that are free.
    pub fn set_free(&self, bytes: u64) {
        self.state().free = bytes;
    }

    /// Flips one bit of a file on the medium.
    ///
    /// # Errors
    /// `NotFound` without such a file.
    pub fn flip_bit(&self, name: &str, bit: u64) -> io::Result<()> {
        let mut byte = self.peek(name, bit / 8, 1)?;
        if let Some(byte) = byte.first_mut() {
            *byte ^= 1 << (bit % 8);
        }
        self.poke(name, bit / 8, &byte)
    }

    /// Bytes of a file, zeros past its end.
    ///
    /// # Errors
    /// `NotFound` without such a file.
    pub fn peek(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let state = self.state();
        let number = state.names.get(name).ok_or_else(not_found)?;
        let inode = state.files.get(number).ok_or_else(not_found)?;
        let mut bytes = vec![0; len];
        inode.read(&mut bytes, offset);
        Ok(bytes)
    }

    /// Changes a file on the medium, behind everybody's back and durably.
    ///
    /// # Errors
    /// `NotFound` without such a file.
    pub fn poke(&self, name: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let number = *state.names.get(name).ok_or_else(not_found)?;
        state.file(number)?.put(data, offset);
        Ok(())
    }

    /// Makes a whole file read as zeros, behind everybody's back and durably.
    ///
    /// # Errors
    /// `NotFound` without such a file.
    pub fn zero(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let number = *state.names.get(name).ok_or_else(not_found)?;
        let inode = state.file(number)?;
        inode.pages.clear();
        inode.before.clear();
        Ok(())
    }

    /// Another disk with what this one holds, as a snapshot of a volume has it:
    /// what was not synced is there by chance.
    pub fn copy(&self, seed: u64) -> Self {
        let mut state = self.state().clone();
        state.random ^= seed;
        let copy = Self {
            state: Arc::new(Mutex::new(state)),
        };
        copy.power_cut();
        copy
    }

    fn handle(&self, number: u64, power: u64) -> Arc<dyn File> {
        Arc::new(MemoryFile {
            disk: self.clone(),
            number,
            power,
        })
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let (number, power) = {
            let state = self.state();
            (*state.names.get(name).ok_or_else(not_found)?, state.power)
        };
        Ok(self.handle(number, power))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let (number, power) = {
            let mut state = self.state();
            state.change()?;
            if !state.dirs.contains(parent(name)) {
                return Err(not_found());
            }
            if state.names.contains_key(name) {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            let number = state.next_file;
            state.next_file += 1;
            state.files.insert(number, Inode::default());
            state.names.insert(name.to_owned(), number);
            state
                .pending_names
                .push(NameChange::Add(name.to_owned(), number));
            (number, state.power)
        };
        Ok(self.handle(number, power))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let mut dir = name;
        while !dir.is_empty() {
            state.dirs.insert(dir.to_owned());
            dir = parent(dir);
        }
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.dirs.contains(dir) {
            return Err(not_found());
        }
        let base = |name: &String| name.rsplit('/').next().unwrap_or_default().to_owned();
        let names = state.names.keys().chain(&state.dirs);
        let inside = names.filter(|name| !name.is_empty() && parent(name) == dir);
        let mut names: Vec<String> = inside.map(base).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if !state.names.contains_key(from) {
            return Err(not_found());
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        apply(&mut state.names, &change);
        state.pending_names.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return Err(not_found());
        }
        state.change()?;
        let change = NameChange::Remove(name.to_owned());
        apply(&mut state.names, &change);
        state.pending_names.push(change);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let (here, elsewhere): (Vec<_>, Vec<_>) = std::mem::take(&mut state.pending_names)
            .into_iter()
            .partition(|change| match change {
                NameChange::Add(name, _) | NameChange::Remove(name) => parent(name) == dir,
                NameChange::Rename(from, to) => parent(from) == dir || parent(to) == dir,
            });
        state.pending_names = elsewhere;
        for change in &here {
            apply(&mut state.durable_names, change);
        }
        state.drop_unnamed();
        Ok(())
    }

    fn reached(&self, point: &'static str) {
        let mut state = self.state();
        *state.reached.entry(point).or_default() += 1;
        match &mut state.cut_at {
            Some((wanted, 0)) if wanted == point => {
                state.cut_at = None;
                state.writes_until_cut = Some(0);
            }
            Some((wanted, passes)) if wanted == point => *passes -= 1,
            _ => {}
        }
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state();
        Ok(Space {
            free: state.free,
            total: state.total,
        })
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    number: u64,
    power: u64,
}

impl MemoryFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.power == self.power {
            Ok(state)
        } else {
            Err(io::Error::other("opened before the power was cut"))
        }
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.file(self.number)?.len)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let inode = state.file(self.number)?;
        if offset + buffer.len() as u64 > inode.len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        inode.read(buffer, offset);
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let len = data.len() as u64;
        state.allocate(self.number, offset, len)?;
        let inode = state.file(self.number)?;
        inode.remember(offset, len);
        inode.put(data, offset);
        inode.len = inode.len.max(offset + len);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let old = state.file(self.number)?.len;
        if len < old {
            let inode = state.file(self.number)?;
            inode.remember(len, old - len);
            inode.clear(len, old - len);
            state.release(self.number, len, old - len)?;
        }
        state.file(self.number)?.len = len;
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        state.allocate(self.number, offset, len)?;
        let inode = state.file(self.number)?;
        inode.len = inode.len.max(offset + len);
        Ok(())
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let inode = state.file(self.number)?;
        let len = len.min(inode.len.saturating_sub(offset));
        // Sectors that hold zeros already change nothing at a power cut.
        let first = offset / PAGE_BYTES;
        let last = (offset + len).div_ceil(PAGE_BYTES);
        let pages: Vec<u64> = inode.pages.range(first..last).map(|(p, _)| *p).collect();
        for page in pages {
            let start = (page * PAGE_BYTES).max(offset);
            let end = ((page + 1) * PAGE_BYTES).min(offset + len);
            inode.remember(start, end - start);
            inode.clear(start, end - start);
        }
        state.release(self.number, offset, len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        state.syncs += 1;
        let fail = std::mem::take(&mut state.fail_next_sync);
        // Without a name, what the file holds is gone at a power cut anyhow.
        let Some(inode) = state.files.get_mut(&self.number) else {
            return Ok(());
        };
        if fail {
            for (sector, old) in std::mem::take(&mut inode.before) {
                inode.lost.entry(sector).or_insert(old);
            }
            return Err(io::Error::other("the disk did not take what was written"));
        }
        inode.before.clear();
        inode.durable_len = inode.len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{read_file, replace_file};

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
}

//! What a disk knows: files, names, what of both is durable, and which fault
//! comes next.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::inode::{Inode, PAGE_BYTES};

/// Told that the power is cut.
pub(super) type OnCut = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone)]
pub(super) struct State {
    pub files: BTreeMap<u64, Inode>,
    pub names: BTreeMap<String, u64>,
    pub durable_names: BTreeMap<String, u64>,
    pub pending_names: Vec<NameChange>,
    pub dirs: BTreeSet<String>,
    pub next_file: u64,
    pub free: u64,
    pub total: u64,
    pub random: u64,
    pub power: u64,
    pub writes_until_cut: Option<u64>,
    pub fail_next_sync: bool,
    /// Syncs that succeed before all fail.
    pub syncs_until_failing: Option<u64>,
    /// Whether every change and sync is refused.
    pub refuses: bool,
    pub syncs: u64,
    /// Told of each change that finds the power cut.
    pub on_cut: Option<OnCut>,
    /// Where the power is to be cut, and how often to pass there before.
    pub cut_at: Option<(String, u64)>,
    /// How often each named point was reached.
    pub reached: BTreeMap<&'static str, u64>,
}

/// A change of a directory that a power cut may undo.
#[derive(Clone)]
pub(super) enum NameChange {
    Add(String, u64),
    Rename(String, String),
    Remove(String),
}

impl State {
    /// An empty disk.
    pub fn new(total: u64, seed: u64) -> Self {
        Self {
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
            syncs_until_failing: None,
            refuses: false,
            syncs: 0,
            on_cut: None,
            cut_at: None,
            reached: BTreeMap::new(),
        }
    }

    pub fn random(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Counts a change down to the cut that was asked for.
    pub fn change(&mut self) -> io::Result<()> {
        if self.refuses {
            return Err(io::Error::other("the disk refuses everything"));
        }
        match &mut self.writes_until_cut {
            Some(0) => {
                if let Some(told) = &self.on_cut {
                    told();
                }
                Err(io::Error::other("the power is cut"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Counts a sync, of a file or of a directory; says whether it fails.
    pub fn fails_sync(&mut self) -> bool {
        match &mut self.syncs_until_failing {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    pub fn file(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.files.get_mut(&number).ok_or_else(not_found)
    }

    /// Takes pages from the free ones.
    pub fn allocate(&mut self, number: u64, offset: u64, len: u64) -> io::Result<()> {
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

    pub fn release(&mut self, number: u64, offset: u64, len: u64) -> io::Result<()> {
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
    pub fn drop_unnamed(&mut self) {
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

pub(super) fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

pub(super) fn apply(names: &mut BTreeMap<String, u64>, change: &NameChange) {
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

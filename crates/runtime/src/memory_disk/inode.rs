//! One file's content: pages, and what a power cut puts back.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What a disk writes at once or not at all.
const SECTOR_BYTES: u64 = 512;
/// What a file system hands out.
pub(super) const PAGE_BYTES: u64 = 4096;

type Sector = [u8; SECTOR_BYTES as usize];
type Page = [u8; PAGE_BYTES as usize];
/// What a sector held: nothing for zeros, as most of what is written to is new.
pub(super) type Old = Option<Box<Sector>>;

#[derive(Clone, Default)]
pub(super) struct Inode {
    pub len: u64,
    pub durable_len: u64,
    pub pages: BTreeMap<u64, Box<Page>>,
    pub allocated: BTreeSet<u64>,
    /// What sectors held at the last sync, of those written since.
    pub before: BTreeMap<u64, Old>,
    /// The same for those that a failed sync gave up.
    pub lost: BTreeMap<u64, Old>,
}

/// What a sector holds.
fn sector_of(pages: &BTreeMap<u64, Box<Page>>, sector: u64) -> Old {
    let offset = sector * SECTOR_BYTES;
    let page = pages.get(&(offset / PAGE_BYTES))?;
    let within = (offset % PAGE_BYTES) as usize;
    let bytes = page.get(within..within + SECTOR_BYTES as usize)?;
    Some(Box::new(bytes.try_into().ok()?))
}

impl Inode {
    /// The file without anything that was not synced.
    pub fn durable(&self) -> Self {
        let mut left = self.clone();
        for unsynced in [
            std::mem::take(&mut left.before),
            std::mem::take(&mut left.lost),
        ] {
            for (sector, old) in &unsynced {
                left.put_back(*sector, old);
            }
        }
        left.len = left.durable_len;
        left
    }

    pub fn put_back(&mut self, sector: u64, old: &Old) {
        let offset = sector * SECTOR_BYTES;
        match old {
            Some(bytes) => self.put(bytes.as_slice(), offset),
            None => self.clear(offset, SECTOR_BYTES),
        }
    }

    pub fn read(&self, buffer: &mut [u8], offset: u64) {
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

    pub fn remember(&mut self, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        for sector in offset / SECTOR_BYTES..(offset + len).div_ceil(SECTOR_BYTES) {
            if let Entry::Vacant(place) = self.before.entry(sector) {
                let old = self.lost.remove(&sector);
                place.insert(old.unwrap_or_else(|| sector_of(&self.pages, sector)));
            }
        }
    }

    pub fn put(&mut self, data: &[u8], offset: u64) {
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

    pub fn clear(&mut self, offset: u64, len: u64) {
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

//! Checksums under the state store. redb has its own and looks at them only
//! when it repairs a file, so a bit that flips on the disk would be read as a
//! row. Here every page is checked whenever it is read from the disk.
//!
//! The file, in pages of 4 KiB:
//!
//! | page | holds |
//! | --- | --- |
//! | 0 | magic `HFSTATE` and the version, 1; zeros |
//! | 1, 1026, 2051, ... | the checksums of the 1,024 pages that follow, 4 bytes each, little-endian |
//! | others | redb's pages in their order |
//!
//! A page's checksum is the crc32c of its number (8 bytes, little-endian) and
//! its bytes, or 1 where that is 0; 0 belongs to a page that was never written
//! and is zeros. redb's first page, its header, is written over in place: it
//! uses one sector, whose last 4 bytes hold the crc32c of the others, so that
//! both change at once.
//!
//! Invariant: checksums are written before the sync that makes their pages
//! durable. A crash leaves some pages of a commit that never was with others'
//! checksums, and nothing durable refers to those.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use holdfast_runtime::File;

const PAGE: u64 = 4096;
const SECTOR: u64 = 512;
/// Pages whose checksums fill a page.
const COVERED: u64 = PAGE / SUM_BYTES;
const SUM_BYTES: u64 = 4;
/// Checksums that a disk writes at once.
const SUMS_A_SECTOR: u64 = SECTOR / SUM_BYTES;
const MAGIC: &[u8; 8] = b"HFSTATE\x01";
/// Bytes of redb's header page that may be used.
const HEADER_BYTES: usize = (SECTOR - SUM_BYTES) as usize;

/// A file of pages with checksums.
pub(super) struct CheckedFile {
    file: Arc<dyn File>,
    /// Held while a page and its checksum change, and while both are compared.
    sums: RwLock<Sums>,
}

#[derive(Default)]
struct Sums {
    /// Of each page, but for the header page's.
    of: Vec<u32>,
    /// Sectors of checksums that have changed since the last sync.
    dirty: BTreeSet<u64>,
}

impl CheckedFile {
    /// Opens a file, or begins one that is empty. `None` when the file is one
    /// of redb's own, without checksums, as earlier versions wrote them.
    pub(super) fn open(file: Arc<dyn File>) -> io::Result<Option<Self>> {
        let len = file.len()?;
        let head = file.read_at(0, len.min(PAGE) as usize)?;
        if head.starts_with(b"redb") {
            return Ok(None);
        }
        // Nothing is written behind the first page before that is synced.
        let unborn = len <= PAGE && head.iter().all(|byte| *byte == 0);
        if unborn {
            let mut first = vec![0; PAGE as usize];
            put(&mut first, 0, MAGIC);
            file.write_all_at(&first, 0)?;
            file.sync()?;
        } else if !head.starts_with(MAGIC) {
            return Err(corrupt(
                "it does not begin as one, or a newer release wrote it",
            ));
        }
        let pages = pages_of(file.len()?);
        let mut of = Vec::with_capacity(pages as usize);
        for table in 0..pages.div_ceil(COVERED) {
            let bytes = file.read_at(table_place(table), PAGE as usize)?;
            let sums = bytes.chunks_exact(SUM_BYTES as usize);
            of.extend(sums.map(|sum| sum.try_into().map_or(0, u32::from_le_bytes)));
        }
        of.resize(pages as usize, 0);
        let dirty = BTreeSet::new();
        let sums = RwLock::new(Sums { of, dirty });
        Ok(Some(Self { file, sums }))
    }

    /// Bytes of redb's file.
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(pages_of(self.file.len()?) * PAGE)
    }

    /// Cuts or extends redb's file.
    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(PAGE) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let pages = len / PAGE;
        let mut sums = self.sums.write().unwrap_or_else(PoisonError::into_inner);
        let end = match pages.checked_sub(1) {
            Some(last) => place(last) + PAGE,
            None => PAGE,
        };
        self.file.set_len(end)?;
        let before = sums.of.len() as u64;
        sums.of.resize(pages as usize, 0);
        // What was cut off and comes again is zeros.
        let anew = before.min(pages) / SUMS_A_SECTOR..pages.div_ceil(SUMS_A_SECTOR);
        sums.dirty.retain(|sector| *sector < anew.end);
        sums.dirty.extend(anew);
        Ok(())
    }

    /// Reads and compares.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        let sums = self.sums.read().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (offset / PAGE, end.div_ceil(PAGE));
        if offset.is_multiple_of(PAGE) && end.is_multiple_of(PAGE) {
            return self.read_pages(&sums, first, out);
        }
        let mut pages = vec![0; ((last - first) * PAGE) as usize];
        self.read_pages(&sums, first, &mut pages)?;
        let from = (offset - first * PAGE) as usize;
        let part = pages.get(from..from + out.len());
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_pages(&self, sums: &Sums, first: u64, out: &mut [u8]) -> io::Result<()> {
        let mut page = first;
        let mut rest = out;
        while !rest.is_empty() {
            let pages = (rest.len() as u64 / PAGE).min(COVERED - page % COVERED);
            let (now, later) = rest.split_at_mut((pages * PAGE) as usize);
            self.file.read_exact_at(now, place(page))?;
            for (at, bytes) in (page..).zip(now.chunks_mut(PAGE as usize)) {
                check(sums, at, bytes)?;
            }
            page += pages;
            rest = later;
        }
        Ok(())
    }

    /// Writes, and notes the checksums.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let mut sums = self.sums.write().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (offset / PAGE, end.div_ceil(PAGE));
        if first > 0 && offset.is_multiple_of(PAGE) && end.is_multiple_of(PAGE) {
            return self.write_pages(&mut sums, first, data);
        }
        // A part of a page: the rest of it stays.
        let mut pages = vec![0; ((last - first) * PAGE) as usize];
        self.read_pages(&sums, first, &mut pages)?;
        put(&mut pages, (offset - first * PAGE) as usize, data);
        if first > 0 {
            return self.write_pages(&mut sums, first, &pages);
        }
        let (header, others) = pages.split_at_mut(PAGE as usize);
        self.write_header(header)?;
        self.write_pages(&mut sums, 1, others)
    }

    fn write_header(&self, page: &mut [u8]) -> io::Result<()> {
        let (used, spare) = page.split_at(HEADER_BYTES);
        if spare.iter().any(|byte| *byte != 0) {
            return Err(io::Error::other("redb's header is longer than a sector"));
        }
        let sum = crc32c::crc32c(used).to_le_bytes();
        put(page, HEADER_BYTES, &sum);
        let sector = page.get(..SECTOR as usize).unwrap_or_default();
        self.file.write_all_at(sector, place(0))
    }

    fn write_pages(&self, sums: &mut Sums, first: u64, data: &[u8]) -> io::Result<()> {
        let mut page = first;
        let mut rest = data;
        while !rest.is_empty() {
            let pages = (rest.len() as u64 / PAGE).min(COVERED - page % COVERED);
            let (now, later) = rest.split_at((pages * PAGE) as usize);
            for (at, bytes) in (page..).zip(now.chunks(PAGE as usize)) {
                let known = sums.of.get_mut(at as usize);
                *known.ok_or(io::ErrorKind::UnexpectedEof)? = sum_of(at, bytes);
                sums.dirty.insert(at / SUMS_A_SECTOR);
            }
            self.file.write_all_at(now, place(page))?;
            page += pages;
            rest = later;
        }
        Ok(())
    }

    /// Makes pages and checksums durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        {
            let mut sums = self.sums.write().unwrap_or_else(PoisonError::into_inner);
            for sector in std::mem::take(&mut sums.dirty) {
                let first = sector * SUMS_A_SECTOR;
                let known = sums.of.get(first as usize..).unwrap_or_default();
                let mut bytes = vec![0; SECTOR as usize];
                for (to, sum) in bytes.chunks_exact_mut(SUM_BYTES as usize).zip(known) {
                    to.copy_from_slice(&sum.to_le_bytes());
                }
                let within = (first % COVERED) * SUM_BYTES;
                let place = table_place(first / COVERED) + within;
                self.file.write_all_at(&bytes, place)?;
            }
        }
        self.file.sync()
    }
}

/// Compares a page with its checksum; takes the header's own out of it.
fn check(sums: &Sums, page: u64, bytes: &mut [u8]) -> io::Result<()> {
    let zeros = || bytes.iter().all(|byte| *byte == 0);
    if page == 0 {
        let (used, rest) = bytes.split_at_mut(HEADER_BYTES);
        let (sum, spare) = rest.split_at_mut(SUM_BYTES as usize);
        let blank = used.iter().all(|byte| *byte == 0) && *sum == [0; SUM_BYTES as usize];
        let right = *sum == crc32c::crc32c(used).to_le_bytes();
        sum.fill(0);
        if (!right && !blank) || spare.iter().any(|byte| *byte != 0) {
            return Err(corrupt("its header does not match its checksum"));
        }
        return Ok(());
    }
    match sums.of.get(page as usize) {
        Some(0) if zeros() => Ok(()),
        Some(sum) if *sum == sum_of(page, bytes) => Ok(()),
        _ => Err(corrupt(&format!("page {page} does not match its checksum"))),
    }
}

fn sum_of(page: u64, bytes: &[u8]) -> u32 {
    let named = crc32c::crc32c(&page.to_le_bytes());
    crc32c::crc32c_append(named, bytes).max(1)
}

fn corrupt(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the state store is damaged: {what}; replace this disk as if it were empty"),
    )
}

/// Where a page of redb's stands.
fn place(page: u64) -> u64 {
    (page + page / COVERED + 2) * PAGE
}

/// Where a page of checksums stands.
fn table_place(table: u64) -> u64 {
    (1 + table * (COVERED + 1)) * PAGE
}

/// How many of redb's pages are in a file of `len` bytes.
fn pages_of(len: u64) -> u64 {
    let pages = (len / PAGE).saturating_sub(1);
    let (tables, rest) = (pages / (COVERED + 1), pages % (COVERED + 1));
    tables * COVERED + rest.saturating_sub(1)
}

fn put(bytes: &mut [u8], at: usize, data: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at + data.len()) {
        to.copy_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_runtime::Disk;
    use holdfast_runtime::memory_disk::MemoryDisk;

    fn disk() -> (MemoryDisk, CheckedFile) {
        let disk = MemoryDisk::new(64 << 20, 1);
        let file = disk.create("state").unwrap();
        disk.sync_dir("").unwrap();
        let checked = CheckedFile::open(file).unwrap().unwrap();
        (disk, checked)
    }

    fn again(disk: &MemoryDisk) -> io::Result<CheckedFile> {
        Ok(CheckedFile::open(disk.open("state")?)?.unwrap())
    }

    #[test]
    fn golden_bytes_of_the_layout() {
        let (disk, file) = disk();
        file.set_len(1_026 * PAGE).unwrap();
        file.write(0, &[7; 320]).unwrap();
        file.write(PAGE, &[9; 4096]).unwrap();
        file.write(1_025 * PAGE, &[8; 4096]).unwrap();
        file.sync().unwrap();
        let peek = |offset, len| disk.peek("state", offset, len).unwrap();
        assert_eq!(peek(0, 9), b"HFSTATE\x01\0");
        // Redb's header stands in page 2, sealed at the end of its sector.
        assert_eq!(peek(2 * PAGE, 320), [7; 320]);
        assert_eq!(peek(2 * PAGE + 508, 4), 0x11f5_58bf_u32.to_le_bytes());
        // Page 1 of redb's, and its checksum in page 1 of the file.
        assert_eq!(peek(3 * PAGE, 4096), [9; 4096]);
        assert_eq!(peek(PAGE, 8), [0, 0, 0, 0, 0x19, 0xf3, 0x76, 0xef]);
        // Page 1,025 of redb's comes after the second page of checksums.
        assert_eq!(peek(1_028 * PAGE, 4096), [8; 4096]);
        assert_eq!(peek(1_026 * PAGE, 8), [0, 0, 0, 0, 0xab, 0xa0, 0xd1, 0x2f]);
        assert_eq!(file.len().unwrap(), 1_026 * PAGE);
    }

    #[test]
    fn what_was_written_and_synced_is_read_after_a_power_cut() {
        let (disk, file) = disk();
        file.set_len(3_000 * PAGE).unwrap();
        for page in [1, 1_023, 1_024, 2_999] {
            file.write(page * PAGE, &[page as u8; 4096]).unwrap();
        }
        file.sync().unwrap();
        disk.power_cut();
        let file = again(&disk).unwrap();
        assert_eq!(file.len().unwrap(), 3_000 * PAGE);
        let mut pages = vec![0; 8192];
        file.read(1_023 * PAGE, &mut pages).unwrap();
        assert!(pages.starts_with(&[255; 4096]) && pages.ends_with(&[0; 4096]));
        let mut part = [0; 3];
        file.read(2_999 * PAGE + 5, &mut part).unwrap();
        assert_eq!(part, [(2_999 % 256) as u8; 3]);
    }

    #[test]
    fn a_bit_that_flips_anywhere_is_found() {
        let (disk, file) = disk();
        file.set_len(4 * PAGE).unwrap();
        file.write(0, &[1; 320]).unwrap();
        file.write(PAGE, &[2; 4096]).unwrap();
        file.sync().unwrap();
        // The head, a checksum, redb's header, a page, a page of zeros.
        for offset in [3, PAGE + 5, 2 * PAGE + 9, 3 * PAGE + 77, 4 * PAGE + 1_000] {
            disk.flip_bit("state", offset * 8).unwrap();
            let read = again(&disk).and_then(|file| file.read(0, &mut [0; 4 * PAGE as usize]));
            let error = read.unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::InvalidData,
                "{offset}: {error}"
            );
            disk.flip_bit("state", offset * 8).unwrap();
        }
        let file = again(&disk).unwrap();
        file.read(0, &mut [0; 4 * PAGE as usize]).unwrap();
    }

    #[test]
    fn a_page_in_anothers_place_is_found() {
        let (disk, file) = disk();
        file.set_len(4 * PAGE).unwrap();
        file.write(PAGE, &[1; 4096]).unwrap();
        file.write(2 * PAGE, &[2; 4096]).unwrap();
        file.sync().unwrap();
        let first = disk.peek("state", 3 * PAGE, 4096).unwrap();
        let sum = disk.peek("state", PAGE + 4, 4).unwrap();
        disk.poke("state", 4 * PAGE, &first).unwrap();
        disk.poke("state", PAGE + 8, &sum).unwrap();
        let read = again(&disk).unwrap().read(2 * PAGE, &mut [0; 4096]);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_file_without_checksums_is_known_as_such() {
        let disk = MemoryDisk::new(1 << 20, 1);
        let file = disk.create("state").unwrap();
        file.write_all_at(b"redb\x1a\x0a\xa9\x0d\x0a", 0).unwrap();
        assert!(CheckedFile::open(file).unwrap().is_none());
    }
}

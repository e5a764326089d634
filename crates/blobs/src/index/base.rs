//! The base: a sorted file of all fragments as of one moment. Of every block
//! of 78 rows only the first name is in memory, so that a fragment costs a
//! third of a byte; finding one reads its block, and every block is verified
//! whenever it is read.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use holdfast_model::FragmentId;
use holdfast_runtime::{Disk, File};
use minicbor::{Decode, Encode};

use super::entry::{ENTRY_BYTES, decode_entry, encode_entry};
use super::{IndexError, Location};
use crate::format::{ALIGN, kind, padded_record};
use crate::record::decode_record;

const BLOCK: usize = ALIGN as usize;
/// Magic, checksum, file, number, count, and room to spare.
const BLOCK_HEAD: usize = 32;
const ROWS: usize = (BLOCK - BLOCK_HEAD) / ENTRY_BYTES;
const MAGIC: [u8; 4] = *b"HFI!";
/// Blocks read at once when many follow each other. This and what is written at
/// once stay below 128 KiB: larger pieces, made in any thread, would teach the
/// C library to keep such pieces in each of its heaps.
const BLOCKS_AT_ONCE: u64 = 16;
/// Written at once.
const WRITE_BYTES: usize = 64 << 10;

/// The last block of a base.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
struct EndPayload {
    #[n(0)]
    blocks: u64,
    #[n(1)]
    entries: u64,
}

/// Rows that were found elsewhere in place of bad blocks, by their numbers.
pub(crate) type Recovered = BTreeMap<u64, Vec<(FragmentId, Location)>>;

/// An open base.
pub(crate) struct Base {
    file: Arc<dyn File>,
    /// What its blocks and its journal name as their file.
    pub id: u64,
    /// Its number, from its name.
    pub number: u64,
    /// The first name of each block.
    first: Vec<FragmentId>,
    pub entries: u64,
}

impl Base {
    /// Opens a base and reads all of it; `each` sees every row.
    pub(crate) fn load(
        file: Arc<dyn File>,
        number: u64,
        mut each: impl FnMut(FragmentId, Location),
    ) -> Result<Self, IndexError> {
        let len = file.len()?;
        let bad = |what| IndexError::Damaged { number, what };
        let end_at = len.checked_sub(ALIGN).ok_or(bad("it is empty"))?;
        let end = file.read_at(end_at, BLOCK)?;
        let (id, end) = match decode_record(&end) {
            Ok(Some(record)) if record.kind == kind::INDEX_END && record.sequence == number => {
                let payload: Result<EndPayload, _> = minicbor::decode(record.payload);
                (record.file, payload.map_err(|_| bad("its end"))?)
            }
            _ => return Err(bad("its end")),
        };
        if end.blocks.checked_mul(ALIGN) != Some(end_at) {
            return Err(bad("its length"));
        }
        let mut base = Self {
            file,
            id,
            number,
            first: Vec::with_capacity(end.blocks as usize),
            entries: end.entries,
        };
        let mut seen = 0;
        let mut at = 0;
        while at < end.blocks {
            let count = BLOCKS_AT_ONCE.min(end.blocks - at);
            let bytes = base.file.read_at(at * ALIGN, count as usize * BLOCK)?;
            for block in bytes.chunks(BLOCK) {
                for (row, (id, location)) in base.rows(at, block)?.enumerate() {
                    if row == 0 {
                        base.first.push(id);
                    }
                    seen += 1;
                    each(id, location);
                }
                at += 1;
            }
        }
        if seen != end.entries {
            return Err(bad("its count"));
        }
        Ok(base)
    }

    /// The rows of a block, if it is what was written there.
    fn rows<'a>(
        &self,
        number: u64,
        block: &'a [u8],
    ) -> Result<impl DoubleEndedIterator<Item = (FragmentId, Location)> + use<'a>, IndexError> {
        let bad = IndexError::Damaged {
            number: self.number,
            what: "a block of rows",
        };
        let field = |from: usize, len: usize| block.get(from..from + len).unwrap_or_default();
        let check = crc32c::crc32c(field(8, BLOCK - 8)).to_le_bytes();
        let good = field(0, 4) == MAGIC
            && field(4, 4) == check
            && field(8, 8) == self.id.to_le_bytes()
            && field(16, 8) == number.to_le_bytes();
        let count = field(24, 2)
            .try_into()
            .map_or(0, |bytes| usize::from(u16::from_le_bytes(bytes)));
        if !good || count == 0 || count > ROWS {
            return Err(bad);
        }
        let rows = field(BLOCK_HEAD, count * ENTRY_BYTES);
        Ok(rows
            .chunks_exact(ENTRY_BYTES)
            .filter_map(|row| decode_entry(row).and_then(|(id, at)| Some((id, at?)))))
    }

    /// Which block would hold a name.
    pub(crate) fn block_of(&self, id: &FragmentId) -> Option<u64> {
        let after = self.first.partition_point(|first| first <= id);
        after.checked_sub(1).map(|block| block as u64)
    }

    /// Where a fragment is. Blocks.
    pub(crate) fn find(&self, id: &FragmentId) -> Result<Option<Location>, IndexError> {
        let Some(number) = self.block_of(id) else {
            return Ok(None);
        };
        let block = self.read_block(number)?;
        let mut rows = self.rows(number, &block)?;
        Ok(rows.find(|(found, _)| found == id).map(|(_, at)| at))
    }

    fn read_block(&self, number: u64) -> io::Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.file.read_exact_at(&mut block, number * ALIGN)?;
        Ok(block)
    }

    /// Blocks that cannot be read, or are not what was written. Blocks.
    pub(crate) fn bad_blocks(&self) -> Vec<u64> {
        let bad = |number: &u64| match self.read_block(*number) {
            Ok(block) => self.rows(*number, &block).is_err(),
            Err(_) => true,
        };
        (0..self.first.len() as u64).filter(bad).collect()
    }

    /// All fragments after a name, in order, with other rows in place of bad
    /// blocks. Each step may block.
    pub(crate) fn after(
        self: &Arc<Self>,
        after: Option<FragmentId>,
        recovered: Arc<Recovered>,
    ) -> BaseRows {
        let next = after.and_then(|id| self.block_of(&id)).unwrap_or(0);
        BaseRows {
            base: self.clone(),
            after,
            next,
            rows: Vec::new().into_iter(),
            recovered,
        }
    }
}

/// A walk over a base.
pub(crate) struct BaseRows {
    base: Arc<Base>,
    after: Option<FragmentId>,
    next: u64,
    rows: std::vec::IntoIter<(FragmentId, Location)>,
    recovered: Arc<Recovered>,
}

impl BaseRows {
    fn fill(&mut self) -> Result<(), IndexError> {
        let base = &self.base;
        let count = BLOCKS_AT_ONCE.min(base.first.len() as u64 - self.next);
        let numbers = self.next..self.next + count;
        let mut rows = Vec::with_capacity(count as usize * ROWS);
        let mut take = |number: u64, block: Result<&[u8], IndexError>| {
            match (
                block.and_then(|block| base.rows(number, block)),
                self.recovered.get(&number),
            ) {
                (Ok(found), _) => rows.extend(found),
                (Err(_), Some(found)) => rows.extend(found),
                (Err(error), None) => return Err(error),
            }
            Ok(())
        };
        if let Ok(bytes) = base.file.read_at(self.next * ALIGN, count as usize * BLOCK) {
            for (number, block) in numbers.zip(bytes.chunks(BLOCK)) {
                take(number, Ok(block))?;
            }
        } else {
            // At least one of them; the others are still there.
            for number in numbers {
                match base.read_block(number) {
                    Ok(block) => take(number, Ok(&block))?,
                    Err(error) => take(number, Err(error.into()))?,
                }
            }
        }
        self.next += count;
        rows.retain(|(id, _)| self.after.is_none_or(|after| *id > after));
        self.rows = rows.into_iter();
        Ok(())
    }
}

impl Iterator for BaseRows {
    type Item = Result<(FragmentId, Location), IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            if self.next >= self.base.first.len() as u64 {
                return None;
            }
            if let Err(error) = self.fill() {
                // The walk ends with the first error.
                self.next = u64::MAX;
                return Some(Err(error));
            }
        }
    }
}

/// Writes a base, row by row in order.
pub(crate) struct BaseWriter {
    file: Arc<dyn File>,
    id: u64,
    number: u64,
    first: Vec<FragmentId>,
    entries: u64,
    rows: Vec<u8>,
    buffer: Vec<u8>,
    written: u64,
}

impl BaseWriter {
    /// For at most `entries` rows.
    pub(crate) fn create(
        disk: &dyn Disk,
        name: &str,
        id: u64,
        number: u64,
        entries: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            file: disk.create(name)?,
            id,
            number,
            first: Vec::with_capacity(entries.div_ceil(ROWS as u64) as usize),
            entries: 0,
            rows: Vec::with_capacity(BLOCK),
            buffer: Vec::with_capacity(WRITE_BYTES + BLOCK),
            written: 0,
        })
    }

    pub(crate) fn push(&mut self, id: &FragmentId, at: &Location) -> io::Result<()> {
        if self.rows.is_empty() {
            self.first.push(*id);
        }
        encode_entry(id, Some(at), &mut self.rows);
        self.entries += 1;
        if self.rows.len() == ROWS * ENTRY_BYTES {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let number = self.first.len() as u64 - 1;
        let count = (self.rows.len() / ENTRY_BYTES) as u16;
        let mut block = Vec::with_capacity(BLOCK);
        block.extend_from_slice(&self.id.to_le_bytes());
        block.extend_from_slice(&number.to_le_bytes());
        block.extend_from_slice(&count.to_le_bytes());
        block.resize(BLOCK_HEAD - 8, 0);
        block.append(&mut self.rows);
        block.resize(BLOCK - 8, 0);
        self.buffer.extend_from_slice(&MAGIC);
        let check = crc32c::crc32c(&block).to_le_bytes();
        self.buffer.extend_from_slice(&check);
        self.buffer.append(&mut block);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the file. Not synced yet: an error of that is another matter.
    pub(crate) fn finish(mut self) -> io::Result<Base> {
        if !self.rows.is_empty() {
            self.end_block()?;
        }
        let payload = EndPayload {
            blocks: self.first.len() as u64,
            entries: self.entries,
        };
        let end = padded_record(kind::INDEX_END, self.id, self.number, &payload);
        self.buffer.extend_from_slice(&end);
        self.flush()?;
        self.first.shrink_to_fit();
        Ok(Base {
            file: self.file,
            id: self.id,
            number: self.number,
            first: self.first,
            entries: self.entries,
        })
    }
}

impl Base {
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

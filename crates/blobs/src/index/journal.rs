//! The journal of a base: what has changed since, so that after a crash only
//! the newest extents are looked at.
//!
//! Two kinds of records, each synced before the next is written, so that only
//! the last one can be torn:
//! - *changes*: rows that have changed since the record before, and a [`Line`].
//!   Every fragment that was durable and listed when the line was taken is in
//!   the base or in the changes up to here.
//! - *frees*: extents of deleted fragments, synced before their headers are
//!   overwritten, as nothing else would tell of deletes in old segments.

use std::io;
use std::sync::Arc;

use holdfast_model::FragmentId;
use holdfast_runtime::File;
use minicbor::{Decode, Encode};

use super::entry::{ENTRY_BYTES, decode_entry};
use super::{IndexError, Location};
use crate::format::kind;
use crate::record::{MAX_PAYLOAD_BYTES, decode_record, encode_record};

/// What records are aligned to: the sector, which alone is written whole.
const SECTOR: usize = 512;
/// About what an extent takes in a record.
const EXTENT_BYTES: usize = 64;

/// An extent by its place, how long it is, and whose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct ExtentPayload {
    #[n(0)]
    pub segment: u32,
    #[n(1)]
    pub offset: u32,
    #[n(2)]
    pub max_bytes: u32,
    #[n(3)]
    pub id: FragmentId,
}

impl ExtentPayload {
    pub(crate) fn place(&self) -> super::Place {
        (self.segment, self.offset)
    }
}

/// A segment that took extents when a line was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct OpenSegment {
    #[n(0)]
    pub number: u32,
    /// Where its extents end.
    #[n(1)]
    pub end: u64,
    /// Below it all headers were durable.
    #[n(2)]
    pub durable_end: u64,
}

/// Damage that was found in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct DamagedSegment {
    #[n(0)]
    pub number: u32,
    /// Places that hold something bad.
    #[n(1)]
    pub places: u64,
}

/// How far the index speaks for the segments: a start looks at what lies
/// beyond, and at the extents that were held or on their way out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Line {
    /// Segments from this number on are younger than the line. No number is
    /// given twice while the index lives.
    #[n(0)]
    pub next_segment: u32,
    #[n(1)]
    pub next_sequence: u64,
    /// Segments that may have got more extents since.
    #[n(2)]
    pub open: Vec<OpenSegment>,
    /// Extents of writers: finished since, or not.
    #[n(3)]
    pub held: Vec<ExtentPayload>,
    /// Extents on their way out, to be freed again.
    #[n(4)]
    pub freeing: Vec<ExtentPayload>,
    #[n(5)]
    pub damaged: Vec<DamagedSegment>,
}

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
struct ChangesPayload {
    #[n(0)]
    line: Line,
    #[cbor(n(1), with = "minicbor::bytes")]
    rows: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
struct FreesPayload {
    #[n(0)]
    extents: Vec<ExtentPayload>,
}

/// A row that has changed; `None` for one that is gone.
pub(crate) type Change = (FragmentId, Option<Location>);

/// A journal that is written.
pub(crate) struct Journal {
    file: Arc<dyn File>,
    /// That of its base.
    id: u64,
    end: u64,
    sequence: u64,
}

impl Journal {
    /// A new one, for an empty file.
    pub(crate) fn new(file: Arc<dyn File>, id: u64) -> Self {
        Self {
            file,
            id,
            end: 0,
            sequence: 0,
        }
    }

    /// Whether it is that of a base.
    pub(crate) fn is_of(&self, base: u64) -> bool {
        self.id == base
    }

    /// Bytes written.
    pub(crate) fn bytes(&self) -> u64 {
        self.end
    }

    /// Writes rows that have changed and the line after them. Not synced yet.
    pub(crate) fn write_changes(&mut self, rows: Vec<u8>, line: Line) -> io::Result<()> {
        let extents = line.held.len() + line.freeing.len();
        let bytes = rows.len() + (extents + 1) * EXTENT_BYTES;
        self.write(kind::INDEX_CHANGES, &ChangesPayload { line, rows }, bytes)
    }

    /// Writes that extents are about to be freed. Not synced yet.
    pub(crate) fn write_frees(&mut self, extents: Vec<ExtentPayload>) -> io::Result<()> {
        let bytes = (extents.len() + 1) * EXTENT_BYTES;
        self.write(kind::INDEX_FREES, &FreesPayload { extents }, bytes)
    }

    /// `bytes` is about what the payload takes.
    fn write(&mut self, kind: u16, payload: &impl Encode<()>, bytes: usize) -> io::Result<()> {
        let mut encoded = Vec::with_capacity(bytes);
        if let Err(error) = minicbor::encode(payload, &mut encoded) {
            unreachable!("a Vec takes whatever these types encode to: {error}");
        }
        if encoded.len() > MAX_PAYLOAD_BYTES {
            return Err(io::Error::other("too much has changed for one record"));
        }
        let mut record = encode_record(kind, self.id, self.sequence, &encoded);
        record.resize(record.len().next_multiple_of(SECTOR), 0);
        self.file.write_all_at(&record, self.end)?;
        self.end += record.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    /// A failure is the end of the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// What a journal says.
#[derive(Default)]
pub(crate) struct Told {
    /// In order.
    pub changes: Vec<Change>,
    /// The last line; `None` in a journal that says nothing.
    pub line: Option<Line>,
    /// Extents that were freed, or were about to be, since the last line.
    pub frees: Vec<ExtentPayload>,
    /// All of them, those of lines too.
    pub all_frees: Vec<ExtentPayload>,
    /// Whole records follow a bad one.
    pub damaged: bool,
}

/// Reads a journal, up to what is torn, which is cut off. `id` is its base's,
/// `None` where that is not known.
pub(crate) fn read_journal(
    file: Arc<dyn File>,
    id: Option<u64>,
) -> Result<(Told, Journal), IndexError> {
    let bytes = file.read_at(0, file.len()? as usize)?;
    let mut told = Told::default();
    let mut journal = Journal::new(file, id.unwrap_or(0));
    let mut known = id;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let found = decode_record(rest).ok().flatten();
        let next = found.filter(|record| {
            known.is_none_or(|id| record.file == id) && record.sequence >= journal.sequence
        });
        let Some(record) = next else {
            at += SECTOR;
            continue;
        };
        // Nothing lies between two records but what is bad.
        told.damaged |= record.sequence != journal.sequence || at as u64 != journal.end;
        known = Some(record.file);
        if !told.take(record.kind, record.payload) {
            told.damaged = true;
        }
        at += record.bytes.next_multiple_of(SECTOR);
        journal.sequence = record.sequence + 1;
        journal.end = at as u64;
        journal.id = record.file;
    }
    Ok((told, journal))
}

impl Told {
    fn take(&mut self, kind: u16, payload: &[u8]) -> bool {
        match kind {
            kind::INDEX_CHANGES => {
                let Ok(payload) = minicbor::decode::<ChangesPayload>(payload) else {
                    return false;
                };
                let rows = payload.rows.chunks_exact(ENTRY_BYTES);
                self.changes.extend(rows.filter_map(decode_entry));
                self.all_frees.extend(&payload.line.freeing);
                self.line = Some(payload.line);
                self.frees.clear();
                true
            }
            kind::INDEX_FREES => {
                let Ok(payload) = minicbor::decode::<FreesPayload>(payload) else {
                    return false;
                };
                self.frees.extend(&payload.extents);
                self.all_frees.extend(&payload.extents);
                true
            }
            _ => false,
        }
    }
}

impl Journal {
    /// Cuts off what a crash tore, and makes what was read durable: a killed
    /// process may have left it in memory only.
    pub(crate) fn settle(&self) -> io::Result<()> {
        if self.file.len()? != self.end {
            self.file.set_len(self.end)?;
        }
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use holdfast_model::{GroupId, UploadId};

    use super::*;

    fn shown(payload: &impl Encode<()>) -> String {
        let bytes = minicbor::to_vec(payload).unwrap();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn payloads_are_what_earlier_releases_wrote() {
        let extent = ExtentPayload {
            segment: 1,
            offset: 4096,
            max_bytes: 2,
            id: FragmentId {
                group: GroupId(1),
                upload: UploadId::from_bytes([2; 16]),
                chunk: 3,
                index: 4,
            },
        };
        let line = Line {
            next_segment: 3,
            next_sequence: 4,
            open: vec![OpenSegment {
                number: 2,
                end: 8192,
                durable_end: 4096,
            }],
            held: vec![extent],
            freeing: vec![extent],
            damaged: vec![DamagedSegment {
                number: 1,
                places: 1,
            }],
        };
        let changes = ChangesPayload {
            line,
            rows: vec![1, 2],
        };
        assert_eq!(
            shown(&changes),
            "82860304818302192000191000818401191000028401500202020202020202020202020202020203048184011910000284015002020202020202020202020202020202030481820101420102"
        );
        let frees = FreesPayload {
            extents: vec![extent],
        };
        assert_eq!(
            shown(&frees),
            "8181840119100002840150020202020202020202020202020202020304"
        );
    }
}

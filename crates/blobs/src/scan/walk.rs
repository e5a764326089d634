//! The walk over one segment: from header to header, and over what is bad to
//! the next record that names its own place.

use std::io;

use holdfast_model::{FragmentHeader, FragmentId};

use crate::format::{ALIGN, closing_at, closing_bytes, extent_bytes};
use crate::index::Location;
use crate::segment::{Found, Segment, read_padded};

/// Bytes read at once while looking for a record.
const SEARCH_BYTES: usize = 1 << 20;

/// An extent that holds a fragment, or the beginning of one.
pub(super) struct Piece {
    pub offset: u64,
    pub max_bytes: u64,
    pub fragment: FragmentHeader,
    /// Of the closing record.
    pub sequence: u64,
    pub bytes: u64,
    pub checksum: u32,
    /// It has, or had, a closing record.
    pub finished: bool,
    pub corrupt: bool,
}

/// What a segment holds.
#[derive(Default)]
pub(super) struct Walk {
    pub pieces: Vec<Piece>,
    /// Where more extents may go; none in a segment that is full.
    pub open_end: Option<u64>,
    /// Torn places between extents, to be chained over: start and end.
    pub holes: Vec<(u64, u64)>,
    pub torn: u64,
    pub damaged: u64,
    pub max_sequence: u64,
    /// Bad places, before it is known which are torn.
    gaps: Vec<(u64, u64)>,
    /// The highest line below which headers are known to have been durable.
    durable_end: u64,
    unreadable: bool,
}

/// Walks a segment from `from` on, below which all is known; headers are known
/// to have been durable below `durable_end`.
pub(super) fn walk(segment: &Segment, last: bool, from: u64, durable_end: u64) -> Walk {
    let mut walk = Walk {
        durable_end,
        ..Walk::default()
    };
    walk.go(segment, from, segment.bytes);
    walk.judge(segment, last);
    walk
}

/// The finished fragments of a segment that is in use, in extents below `end`.
/// What is bad is passed over, and nothing is judged.
pub(crate) fn rows_below(segment: &Segment, end: u64) -> Vec<(FragmentId, Location)> {
    let mut walk = Walk::default();
    walk.go(segment, ALIGN, end);
    let finished = walk.pieces.iter().filter(|piece| piece.finished);
    let row = |piece: &Piece| (piece.fragment.id, piece.location(segment));
    finished
        .filter(|piece| piece.offset < end)
        .map(row)
        .collect()
}

impl Piece {
    pub(super) fn location(&self, segment: &Segment) -> Location {
        Location {
            segment: segment.number,
            offset: self.offset as u32,
            max_bytes: self.max_bytes as u32,
            bytes: self.bytes as u32,
            checksum: self.checksum,
            corrupt: self.corrupt,
            generation: self.fragment.generation,
        }
    }
}

impl Walk {
    fn go(&mut self, segment: &Segment, from: u64, end: u64) {
        let mut at = from;
        while at < end {
            at = match self.look(segment, at) {
                Some((sequence, Found::Header(header))) => {
                    self.note(sequence, header.durable_end);
                    let piece = self.piece(segment, at, header.max_bytes, header.fragment);
                    self.pieces.push(piece);
                    at + extent_bytes(header.max_bytes)
                }
                Some((sequence, Found::Free(free))) => {
                    self.note(sequence, 0);
                    at + free.bytes
                }
                Some((_, Found::Closing(_))) | None => self.skip(segment, at),
            };
        }
    }

    pub(super) fn max_sequence(&self) -> u64 {
        self.max_sequence
    }

    fn note(&mut self, sequence: u64, durable_end: u64) {
        self.max_sequence = self.max_sequence.max(sequence);
        self.durable_end = self.durable_end.max(durable_end);
    }

    /// The record at an offset; what cannot be read is no record.
    pub(super) fn look(&mut self, segment: &Segment, at: u64) -> Option<(u64, Found)> {
        segment.record_at(at).unwrap_or_else(|error| {
            self.cannot_read(segment, at, &error);
            None
        })
    }

    fn cannot_read(&mut self, segment: &Segment, at: u64, error: &io::Error) {
        self.unreadable = true;
        tracing::error!(segment = segment.number, at, %error, "cannot read");
    }

    /// The fragment of a good header.
    pub(super) fn piece(
        &mut self,
        segment: &Segment,
        offset: u64,
        max_bytes: u64,
        fragment: FragmentHeader,
    ) -> Piece {
        let at = offset + closing_at(max_bytes);
        let mut piece = Piece {
            offset,
            max_bytes,
            fragment,
            sequence: 0,
            bytes: 0,
            checksum: 0,
            finished: false,
            corrupt: false,
        };
        match self.look(segment, at) {
            Some((sequence, Found::Closing(closing))) if closing.offset == offset => {
                self.note(sequence, closing.durable_end);
                piece.sequence = sequence;
                piece.bytes = closing.bytes;
                piece.checksum = closing.checksum;
                piece.finished = true;
                piece.corrupt = closing.fragment != piece.fragment;
            }
            _ => {
                // Nothing there: the writer never came so far. Something bad:
                // it may have been acknowledged, so it is not cut off.
                let room = closing_bytes(max_bytes) as usize;
                let written = read_padded(&*segment.file, at, room);
                piece.corrupt = !written.is_ok_and(|bytes| bytes.iter().all(|b| *b == 0));
                piece.finished = piece.corrupt;
            }
        }
        piece
    }

    /// Skips what is bad and returns where the next record begins.
    fn skip(&mut self, segment: &Segment, from: u64) -> u64 {
        let mut at = from;
        // The last chunk's records are looked at one by one.
        while at < segment.bytes {
            let len = SEARCH_BYTES.min((segment.bytes - at) as usize);
            let bytes = match read_padded(&*segment.file, at, len) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.cannot_read(segment, at, &error);
                    Vec::new()
                }
            };
            for (block, offset) in bytes
                .chunks(ALIGN as usize)
                .zip((at..).step_by(ALIGN as usize))
            {
                if block.iter().take(4).all(|byte| *byte == 0) {
                    continue;
                }
                if let Some(next) = self.resume(segment, from, offset) {
                    return next;
                }
            }
            at += len as u64;
        }
        self.gaps.push((from, segment.bytes));
        segment.bytes
    }

    /// Where the walk goes on if there is a record at `offset`.
    fn resume(&mut self, segment: &Segment, from: u64, offset: u64) -> Option<u64> {
        match self.look(segment, offset)? {
            (_, Found::Header(_) | Found::Free(_)) if offset > from => {
                self.gaps.push((from, offset));
                Some(offset)
            }
            // The end of a fragment whose header is bad.
            (sequence, Found::Closing(closing)) if closing.offset >= from => {
                self.note(sequence, closing.durable_end);
                if closing.offset > from {
                    self.gaps.push((from, closing.offset));
                }
                self.pieces.push(Piece {
                    offset: closing.offset,
                    max_bytes: closing.max_bytes,
                    fragment: closing.fragment,
                    sequence,
                    bytes: closing.bytes,
                    checksum: closing.checksum,
                    finished: true,
                    corrupt: true,
                });
                Some(closing.offset + extent_bytes(closing.max_bytes))
            }
            _ => None,
        }
    }

    /// Decides which gaps are torn and which are damage.
    fn judge(&mut self, segment: &Segment, last: bool) {
        let sound = last && segment.damaged == 0 && !self.unreadable;
        for (start, end) in std::mem::take(&mut self.gaps) {
            if !sound || start < self.durable_end {
                self.damaged += 1;
            } else if end < segment.bytes {
                self.torn += 1;
                self.holes.push((start, end));
            } else {
                let head = read_padded(&*segment.file, start, ALIGN as usize);
                let clean = head.is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0));
                self.torn += u64::from(!clean);
                self.open_end = Some(start);
            }
        }
    }
}

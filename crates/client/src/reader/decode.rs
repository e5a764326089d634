//! One zstd frame, decoded as its bytes come, and cut to a range.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use crate::error::ClusterError;

/// Bytes of a piece of output.
const PIECE_BYTES: usize = 64 << 10;
/// The largest window that a frame may ask for, as a power of two: that of a
/// chunk. Without a limit a damaged header could ask for any memory.
const WINDOW_LOG_MAX: u32 = 23;

/// Decodes a frame of a known size. Push bytes, take pieces until there is
/// none, push more. It ends early once the range is delivered; a range that
/// reaches to the frame's end is checked against its size and checksum.
pub(super) struct FrameDecoder {
    decoder: Decoder<'static>,
    input: Bytes,
    /// Bytes decoded so far.
    decoded: u64,
    wanted: Range<u64>,
    size: u64,
    frame_ended: bool,
}

impl FrameDecoder {
    pub fn new(wanted: Range<u64>, size: u64) -> Result<Self, ClusterError> {
        let mut decoder = Decoder::new().map_err(failed)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .map_err(failed)?;
        Ok(Self {
            decoder,
            input: Bytes::new(),
            decoded: 0,
            wanted,
            size,
            frame_ended: false,
        })
    }

    /// Takes bytes of the frame; those before must be used up.
    pub fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.input.is_empty());
        self.input = bytes;
    }

    /// The next bytes of the range; `None` until more of the frame has come.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, ClusterError> {
        while self.decoded < self.wanted.end || (self.wanted.end == self.size && !self.frame_ended)
        {
            let mut output = BytesMut::zeroed(PIECE_BYTES);
            let status = self
                .decoder
                .run_on_buffers(&self.input, &mut output)
                .map_err(failed)?;
            self.input.advance(status.bytes_read);
            let from = self.decoded;
            self.decoded += status.bytes_written as u64;
            self.frame_ended = status.remaining == 0;
            let trailing = self.frame_ended && !self.input.is_empty();
            if self.decoded > self.size || trailing {
                return Err(wrong_size());
            }
            output.truncate(status.bytes_written);
            let piece = self.cut(output.freeze(), from);
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
            let stuck = status.bytes_read == 0 && status.bytes_written == 0;
            if stuck || (self.input.is_empty() && status.bytes_written < PIECE_BYTES) {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Whether the whole range has been delivered.
    pub fn is_done(&self) -> bool {
        self.decoded >= self.wanted.end
    }

    /// The frame's bytes are all there, as far as the range needs them.
    pub fn finish(&self) -> Result<(), ClusterError> {
        if self.decoded < self.wanted.end
            || (self.wanted.end == self.size && (!self.frame_ended || self.decoded != self.size))
        {
            return Err(wrong_size());
        }
        Ok(())
    }

    /// What of bytes that begin at `from` lies in the range.
    fn cut(&self, mut bytes: Bytes, from: u64) -> Bytes {
        let to = from + bytes.len() as u64;
        bytes.truncate((to.min(self.wanted.end) - from.min(self.wanted.end).min(to)) as usize);
        let skip = self.wanted.start.saturating_sub(from);
        bytes.advance((skip as usize).min(bytes.len()));
        bytes
    }
}

fn failed(error: std::io::Error) -> ClusterError {
    ClusterError::Internal(format!("compressed data cannot be decoded: {error}"))
}

fn wrong_size() -> ClusterError {
    ClusterError::Internal("compressed data does not have the size that its row says".into())
}

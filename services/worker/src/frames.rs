//! Compression: chunks of an object as zstd frames, each whole in itself.
//!
//! Every chunk but the last holds [`PLAIN_CHUNK_BYTES`] of the object, so that
//! the chunk of an offset stays a division.

use std::io;

use bytes::{Bytes, BytesMut};

/// Bytes of the object in a chunk.
pub const PLAIN_CHUNK_BYTES: usize = 8 << 20;
/// More costs much time for little.
const LEVEL: i32 = 3;
/// What compression must gain to be worth a decoder at every read: a tenth.
const MIN_GAIN_PERCENT: u64 = 10;

/// Whether `stored` bytes in place of `plain` are gain enough.
pub fn is_worth_it(plain: u64, stored: u64) -> bool {
    u128::from(stored) * 100 <= u128::from(plain) * u128::from(100 - MIN_GAIN_PERCENT)
}

/// One frame of `plain`, with a checksum of its own. Blocks; single-threaded.
pub fn compress_frame(plain: &[u8]) -> io::Result<Bytes> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    Ok(compressor.compress(plain)?.into())
}

/// Gathers a stream's pieces into chunks of [`PLAIN_CHUNK_BYTES`].
#[derive(Debug, Default)]
pub struct PlainChunks {
    gathered: BytesMut,
}

impl PlainChunks {
    /// Adds a piece and takes out a chunk, if one is full. A piece may fill
    /// several: ask with an empty one until there is none.
    pub fn push(&mut self, piece: &[u8]) -> Option<Bytes> {
        self.gathered.extend_from_slice(piece);
        let full = self.gathered.len() >= PLAIN_CHUNK_BYTES;
        full.then(|| self.gathered.split_to(PLAIN_CHUNK_BYTES).freeze())
    }

    /// What is left at the end, if anything is.
    pub fn finish(&mut self) -> Option<Bytes> {
        let last = std::mem::take(&mut self.gathered).freeze();
        (!last.is_empty()).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_give_back_exactly_the_bytes_whatever_the_pieces() {
        let object: Vec<u8> = (0..2 * PLAIN_CHUNK_BYTES + 12_345)
            .map(|n| (n / 7 % 251) as u8)
            .collect();
        for piece_bytes in [64 << 10, 1_000_003, PLAIN_CHUNK_BYTES, object.len()] {
            let mut chunks = PlainChunks::default();
            let mut frames = Vec::new();
            for piece in object.chunks(piece_bytes) {
                let mut full = chunks.push(piece);
                while let Some(plain) = full {
                    assert_eq!(plain.len(), PLAIN_CHUNK_BYTES);
                    frames.push(compress_frame(&plain).unwrap());
                    full = chunks.push(&[]);
                }
            }
            if let Some(last) = chunks.finish() {
                frames.push(compress_frame(&last).unwrap());
            }
            assert_eq!(frames.len(), 3);
            let back: Vec<u8> = frames
                .iter()
                .flat_map(|frame| zstd::bulk::decompress(frame, PLAIN_CHUNK_BYTES).unwrap())
                .collect();
            assert!(back == object, "pieces of {piece_bytes} bytes");
            let stored: usize = frames.iter().map(Bytes::len).sum();
            assert!(is_worth_it(object.len() as u64, stored as u64));
        }
    }

    #[test]
    fn a_frame_names_its_size_and_a_flipped_bit_is_noticed() {
        let plain: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| (n / 3).to_le_bytes())
            .collect();
        let mut frame = compress_frame(&plain).unwrap().to_vec();
        let named = zstd::zstd_safe::get_frame_content_size(&frame).unwrap();
        assert_eq!(named, Some(plain.len() as u64));
        let middle = frame.len() / 2;
        frame[middle] ^= 1;
        assert!(zstd::bulk::decompress(&frame, plain.len()).is_err());
    }

    #[test]
    fn a_tenth_must_be_gained() {
        assert!(is_worth_it(1_000, 900));
        assert!(!is_worth_it(1_000, 901));
        assert!(!is_worth_it(0, 9));
        assert!(is_worth_it(u64::MAX, u64::MAX / 2));
    }
}

//! How a fragment's bytes travel: as blocks that each carry their checksum.
//!
//! ```text
//! body  = (wait | block)*
//! block = length: u32 be, 1..=BLOCK_BYTES | crc32c of the bytes: u32 be | bytes
//! wait  = 0: u32 be | "wait"
//! ```
//!
//! Every block holds [`BLOCK_BYTES`] but the fragment's last, which may be
//! shorter. A `wait` says that the sender is alive and has nothing to send yet:
//! an upload goes as slowly as the client that sends it, and a connection on
//! which nothing comes counts as broken. How many bytes a body must have is
//! told elsewhere, so that one that was cut off at a block's end is noticed:
//! the answer to an upload says how many arrived, the head of a download how
//! many there are.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use holdfast_metadata::protocol::BLOCK_BYTES;
use holdfast_runtime::TransportError;

/// Bytes before a block's own.
pub const BLOCK_HEADER_BYTES: usize = 8;
/// Tells the receiver that the sender is alive.
pub const WAIT: [u8; BLOCK_HEADER_BYTES] = *b"\0\0\0\0wait";

/// What is wrong with a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockError {
    /// A block does not have its checksum.
    #[error("block {block} does not have its checksum")]
    Damaged {
        /// Which, counted from 0 in this body.
        block: u64,
    },
    /// A length that no block has.
    #[error("block {block} has the length {length}")]
    Length {
        /// Which, counted from 0 in this body.
        block: u64,
        /// Its length.
        length: u32,
    },
    /// Something after a block that is shorter than the others.
    #[error("bytes after the last block")]
    AfterLast,
    /// The body ends in the middle of a block.
    #[error("the body ends in the middle of a block")]
    CutOff,
}

impl From<BlockError> for TransportError {
    fn from(error: BlockError) -> Self {
        Self::Malformed {
            reason: error.to_string(),
        }
    }
}

/// One block of 1 to [`BLOCK_BYTES`] bytes, as it travels, in two pieces that
/// share the bytes: the header, then those.
pub fn encode_block(block: Bytes) -> [Bytes; 2] {
    let checksum = crc32c::crc32c(&block);
    encode_known_block(block, checksum)
}

/// The same for a block whose crc32c is known, which is not computed anew:
/// bytes that change in memory meanwhile are noticed at the other end.
pub fn encode_known_block(block: Bytes, checksum: u32) -> [Bytes; 2] {
    debug_assert!(!block.is_empty() && block.len() <= BLOCK_BYTES);
    let mut header = BytesMut::with_capacity(BLOCK_HEADER_BYTES);
    header.put_u32(block.len() as u32);
    header.put_u32(checksum);
    [header.freeze(), block]
}

/// Cuts bytes into blocks and encodes them into one buffer. Only the last
/// bytes of a fragment may fill less than a whole number of blocks.
pub fn encode_blocks(data: &[u8]) -> Bytes {
    let blocks = data.len().div_ceil(BLOCK_BYTES);
    let mut out = BytesMut::with_capacity(data.len() + blocks * BLOCK_HEADER_BYTES);
    for block in data.chunks(BLOCK_BYTES) {
        out.put_u32(block.len() as u32);
        out.put_u32(crc32c::crc32c(block));
        out.put_slice(block);
    }
    out.freeze()
}

/// Reads blocks from pieces of any size. Feed it with [`BlockDecoder::push`],
/// take blocks with [`BlockDecoder::next_block`] until there is none, and call
/// [`BlockDecoder::finish`] at the body's end. It holds at most one piece and
/// one block.
#[derive(Debug, Default)]
pub struct BlockDecoder {
    buffer: BytesMut,
    blocks: u64,
    last_seen: bool,
}

impl BlockDecoder {
    /// Takes a piece of the body.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next block, verified; `None` until more of the body has come.
    ///
    /// # Errors
    /// When the body is none. It stays so: the decoder must not be used again.
    pub fn next_block(&mut self) -> Result<Option<Bytes>, BlockError> {
        Ok(self.next_known_block()?.map(|(block, _)| block))
    }

    /// The same with the block's crc32c, which has been compared.
    ///
    /// # Errors
    /// As for [`BlockDecoder::next_block`].
    pub fn next_known_block(&mut self) -> Result<Option<(Bytes, u32)>, BlockError> {
        while self.buffer.len() >= BLOCK_HEADER_BYTES {
            if self.buffer.starts_with(&WAIT) {
                self.buffer.advance(BLOCK_HEADER_BYTES);
                continue;
            }
            if self.last_seen {
                return Err(BlockError::AfterLast);
            }
            let mut header = self.buffer.as_ref();
            let length = header.get_u32();
            let expected = header.get_u32();
            let bytes = length as usize;
            if bytes == 0 || bytes > BLOCK_BYTES {
                let block = self.blocks;
                return Err(BlockError::Length { block, length });
            }
            if header.len() < bytes {
                self.buffer
                    .reserve(BLOCK_HEADER_BYTES + bytes - self.buffer.len());
                return Ok(None);
            }
            self.buffer.advance(BLOCK_HEADER_BYTES);
            let block = self.buffer.split_to(bytes).freeze();
            if crc32c::crc32c(&block) != expected {
                return Err(BlockError::Damaged { block: self.blocks });
            }
            self.blocks += 1;
            self.last_seen = bytes < BLOCK_BYTES;
            return Ok(Some((block, expected)));
        }
        Ok(None)
    }

    /// The body has ended.
    ///
    /// # Errors
    /// When it ends in the middle of a block.
    pub fn finish(&self) -> Result<(), BlockError> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(BlockError::CutOff)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n * 31 % 251) as u8).collect()
    }

    fn decode(body: &[u8], piece: usize) -> Result<Vec<u8>, BlockError> {
        let mut decoder = BlockDecoder::default();
        let mut out = Vec::new();
        for piece in body.chunks(piece) {
            decoder.push(piece);
            while let Some(block) = decoder.next_block()? {
                out.extend_from_slice(&block);
            }
        }
        decoder.finish()?;
        Ok(out)
    }

    #[test]
    fn blocks_are_read_back_however_they_are_cut() {
        for len in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 5] {
            let body = encode_blocks(&data(len));
            for piece in [1, 7, 8, 9, 4096, BLOCK_BYTES, 1 << 20] {
                assert_eq!(decode(&body, piece).unwrap(), data(len));
            }
        }
    }

    #[test]
    fn both_encoders_write_the_same() {
        let all = data(2 * BLOCK_BYTES + 9);
        let pieces: Vec<u8> = all
            .chunks(BLOCK_BYTES)
            .flat_map(|block| encode_block(Bytes::copy_from_slice(block)))
            .flatten()
            .collect();
        assert_eq!(pieces, encode_blocks(&all));
    }

    #[test]
    fn the_format_is_as_written() {
        let body = encode_blocks(b"123456789");
        assert_eq!(body.as_ref(), b"\x00\x00\x00\x09\xe3\x06\x92\x83123456789");
    }

    #[test]
    fn waiting_says_nothing_about_the_bytes() {
        let mut body = WAIT.to_vec();
        body.extend_from_slice(&encode_blocks(&data(BLOCK_BYTES)));
        body.extend_from_slice(&WAIT);
        body.extend_from_slice(&encode_blocks(b"end"));
        body.extend_from_slice(&WAIT);
        let mut expected = data(BLOCK_BYTES);
        expected.extend_from_slice(b"end");
        assert_eq!(decode(&body, 5).unwrap(), expected);
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let body = encode_blocks(b"some bytes");
        for bit in 0..body.len() * 8 {
            let mut damaged = body.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged, 64).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_body_that_is_cut_off_in_a_block_or_goes_on_after_the_last_is_refused() {
        let body = encode_blocks(b"some bytes");
        for len in 1..body.len() {
            assert_eq!(decode(&body[..len], 64), Err(BlockError::CutOff));
        }
        let twice = [body.clone(), body].concat();
        assert_eq!(decode(&twice, 64), Err(BlockError::AfterLast));
        assert!(matches!(
            decode(&[0; 16], 64),
            Err(BlockError::Length { length: 0, .. })
        ));
    }
}

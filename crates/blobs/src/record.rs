//! The frame around every record that this crate and the Raft log write:
//! magic, version, kind, length, the file it was written to, its sequence
//! number and checksums. All numbers are little-endian.
//!
//! | bytes | holds |
//! | --- | --- |
//! | 0..4 | magic, `HFR!` |
//! | 4..6 | version of the frame, 1 |
//! | 6..8 | kind |
//! | 8..12 | bytes of payload |
//! | 12..16 | crc32c of the payload |
//! | 16..24 | the file's own number, so that a record read from the wrong file, or left over from the file's earlier life, is told |
//! | 24..32 | sequence number |
//! | 32..36 | crc32c of bytes 0..32 |
//! | 36.. | payload |
//!
//! A frame of zeros is never valid: it is where nothing was written. What a
//! bad record means depends on where it stands, which only the caller knows:
//! the last one may be a torn write, any other is damage.

/// Bytes before the payload.
pub const HEAD_BYTES: usize = 36;

/// The longest payload: far above any real one, low enough that a length read
/// from a damaged disk cannot exhaust memory.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;

/// The version of the frame that is written.
pub const FRAME_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"HFR!";

/// A record as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// What the payload is.
    pub kind: u16,
    /// The number of the file that it was written to.
    pub file: u64,
    /// Its place in the order of writing.
    pub sequence: u64,
    /// What it says.
    pub payload: &'a [u8],
    /// Bytes of head and payload together.
    pub bytes: usize,
}

/// Why there is no record in some bytes that are not empty. Either can be what
/// a torn write left; the names say what was found.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// It begins as a record does, and not all of it is there.
    #[error("a record is torn: {0}")]
    Torn(&'static str),
    /// It is no record.
    #[error("a record is corrupt: {0}")]
    Corrupt(&'static str),
    /// A frame of a version that this release does not know.
    #[error(
        "a record has version {0}, and this release reads {FRAME_VERSION}: use a newer release"
    )]
    Version(u16),
}

/// Frames `payload`.
///
/// # Panics
/// When the payload is longer than [`MAX_PAYLOAD_BYTES`]: it could be written,
/// and never be read.
pub fn encode_record(kind: u16, file: u64, sequence: u64, payload: &[u8]) -> Vec<u8> {
    assert!(
        payload.len() <= MAX_PAYLOAD_BYTES,
        "a payload of {} bytes could not be read back",
        payload.len()
    );
    let mut record = Vec::with_capacity(HEAD_BYTES + payload.len());
    record.extend_from_slice(&MAGIC);
    record.extend_from_slice(&FRAME_VERSION.to_le_bytes());
    record.extend_from_slice(&kind.to_le_bytes());
    record.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    record.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    record.extend_from_slice(&file.to_le_bytes());
    record.extend_from_slice(&sequence.to_le_bytes());
    let check = crc32c::crc32c(&record);
    record.extend_from_slice(&check.to_le_bytes());
    record.extend_from_slice(payload);
    record
}

/// Reads the record at the start of `buffer`; `None` where the frame (or all
/// of a shorter buffer) is zeros. More bytes after the record are no error.
///
/// # Errors
/// [`RecordError`] where there is something else. The caller compares `file`
/// and `sequence` with what it expects.
pub fn decode_record(buffer: &[u8]) -> Result<Option<Record<'_>>, RecordError> {
    let Some((head, rest)) = buffer.split_at_checked(HEAD_BYTES) else {
        return if buffer.iter().all(|byte| *byte == 0) {
            Ok(None)
        } else {
            Err(RecordError::Torn("its head is cut"))
        };
    };
    if head.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let mut fields = Fields(head);
    if fields.take::<4>() != MAGIC {
        return Err(RecordError::Corrupt("it does not begin with the magic"));
    }
    let version = u16::from_le_bytes(fields.take());
    let kind = u16::from_le_bytes(fields.take());
    let length = u32::from_le_bytes(fields.take()) as usize;
    let payload_check = u32::from_le_bytes(fields.take());
    let file = u64::from_le_bytes(fields.take());
    let sequence = u64::from_le_bytes(fields.take());
    let head_check = u32::from_le_bytes(fields.take());
    let covered = head.get(..HEAD_BYTES - 4).unwrap_or_default();
    if crc32c::crc32c(covered) != head_check {
        return Err(RecordError::Corrupt("its head does not match its checksum"));
    }
    if version != FRAME_VERSION {
        return Err(RecordError::Version(version));
    }
    if length > MAX_PAYLOAD_BYTES {
        return Err(RecordError::Corrupt("it is longer than any record"));
    }
    let payload = rest
        .get(..length)
        .ok_or(RecordError::Torn("its payload is cut"))?;
    if crc32c::crc32c(payload) != payload_check {
        return Err(RecordError::Torn("its payload does not match its checksum"));
    }
    Ok(Some(Record {
        kind,
        file,
        sequence,
        payload,
        bytes: HEAD_BYTES + length,
    }))
}

/// Takes fixed fields from the front of a head that was measured before.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_with_whatever_follows_it() {
        for payload in [&b""[..], b"x", &[7; 5000]] {
            let mut bytes = encode_record(3, 9, 42, payload);
            let len = bytes.len();
            bytes.extend_from_slice(b"more");
            let record = decode_record(&bytes).unwrap().unwrap();
            assert_eq!((record.kind, record.file, record.sequence), (3, 9, 42));
            assert_eq!((record.payload, record.bytes), (payload, len));
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(decode_record(&[]), Ok(None));
        assert_eq!(decode_record(&[0; 10]), Ok(None));
        assert_eq!(decode_record(&[0; 4096]), Ok(None));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode_record(1, 2, 3, b"some payload");
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_record(&bad).is_err(), "bit {bit}");
        }
        for cut in 1..bytes.len() {
            assert!(
                matches!(decode_record(&bytes[..cut]), Err(RecordError::Torn(_))),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn the_format_is_what_earlier_releases_wrote() {
        let golden =
            "484652210100020003000000b73f4b36050000000000000006000000000000009e306c04616263";
        let bytes = encode_record(2, 5, 6, b"abc");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
    }
}

//! What stands in a segment. `docs/formats.md` has the same in prose.
//!
//! A segment is a chain of extents without gaps: after its own first block, an
//! extent begins wherever the one before it ends. An extent is a header block,
//! room for the data, and room for the closing record, all aligned to 4 KiB.
//! Where an extent ends follows from the most bytes it was reserved for, which
//! its header says; so the closing record has a fixed place.

use holdfast_model::{FragmentHeader, FragmentId, ObjectKey, Timestamp};
use minicbor::{Decode, Encode};

use crate::record::{HEAD_BYTES, encode_record};

/// What extents are aligned to: the block of common file systems, so that
/// unused room can be given back.
pub const ALIGN: u64 = 4096;

/// Payload of a block, the unit that is verified: small enough that a range
/// costs little, large enough that checksums do not.
pub const BLOCK_BYTES: usize = 64 << 10;

/// What is read or written at once: bounds the memory of a stream.
pub const STRIPE_BYTES: usize = 256 << 10;

/// Room in a closing record for everything but its table: an object key of
/// 1,024 bytes, a header, and some to spare.
const CLOSING_FIXED_BYTES: u64 = 2048;

/// Record kinds 1 to 15 belong to segments and their index, others to the
/// Raft log.
pub(crate) mod kind {
    pub(crate) const SEGMENT: u16 = 1;
    pub(crate) const HEADER: u16 = 2;
    pub(crate) const CLOSING: u16 = 3;
    pub(crate) const FREE: u16 = 4;
    pub(crate) const INDEX_END: u16 = 5;
    pub(crate) const INDEX_CHANGES: u16 = 6;
    pub(crate) const INDEX_FREES: u16 = 7;
}

/// The first block of a segment.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct SegmentPayload {
    #[n(0)]
    pub number: u32,
    /// What the frames of this segment name as their file: random, so that no
    /// uploaded bytes can pass for a record, nor one of an earlier segment.
    #[n(1)]
    pub file: u64,
    #[n(2)]
    pub bytes: u64,
}

/// The first block of an extent that holds, or will hold, a fragment.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct HeaderPayload {
    /// Where it stands.
    #[n(0)]
    pub offset: u64,
    /// The most bytes that it has room for.
    #[n(1)]
    pub max_bytes: u64,
    /// All headers below this offset were durable when this was written.
    #[n(2)]
    pub durable_end: u64,
    #[n(3)]
    pub fragment: FragmentHeader,
}

/// The end of a fragment. It repeats the header, so that a fragment whose
/// header is damaged is still known by name.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct ClosingPayload {
    #[n(0)]
    pub offset: u64,
    #[n(1)]
    pub max_bytes: u64,
    #[n(2)]
    pub durable_end: u64,
    #[n(3)]
    pub fragment: FragmentHeader,
    #[n(4)]
    pub bytes: u64,
    /// crc32c of all the bytes.
    #[n(5)]
    pub checksum: u32,
    #[n(6)]
    pub key: Option<ObjectKey>,
    #[n(7)]
    pub expires: Option<Timestamp>,
    /// Four bytes, little-endian, for each block: [`block_check`].
    #[cbor(n(8), with = "minicbor::bytes")]
    pub table: Vec<u8>,
}

impl ClosingPayload {
    pub(crate) fn check(&self, block: u64) -> Option<u32> {
        let at = block as usize * 4;
        let bytes = self.table.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}

/// An extent that holds nothing any more.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct FreePayload {
    #[n(0)]
    pub offset: u64,
    #[n(1)]
    pub bytes: u64,
}

pub(crate) const fn align(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGN)
}

/// Room for the closing record of a fragment of at most `max_bytes`.
pub(crate) const fn closing_bytes(max_bytes: u64) -> u64 {
    let blocks = max_bytes.div_ceil(BLOCK_BYTES as u64);
    align(HEAD_BYTES as u64 + CLOSING_FIXED_BYTES + 4 * blocks)
}

/// Where, from the start of its extent, a closing record stands.
pub(crate) const fn closing_at(max_bytes: u64) -> u64 {
    ALIGN + align(max_bytes)
}

/// Bytes of the extent of a fragment of at most `max_bytes`.
pub const fn extent_bytes(max_bytes: u64) -> u64 {
    closing_at(max_bytes) + closing_bytes(max_bytes)
}

/// The checksum of a block: its bytes, then the fragment's name and the block's
/// number, so that a block read from the wrong place is told. `plain` is the
/// crc32c of the bytes alone.
pub(crate) fn block_check(plain: u32, id: &FragmentId, block: u64) -> u32 {
    let mut name = [0; 27];
    let parts = id.group.0.to_le_bytes().into_iter();
    let parts = parts
        .chain(*id.upload.as_bytes())
        .chain(id.chunk.to_le_bytes())
        .chain([id.index])
        .chain((block as u32).to_le_bytes());
    for (to, from) in name.iter_mut().zip(parts) {
        *to = from;
    }
    crc32c::crc32c_append(plain, &name)
}

/// A record, padded with zeros to whole blocks of [`ALIGN`].
pub(crate) fn padded_record(
    kind: u16,
    file: u64,
    sequence: u64,
    payload: &impl Encode<()>,
) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(512);
    if let Err(error) = minicbor::encode(payload, &mut encoded) {
        unreachable!("a Vec takes whatever these types encode to: {error}");
    }
    let mut record = encode_record(kind, file, sequence, &encoded);
    record.resize(align(record.len() as u64) as usize, 0);
    record
}

#[cfg(test)]
mod tests {
    use holdfast_model::{
        BucketId, ClusterId, Generation, GroupId, Redundancy, UploadId, VersionId,
    };

    use super::*;

    fn fragment() -> FragmentHeader {
        FragmentHeader {
            id: FragmentId {
                group: GroupId(3),
                upload: UploadId::from_bytes([4; 16]),
                chunk: 5,
                index: 6,
            },
            cluster: ClusterId::from_bytes([7; 16]),
            bucket: BucketId::from_bytes([8; 16]),
            version: VersionId::from_bytes([9; 16]),
            redundancy: Redundancy { data: 4, parity: 2 },
            stripe_bytes: 262_144,
            generation: Generation(10),
            encryption_key: None,
        }
    }

    fn shown(payload: &impl Encode<()>) -> String {
        let bytes = minicbor::to_vec(payload).unwrap();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn payloads_are_what_earlier_releases_wrote() {
        let segment = SegmentPayload {
            number: 1,
            file: 2,
            bytes: 1 << 20,
        };
        assert_eq!(shown(&segment), "8301021a00100000");
        let header = HeaderPayload {
            offset: 4096,
            max_bytes: 100_000,
            durable_end: 4096,
            fragment: fragment(),
        };
        assert_eq!(
            shown(&header),
            "841910001a000186a0191000878403500404040404040404040404040404040405065007070707070707070707070707070707500808080808080808080808080808080850090909090909090909090909090909098204021a000400000a"
        );
        let closing = ClosingPayload {
            offset: 4096,
            max_bytes: 100_000,
            durable_end: 4096,
            fragment: fragment(),
            bytes: 70_000,
            checksum: 0x0102_0304,
            key: ObjectKey::new("a/b").ok(),
            expires: Some(Timestamp(11)),
            table: vec![1, 2, 3, 4, 5, 6, 7, 8],
        };
        assert_eq!(
            shown(&closing),
            "891910001a000186a0191000878403500404040404040404040404040404040405065007070707070707070707070707070707500808080808080808080808080808080850090909090909090909090909090909098204021a000400000a1a000111701a0102030463612f620b480102030405060708"
        );
        let free = FreePayload {
            offset: 4096,
            bytes: 8192,
        };
        assert_eq!(shown(&free), "82191000192000");
    }

    #[test]
    fn places_and_checksums_are_what_earlier_releases_used() {
        assert_eq!((closing_at(0), extent_bytes(0)), (4096, 8192));
        assert_eq!((closing_at(1), extent_bytes(1)), (8192, 12_288));
        let chunk = 8 << 20;
        assert_eq!(extent_bytes(chunk), 4096 + chunk + 4096);
        let plain = crc32c::crc32c(b"a block");
        assert_eq!(
            format!("{:08x}", block_check(plain, &fragment().id, 1)),
            "265f79ad"
        );
    }

    #[test]
    fn a_header_and_a_free_record_fit_in_one_sector() {
        let mut longest = fragment();
        longest.id.group = GroupId(u16::MAX);
        longest.id.chunk = u32::MAX;
        longest.stripe_bytes = u32::MAX;
        longest.generation = Generation(u64::MAX);
        longest.encryption_key = Some(u64::MAX);
        let header = HeaderPayload {
            offset: u64::MAX,
            max_bytes: u64::MAX,
            durable_end: u64::MAX,
            fragment: longest,
        };
        let bytes = HEAD_BYTES + minicbor::to_vec(&header).unwrap().len();
        assert!(bytes <= 512, "{bytes}");
    }
}

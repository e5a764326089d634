//! What a metadata group keeps of an object.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::attributes::{ContentHeaders, PartSums, VersionKind};
use crate::fragment::FragmentId;
use crate::ids::{
    AccessKeyId, BucketId, DiskId, Generation, GroupId, Timestamp, UploadId, VersionId,
};
use crate::names::{FileName, ObjectKey};
use crate::redundancy::Redundancy;

/// The most bytes of an object that one chunk holds.
pub const MAX_CHUNK_BYTES: u64 = 8 << 20;
/// Bytes of each column of a stripe: the unit in which uploads are streamed.
pub const STRIPE_BYTES: u32 = 256 << 10;
/// Objects up to this size travel inside the metadata command.
pub const INLINE_LIMIT_BYTES: u64 = 16 << 10;

/// One version of an object.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct ObjectRecord {
    /// The bucket it lies in.
    #[n(0)]
    pub bucket: BucketId,
    /// Its name there.
    #[n(1)]
    pub key: ObjectKey,
    /// This version of it.
    #[n(2)]
    pub version: VersionId,
    /// Who uploaded it.
    #[n(3)]
    pub owner: AccessKeyId,
    /// When it was committed, by the group's time.
    #[n(4)]
    pub created: Timestamp,
    /// When it ends, if it does.
    #[n(5)]
    pub expires: Option<Timestamp>,
    /// What the bytes are.
    #[n(6)]
    pub content: Content,
    /// How they are stored.
    #[n(7)]
    pub representation: Representation,
    /// How often it may be downloaded; none means without limit.
    #[n(8)]
    pub downloads: Option<DownloadLimit>,
    /// An argon2id hash in PHC form, where a password is needed.
    #[n(9)]
    pub password: Option<String>,
    /// SHA-256 of the token that lets its holder delete the object.
    #[cbor(n(10), with = "minicbor::bytes")]
    pub delete_token: Option<[u8; 32]>,
    /// The uploader's own metadata.
    #[n(11)]
    pub metadata: BTreeMap<String, String>,
    /// Tags, as S3 has them.
    #[n(12)]
    pub tags: BTreeMap<String, String>,
    /// What workers made of it; dies with it.
    #[n(13)]
    pub derived: Vec<Derived>,
    /// Counts the changes of this record: what a cache may be keyed by.
    #[n(14)]
    pub revision: u64,
    /// What identified the request that made it (hash of its parameters and
    /// content), for a repeated `Idempotency-Key`.
    #[cbor(n(15), with = "minicbor::bytes")]
    pub fingerprint: Option<[u8; 32]>,
    /// What this version is to its object. The group says.
    #[n(16)]
    #[cbor(default)]
    pub kind: VersionKind,
    /// Headers that come back with the bytes.
    #[n(17)]
    #[cbor(default)]
    pub headers: ContentHeaders,
}

impl ObjectRecord {
    /// Whether the object has ended at `now`.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// What an object's bytes are, however they are stored.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Content {
    /// The name it was uploaded under.
    #[n(0)]
    pub filename: Option<FileName>,
    /// Its media type.
    #[n(1)]
    pub mime: String,
    /// Bytes.
    #[n(2)]
    pub size: u64,
    /// SHA-256 of the bytes.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub sha256: [u8; 32],
    /// The entity tag, without quotes.
    #[n(4)]
    pub etag: String,
    /// Further checksums, by the name of their algorithm.
    #[n(5)]
    pub checksums: BTreeMap<String, String>,
}

/// How stored bytes relate to an object's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Coding {
    /// They are the same.
    #[n(0)]
    Identity,
    /// Each chunk (or the inline data) is one zstd frame of its own.
    #[n(1)]
    Zstd,
}

/// Where the bytes are.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Representation {
    /// In the record itself.
    #[n(0)]
    Inline {
        /// The stored bytes.
        #[cbor(n(0), with = "crate::record::shared_bytes")]
        bytes: bytes::Bytes,
        /// How they are coded.
        #[n(1)]
        coding: Coding,
    },
    /// In chunks, which are rows of their own in the group.
    #[n(1)]
    Chunked {
        /// The parts, in the object's order.
        #[n(0)]
        parts: Vec<Part>,
        /// How the chunks are coded.
        #[n(1)]
        coding: Coding,
    },
}

impl Representation {
    /// The uploads that own this representation's chunks.
    pub fn uploads(&self) -> impl Iterator<Item = UploadId> + '_ {
        let parts = match self {
            Self::Inline { .. } => &[][..],
            Self::Chunked { parts, .. } => parts.as_slice(),
        };
        parts.iter().map(|part| part.upload)
    }

    /// How the stored bytes are coded.
    pub fn coding(&self) -> Coding {
        match self {
            Self::Inline { coding, .. } | Self::Chunked { coding, .. } => *coding,
        }
    }
}

/// A run of chunks that one upload wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Part {
    /// The upload that owns the chunks, numbered from 0.
    #[n(0)]
    pub upload: UploadId,
    /// How many.
    #[n(1)]
    pub chunks: u32,
    /// Bytes of the object in this part.
    #[n(2)]
    pub size: u64,
    /// Bytes of the object in each chunk of the part but the last, which may
    /// hold fewer: so that the chunk of an offset is a division.
    #[n(3)]
    pub chunk_bytes: u32,
    /// Checksums of the part's own bytes.
    #[n(4)]
    #[cbor(default)]
    pub sums: PartSums,
}

/// A unit of redundancy.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Chunk {
    /// Its number in the upload.
    #[n(0)]
    pub index: u32,
    /// Bytes of the object in it.
    #[n(1)]
    pub size: u32,
    /// Bytes of it as stored, before coding into fragments.
    #[n(2)]
    pub stored: u32,
    /// Its redundancy.
    #[n(3)]
    pub redundancy: Redundancy,
    /// Bytes of each column of a stripe.
    #[n(4)]
    pub stripe_bytes: u32,
    /// The group's clean-up generation under which its fragments were written.
    #[n(5)]
    pub generation: Generation,
    /// The fragments known to be durable, by index. The others are missing.
    #[n(6)]
    pub fragments: Vec<FragmentPlace>,
}

impl Chunk {
    /// How many fragments are not known to be durable.
    pub fn missing(&self) -> usize {
        self.redundancy
            .fragments()
            .saturating_sub(self.fragments.len())
    }
}

/// Where a fragment lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct FragmentPlace {
    /// Which of the chunk's fragments.
    #[n(0)]
    pub index: u8,
    /// The disk that holds it.
    #[n(1)]
    pub disk: DiskId,
}

impl FragmentPlace {
    /// The fragment's name.
    pub fn id(&self, group: GroupId, upload: UploadId, chunk: u32) -> FragmentId {
        FragmentId {
            group,
            upload,
            chunk,
            index: self.index,
        }
    }
}

/// How often an object may be downloaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct DownloadLimit {
    /// The limit.
    #[n(0)]
    pub limit: u32,
    /// What is left of it; each reservation takes one.
    #[n(1)]
    pub left: u32,
}

/// What a worker makes of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum DerivedKind {
    /// A small picture.
    #[n(0)]
    Thumbnail,
}

/// Something made of an object.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Derived {
    /// What it is.
    #[n(0)]
    pub kind: DerivedKind,
    /// Its bytes.
    #[n(1)]
    pub content: Content,
    /// Where they are.
    #[n(2)]
    pub representation: Representation,
}

/// Encodes `bytes::Bytes` as a CBOR byte string.
pub mod shared_bytes {
    use bytes::Bytes;
    use minicbor::decode::{Decoder, Error as DecodeError};
    use minicbor::encode::{Encoder, Error as EncodeError, Write};

    /// Writes a byte string.
    pub fn encode<C, W: Write>(
        bytes: &Bytes,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.bytes(bytes)?;
        Ok(())
    }

    /// Reads a byte string.
    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Bytes, DecodeError> {
        Ok(Bytes::copy_from_slice(d.bytes()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ObjectRecord {
        ObjectRecord {
            bucket: BucketId::from_bytes([1; 16]),
            key: ObjectKey::new("k").unwrap(),
            version: VersionId::from_bytes([2; 16]),
            owner: AccessKeyId::from_bytes([3; 16]),
            created: Timestamp(5),
            expires: None,
            content: Content {
                filename: None,
                mime: "m".to_owned(),
                size: 9,
                sha256: [4; 32],
                etag: "e".to_owned(),
                checksums: BTreeMap::new(),
            },
            representation: Representation::Chunked {
                parts: vec![Part {
                    upload: UploadId::from_bytes([6; 16]),
                    chunks: 1,
                    size: 9,
                    chunk_bytes: 9,
                    sums: PartSums::default(),
                }],
                coding: Coding::Identity,
            },
            downloads: None,
            password: None,
            delete_token: None,
            metadata: BTreeMap::new(),
            tags: BTreeMap::new(),
            derived: Vec::new(),
            revision: 1,
            fingerprint: None,
            kind: VersionKind::Null,
            headers: ContentHeaders::default(),
        }
    }

    /// What the first release wrote: no kind, no headers, parts of four fields.
    const FIRST: &str = "8f5001010101010101010101010101010101616b5002020202020202020202020202020202500303030303030303030303030303030305f686f6616d09582004040404040404040404040404040404040404040404040404040404040404046165a08201828184500606060606060606060606060606060601090900f6f6f6a0a08001";
    /// What is written now.
    const NOW: &str = "925001010101010101010101010101010101616b5002020202020202020202020202020202500303030303030303030303030303030305f686f6616d09582004040404040404040404040404040404040404040404040404040404040404046165a082018281855006060606060606060606060606060606010909a000f6f6f6a0a08001f60080";

    #[test]
    fn a_record_of_the_first_release_is_read() {
        let bytes = hex::decode(FIRST).unwrap();
        assert_eq!(minicbor::decode::<ObjectRecord>(&bytes).unwrap(), record());
    }

    #[test]
    fn a_record_is_written_as_these_bytes() {
        let bytes = minicbor::to_vec(record()).unwrap();
        assert_eq!(hex::encode(&bytes), NOW);
        assert_eq!(minicbor::decode::<ObjectRecord>(&bytes).unwrap(), record());
    }
}

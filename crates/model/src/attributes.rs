//! What a version of an object carries beside its bytes, as S3 has it, and how
//! much of it there may be.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::record::ObjectRecord;

/// The most bytes of an uploader's own metadata, names and values together: S3's.
pub const MAX_METADATA_BYTES: usize = 2 << 10;
/// The most tags of an object: S3's.
pub const MAX_TAGS: usize = 10;
/// The longest name of a tag, in characters: S3's.
pub const MAX_TAG_NAME_CHARS: usize = 128;
/// The longest value of a tag, in characters: S3's.
pub const MAX_TAG_VALUE_CHARS: usize = 256;
/// The longest content header, in bytes.
pub const MAX_HEADER_BYTES: usize = 1 << 10;
/// The most further checksums: one of each algorithm that there is, and room.
pub const MAX_CHECKSUMS: usize = 8;

/// What a version is to its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum VersionKind {
    /// The null version: there is one at most, and a commit without versions
    /// replaces it.
    #[default]
    #[n(0)]
    Null,
    /// A version that stays beside others.
    #[n(1)]
    Numbered,
    /// A marker in the place of the null version: the object is deleted.
    #[n(2)]
    NullMarker,
    /// A marker that stays beside versions: the object is deleted.
    #[n(3)]
    Marker,
}

impl VersionKind {
    /// Whether it says that the object is deleted.
    pub fn is_marker(self) -> bool {
        matches!(self, Self::NullMarker | Self::Marker)
    }

    /// Whether it takes the null version's place.
    pub fn is_null(self) -> bool {
        matches!(self, Self::Null | Self::NullMarker)
    }
}

/// Headers that come back with the bytes, as they were given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct ContentHeaders {
    /// `Content-Encoding`.
    #[n(0)]
    pub encoding: Option<String>,
    /// `Content-Disposition`.
    #[n(1)]
    pub disposition: Option<String>,
    /// `Cache-Control`.
    #[n(2)]
    pub cache_control: Option<String>,
    /// `Content-Language`.
    #[n(3)]
    pub language: Option<String>,
    /// `Expires`: for caches, the object itself stays.
    #[n(4)]
    pub expires: Option<String>,
}

/// Checksums of one part's bytes, those that its uploader asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct PartSums {
    /// MD5, of which S3 makes entity tags.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub md5: Option<[u8; 16]>,
    /// CRC-32.
    #[n(1)]
    pub crc32: Option<u32>,
    /// CRC-32C.
    #[n(2)]
    pub crc32c: Option<u32>,
    /// CRC-64/NVME.
    #[n(3)]
    pub crc64nvme: Option<u64>,
    /// SHA-1.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub sha1: Option<[u8; 20]>,
    /// SHA-256.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub sha256: Option<[u8; 32]>,
}

/// Whether a record carries no more than it may.
///
/// # Errors
/// A sentence that says what is too much.
pub fn check_attributes(record: &ObjectRecord) -> Result<(), String> {
    let bytes = |map: &BTreeMap<String, String>| -> usize {
        map.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    };
    if bytes(&record.metadata) > MAX_METADATA_BYTES {
        return Err(format!(
            "the metadata has more than {MAX_METADATA_BYTES} bytes"
        ));
    }
    check_tags(&record.tags)?;
    let checksums = &record.content.checksums;
    if checksums.len() > MAX_CHECKSUMS || bytes(checksums) > MAX_METADATA_BYTES {
        return Err("there are too many checksums".to_owned());
    }
    let headers = &record.headers;
    let all = [
        &headers.encoding,
        &headers.disposition,
        &headers.cache_control,
        &headers.language,
        &headers.expires,
    ];
    let own = [&record.content.mime, &record.content.etag];
    let longest = all.into_iter().flatten().chain(own).map(String::len).max();
    if longest > Some(MAX_HEADER_BYTES) {
        return Err(format!(
            "a content header has more than {MAX_HEADER_BYTES} bytes"
        ));
    }
    Ok(())
}

/// Whether there are no more tags than there may be.
///
/// # Errors
/// A sentence that says what is too much.
pub fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), String> {
    if tags.len() > MAX_TAGS {
        return Err(format!("there are more than {MAX_TAGS} tags"));
    }
    let bad = |(name, value): (&String, &String)| {
        name.is_empty()
            || name.chars().count() > MAX_TAG_NAME_CHARS
            || value.chars().count() > MAX_TAG_VALUE_CHARS
    };
    if tags.iter().any(bad) {
        return Err(format!(
            "a tag has a name of 1 to {MAX_TAG_NAME_CHARS} characters and a value of at most {MAX_TAG_VALUE_CHARS}"
        ));
    }
    Ok(())
}

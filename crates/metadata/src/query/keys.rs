//! Listings by object key, as S3 has them.

use holdfast_model::{AccessKeyId, BucketId, ObjectKey, Timestamp, VersionId, VersionKind};
use minicbor::{Decode, Encode};

/// The longest delimiter, in bytes.
pub const MAX_DELIMITER_BYTES: usize = 64;

/// Asks for a page of a bucket's keys.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ListKeys {
    /// The bucket.
    #[n(0)]
    pub bucket: BucketId,
    /// Only keys that begin so.
    #[n(1)]
    pub prefix: String,
    /// Keys that are alike up to this, after the prefix, are one entry.
    #[n(2)]
    pub delimiter: Option<String>,
    /// From after this on.
    #[n(3)]
    pub after: Option<KeyCursor>,
    /// At most so many entries, and at most [`MAX_PAGE`](super::MAX_PAGE).
    #[n(4)]
    pub limit: u32,
    /// All versions and markers, newest first in each key, and not the objects
    /// that can be had.
    #[n(5)]
    pub versions: bool,
}

/// A page of keys.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct KeyPage {
    /// In the order of the bytes of their names.
    #[n(0)]
    pub entries: Vec<KeyEntry>,
    /// Where to go on; none at the end. All entries up to there are in the
    /// page, which may have fewer than were asked for, or none.
    #[n(1)]
    pub next: Option<KeyCursor>,
}

/// A place in a listing by key.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum KeyCursor {
    /// After all versions of this key. It need be no key that there is.
    #[n(0)]
    Key(#[n(0)] String),
    /// After one version of this key, by its number.
    #[n(1)]
    Version {
        /// The key.
        #[n(0)]
        key: String,
        /// [`ListedObject::sequence`].
        #[n(1)]
        sequence: u64,
    },
    /// After all keys that begin so.
    #[n(2)]
    Prefix(#[n(0)] String),
}

impl KeyCursor {
    /// The key or prefix.
    pub fn name(&self) -> &str {
        match self {
            Self::Key(name) | Self::Version { key: name, .. } | Self::Prefix(name) => name,
        }
    }

    /// What sorts places: the name, then newer versions first, whole keys last.
    pub fn order(&self) -> (&str, u64) {
        match self {
            Self::Version { key, sequence } => (key, !sequence),
            Self::Key(name) | Self::Prefix(name) => (name, u64::MAX),
        }
    }
}

/// An entry of a listing by key.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum KeyEntry {
    /// An object, or a version or marker of one.
    #[n(0)]
    Object(#[n(0)] Box<ListedObject>),
    /// The common beginning of keys, up to and with the delimiter.
    #[n(1)]
    Prefix(#[n(0)] String),
}

impl KeyEntry {
    /// The place right after it; `versions` as it was asked.
    pub fn cursor(&self, versions: bool) -> KeyCursor {
        match self {
            Self::Prefix(prefix) => KeyCursor::Prefix(prefix.clone()),
            Self::Object(object) if versions => KeyCursor::Version {
                key: object.key.as_str().to_owned(),
                sequence: object.sequence,
            },
            Self::Object(object) => KeyCursor::Key(object.key.as_str().to_owned()),
        }
    }
}

/// What a listing says of an object.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct ListedObject {
    /// Its key.
    #[n(0)]
    pub key: ObjectKey,
    /// The version.
    #[n(1)]
    pub version: VersionId,
    /// What the version is to the object.
    #[n(2)]
    pub kind: VersionKind,
    /// Whether it is the current one.
    #[n(3)]
    pub current: bool,
    /// When it was made.
    #[n(4)]
    pub created: Timestamp,
    /// Bytes.
    #[n(5)]
    pub size: u64,
    /// The entity tag, without quotes.
    #[n(6)]
    pub etag: String,
    /// Whose it is.
    #[n(7)]
    pub owner: AccessKeyId,
    /// Its number among the versions of its group: later ones are higher.
    #[n(8)]
    pub sequence: u64,
}

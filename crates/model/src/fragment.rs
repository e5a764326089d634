//! Fragments: the pieces of chunks that disks hold.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::ids::{BucketId, ClusterId, Generation, GroupId, UploadId, VersionId};
use crate::redundancy::Redundancy;

/// A fragment's name. Fragments sort by group, then upload, chunk and index,
/// which is the order of a census.
///
/// As text: `{group:04x}-{upload}-{chunk:08x}-{index:02x}`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(array)]
pub struct FragmentId {
    /// The metadata group that refers to it.
    #[n(0)]
    pub group: GroupId,
    /// The upload that wrote it.
    #[n(1)]
    pub upload: UploadId,
    /// Which chunk of the upload.
    #[n(2)]
    pub chunk: u32,
    /// Which of the chunk's fragments.
    #[n(3)]
    pub index: u8,
}

/// Into how many ranges a census divides a group's fragments: by the first
/// byte of the upload's id, which is random.
pub const CENSUS_RANGES: usize = 256;

impl FragmentId {
    /// What a census sums up, by exclusive or, to compare many fragments at
    /// once: XXH3 (64 bits, without a seed) of the name's 23 bytes, which are
    /// the group (2, little-endian), upload (16), chunk (4, little-endian) and
    /// index. It is on disk, and never changes.
    pub fn digest(&self) -> u64 {
        let mut name = [0; 23];
        let parts = self.group.0.to_le_bytes().into_iter();
        let parts = parts
            .chain(*self.upload.as_bytes())
            .chain(self.chunk.to_le_bytes())
            .chain([self.index]);
        for (to, from) in name.iter_mut().zip(parts) {
            *to = from;
        }
        xxhash_rust::xxh3::xxh3_64(&name)
    }

    /// In which of the [`CENSUS_RANGES`] the fragment is counted.
    pub fn census_range(&self) -> u8 {
        census_range(self.upload)
    }
}

/// In which of the [`CENSUS_RANGES`] an upload's fragments are counted.
pub fn census_range(upload: UploadId) -> u8 {
    let [first, ..] = *upload.as_bytes();
    first
}

impl fmt::Display for FragmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}-{}-{:08x}-{:02x}",
            self.group.0, self.upload, self.chunk, self.index
        )
    }
}

/// A fragment's name that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fragment's name reads gggg-<32 digits>-cccccccc-ii in lower-case hexadecimal")]
pub struct ParseFragmentError;

impl FromStr for FragmentId {
    type Err = ParseFragmentError;

    fn from_str(text: &str) -> Result<Self, ParseFragmentError> {
        let mut parts = text.split('-');
        let mut next = |digits: usize| {
            let ok = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            parts
                .next()
                .filter(|p| p.len() == digits && p.bytes().all(ok))
                .ok_or(ParseFragmentError)
        };
        let number = |p: &str| u32::from_str_radix(p, 16).map_err(|_| ParseFragmentError);
        let group = number(next(4)?)?;
        let upload = next(32)?.parse().map_err(|_| ParseFragmentError)?;
        let chunk = number(next(8)?)?;
        let index = number(next(2)?)?;
        if parts.next().is_some() {
            return Err(ParseFragmentError);
        }
        Ok(Self {
            group: GroupId(group as u16),
            upload,
            chunk,
            index: index as u8,
        })
    }
}

/// What a fragment says of itself on disk, written before its first byte.
/// Its size, hash, key and expiry follow in a closing record, since they are
/// known only at the end of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct FragmentHeader {
    /// Its name.
    #[n(0)]
    pub id: FragmentId,
    /// The cluster it belongs to.
    #[n(1)]
    pub cluster: ClusterId,
    /// The object's bucket.
    #[n(2)]
    pub bucket: BucketId,
    /// The object's version.
    #[n(3)]
    pub version: VersionId,
    /// The chunk's redundancy.
    #[n(4)]
    pub redundancy: Redundancy,
    /// Bytes of each column of a stripe.
    #[n(5)]
    pub stripe_bytes: u32,
    /// The group's clean-up generation when the upload began.
    #[n(6)]
    pub generation: Generation,
    /// The key that the data is encrypted with; none until encryption comes.
    #[n(7)]
    pub encryption_key: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_name_never_changes() {
        let id = FragmentId {
            group: GroupId(3),
            upload: UploadId::from_bytes([0xab; 16]),
            chunk: 17,
            index: 2,
        };
        assert_eq!(format!("{:016x}", id.digest()), "b98f6e1ba80a64fb");
        assert_eq!(id.census_range(), 0xab);
    }

    #[test]
    fn a_fragment_is_read_back_from_its_name() {
        let id = FragmentId {
            group: GroupId(3),
            upload: UploadId::from_bytes([0xab; 16]),
            chunk: 17,
            index: 2,
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 49);
        for bad in [
            "",
            "..",
            "0003-x",
            "../../etc/passwd",
            &format!("{id}-00"),
            &id.to_string().to_uppercase(),
        ] {
            assert!(bad.parse::<FragmentId>().is_err(), "{bad:?} was taken");
        }
    }
}

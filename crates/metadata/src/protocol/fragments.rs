//! Calls about fragments.

use holdfast_model::{
    DiskId, FragmentHeader, FragmentId, Generation, GroupId, ObjectKey, Timestamp,
};
use minicbor::{Decode, Encode};

/// Stores a fragment. The body is blocks: each the length (4 bytes,
/// big-endian) and CRC-32C (4 bytes) of up to [`BLOCK_BYTES`], then those.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct UploadRequest {
    /// The disk that is meant.
    #[n(0)]
    pub disk: DiskId,
    /// The fragment.
    #[n(1)]
    pub header: FragmentHeader,
    /// The most bytes it may have: so much is reserved.
    #[n(2)]
    pub max_bytes: u64,
    /// The object's key, for the closing record.
    #[n(3)]
    pub key: Option<ObjectKey>,
    /// The object's expiry, for the closing record.
    #[n(4)]
    pub expires: Option<Timestamp>,
    /// Whether it is a copy that repair or drain makes, which nobody waits for.
    /// Earlier releases do not say.
    #[n(5)]
    #[cbor(default)]
    pub copy: bool,
}

/// Bytes of a block: the unit that is checksummed on disk and on the way.
pub const BLOCK_BYTES: usize = 64 << 10;

/// A fragment is durable.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Uploaded {
    /// Its bytes.
    #[n(0)]
    pub bytes: u64,
    /// Of a copy: whether those who serve clients wait for the disk meanwhile.
    /// Earlier releases do not say.
    #[n(1)]
    pub pressed: Option<bool>,
}

/// Reads a fragment.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct DownloadRequest {
    /// The disk that is meant.
    #[n(0)]
    pub disk: DiskId,
    /// The fragment.
    #[n(1)]
    pub id: FragmentId,
    /// The first byte wanted; the answer begins at the block that holds it.
    #[n(2)]
    pub first: u64,
    /// The byte after the last one wanted; the answer ends with the block that
    /// holds the last.
    #[n(3)]
    pub end: u64,
    /// Whether it is read to be copied: then [`Download::carried`] is told, and
    /// nobody waits for it. Earlier releases do not ask.
    #[n(4)]
    #[cbor(default)]
    pub copy: bool,
}

/// A fragment, or a part of it, follows as blocks, as in [`UploadRequest`].
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Download {
    /// The whole fragment's bytes.
    #[n(0)]
    pub bytes: u64,
    /// Where the first block begins.
    #[n(1)]
    pub first: u64,
    /// Its generation.
    #[n(2)]
    pub generation: Generation,
    /// Of one that is to be copied: what it carries. Earlier releases do not say.
    #[n(3)]
    pub carried: Option<Box<Carried>>,
    /// Likewise, as in [`Uploaded::pressed`].
    #[n(4)]
    pub pressed: Option<bool>,
}

/// What a fragment carries beside its bytes, as it stands on the disk.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Carried {
    /// Its header.
    #[n(0)]
    pub header: FragmentHeader,
    /// The object's key, of the closing record.
    #[n(1)]
    pub key: Option<ObjectKey>,
    /// The object's expiry, of the closing record.
    #[n(2)]
    pub expires: Option<Timestamp>,
}

/// Fragments to delete from a disk.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct FragmentIds {
    /// The disk that is meant.
    #[n(0)]
    pub disk: DiskId,
    /// The fragments, at most 1,000.
    #[n(1)]
    pub ids: Vec<FragmentId>,
    /// Only those of a generation below this one: a repair may have written a
    /// fragment of the same name anew since the caller looked.
    #[n(2)]
    pub below: Option<Generation>,
}

/// How many of them were there. All are gone now, durably.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Deleted {
    /// How many.
    #[n(0)]
    pub count: u32,
}

/// A page of a disk's fragments in order.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct FilesRequest {
    /// The disk that is meant; without one, the node's.
    #[n(0)]
    pub disk: Option<DiskId>,
    /// From after this one on.
    #[n(1)]
    pub after: Option<FragmentId>,
    /// Up to this one, exclusive.
    #[n(2)]
    pub before: Option<FragmentId>,
    /// At most so many.
    #[n(3)]
    pub limit: u32,
}

/// Fragments.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Files {
    /// The disk.
    #[n(0)]
    pub disk: DiskId,
    /// The page.
    #[n(1)]
    pub files: Vec<FileEntry>,
    /// Whether there are more.
    #[n(2)]
    pub more: bool,
}

/// Asks what a disk holds of a group, summed up.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct DigestsRequest {
    /// The disk that is meant.
    #[n(0)]
    pub disk: DiskId,
    /// The group.
    #[n(1)]
    pub group: GroupId,
}

/// What a disk holds of a group, by range of upload ids.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Digests {
    /// The disk.
    #[n(0)]
    pub disk: DiskId,
    /// The ranges that are not empty, in order.
    #[n(1)]
    pub ranges: Vec<RangeDigest>,
}

/// What a disk holds of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct RangeDigest {
    /// Which ([`census_range`](holdfast_model::fragment::census_range)).
    #[n(0)]
    pub range: u8,
    /// How many fragments, corrupt ones too.
    #[n(1)]
    pub fragments: u64,
    /// The exclusive or of the digests of the names of those that are not
    /// known to be corrupt ([`FragmentId::digest`]).
    #[n(2)]
    pub names: u64,
}

/// A fragment as its disk knows it.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct FileEntry {
    /// Its name.
    #[n(0)]
    pub id: FragmentId,
    /// Its generation.
    #[n(1)]
    pub generation: Generation,
    /// Its bytes.
    #[n(2)]
    pub bytes: u64,
    /// Whether a read of it has failed.
    #[n(3)]
    pub corrupt: bool,
}

#[cfg(test)]
mod tests {
    use holdfast_model::{BucketId, ClusterId, Redundancy, UploadId, VersionId};

    use super::*;
    use crate::protocol::{decode, encode};

    const DISK: DiskId = DiskId::from_bytes([1; 16]);

    fn header() -> FragmentHeader {
        FragmentHeader {
            id: FragmentId {
                group: GroupId(3),
                upload: UploadId::from_bytes([4; 16]),
                chunk: 5,
                index: 1,
            },
            cluster: ClusterId::from_bytes([7; 16]),
            bucket: BucketId::from_bytes([8; 16]),
            version: VersionId::from_bytes([9; 16]),
            redundancy: Redundancy::copies(3),
            stripe_bytes: 262_144,
            generation: Generation(10),
            encryption_key: Some(12),
        }
    }

    fn shown(value: &impl Encode<()>) -> String {
        encode(value).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The same calls as releases write them that copy nothing but bytes.
    #[derive(Clone, PartialEq, Debug, Encode, Decode)]
    struct EarlierUpload(
        #[n(0)] DiskId,
        #[n(1)] FragmentHeader,
        #[n(2)] u64,
        #[n(3)] Option<ObjectKey>,
        #[n(4)] Option<Timestamp>,
    );
    #[derive(Clone, PartialEq, Debug, Encode, Decode)]
    struct EarlierRead(#[n(0)] DiskId, #[n(1)] FragmentId, #[n(2)] u64, #[n(3)] u64);
    #[derive(Clone, PartialEq, Debug, Encode, Decode)]
    struct EarlierDownload(#[n(0)] u64, #[n(1)] u64, #[n(2)] Generation);
    #[derive(Clone, PartialEq, Debug, Encode, Decode)]
    struct EarlierUploaded(#[n(0)] u64);

    #[test]
    fn calls_are_read_by_and_from_releases_that_do_not_tell_what_a_fragment_carries() {
        let earlier = EarlierUpload(DISK, header(), 70, None, Some(Timestamp(2)));
        let mut upload: UploadRequest = decode(&encode(&earlier)).unwrap();
        assert!(!upload.copy);
        upload.copy = true;
        assert_eq!(decode::<UploadRequest>(&encode(&upload)).unwrap(), upload);
        assert_eq!(decode::<EarlierUpload>(&encode(&upload)).unwrap(), earlier);

        let earlier = EarlierRead(DISK, header().id, 0, 70);
        let mut read: DownloadRequest = decode(&encode(&earlier)).unwrap();
        assert!(!read.copy);
        read.copy = true;
        assert_eq!(decode::<DownloadRequest>(&encode(&read)).unwrap(), read);
        assert_eq!(decode::<EarlierRead>(&encode(&read)).unwrap(), earlier);

        let earlier = EarlierDownload(70, 0, Generation(10));
        let mut download: Download = decode(&encode(&earlier)).unwrap();
        assert_eq!((&download.carried, download.pressed), (&None, None));
        download.carried = Some(Box::new(Carried {
            header: header(),
            key: ObjectKey::new("a/b").ok(),
            expires: Some(Timestamp(11)),
        }));
        download.pressed = Some(true);
        assert_eq!(decode::<Download>(&encode(&download)).unwrap(), download);
        assert_eq!(
            decode::<EarlierDownload>(&encode(&download)).unwrap(),
            earlier
        );

        let earlier = EarlierUploaded(70);
        let mut uploaded: Uploaded = decode(&encode(&earlier)).unwrap();
        assert_eq!(uploaded.pressed, None);
        uploaded.pressed = Some(false);
        assert_eq!(
            decode::<EarlierUploaded>(&encode(&uploaded)).unwrap(),
            earlier
        );
    }

    #[test]
    fn what_a_fragment_carries_is_written_so_from_its_first_release_on() {
        let download = Download {
            bytes: 70,
            first: 0,
            generation: Generation(10),
            carried: Some(Box::new(Carried {
                header: header(),
                key: ObjectKey::new("a/b").ok(),
                expires: Some(Timestamp(11)),
            })),
            pressed: Some(true),
        };
        assert_eq!(
            shown(&download),
            "851846000a83888403500404040404040404040404040404040405015007070707070707070707070707070707500808080808080808080808080808080850090909090909090909090909090909098201021a000400000a0c63612f620bf5"
        );
    }
}

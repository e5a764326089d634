//! What a group says for a census: of each range of its uploads, how much
//! there is and which fragments each disk should hold, summed up.

use holdfast_model::{Chunk, DiskId, GroupId, UploadId};
use minicbor::{Decode, Encode};

/// What the rows of a range of uploads come to
/// ([`census_range`](holdfast_model::fragment::census_range)). Kept with every
/// change, so that a census need not read the rows of what is as it should be.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct RangeSums {
    /// Which range.
    #[n(0)]
    pub range: u8,
    /// Committed uploads with chunks.
    #[n(1)]
    pub objects: u64,
    /// Their chunks.
    #[n(2)]
    pub chunks: u64,
    /// Chunks that are listed as degraded.
    #[n(3)]
    pub degraded: u64,
    /// The fragments that chunks refer to, of running uploads too; disks
    /// without any are left out. In the order of the disks.
    #[n(4)]
    pub disks: Vec<DiskSum>,
}

/// Fragments that chunks refer to on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct DiskSum {
    /// The disk.
    #[n(0)]
    pub disk: DiskId,
    /// How many.
    #[n(1)]
    pub fragments: u64,
    /// The exclusive or of their names' digests
    /// ([`FragmentId::digest`](holdfast_model::FragmentId::digest)).
    #[n(2)]
    pub names: u64,
}

impl RangeSums {
    /// The sums of a range without anything.
    pub fn of(range: u8) -> Self {
        Self {
            range,
            ..Self::default()
        }
    }

    /// Whether nothing is in the range.
    pub fn is_empty(&self) -> bool {
        *self == Self::of(self.range)
    }

    /// Counts the fragments of a chunk.
    pub fn add(&mut self, group: GroupId, upload: UploadId, chunk: &Chunk) {
        self.change(group, upload, chunk, 1);
    }

    /// No longer counts the fragments of a chunk.
    pub fn remove(&mut self, group: GroupId, upload: UploadId, chunk: &Chunk) {
        self.change(group, upload, chunk, u64::MAX);
    }

    /// Sums wrap, so that what a group of an earlier release has not counted
    /// only makes its range look different from the disks: it is walked then.
    fn change(&mut self, group: GroupId, upload: UploadId, chunk: &Chunk, by: u64) {
        for place in &chunk.fragments {
            let digest = place.id(group, upload, chunk.index).digest();
            let at = self
                .disks
                .binary_search_by(|sum| sum.disk.cmp(&place.disk))
                .unwrap_or_else(|at| {
                    let disk = place.disk;
                    let (fragments, names) = (0, 0);
                    self.disks.insert(
                        at,
                        DiskSum {
                            disk,
                            fragments,
                            names,
                        },
                    );
                    at
                });
            if let Some(sum) = self.disks.get_mut(at) {
                sum.fragments = sum.fragments.wrapping_add(by);
                sum.names ^= digest;
            }
        }
        self.disks
            .retain(|sum| sum.fragments != 0 || sum.names != 0);
    }
}

#[cfg(test)]
mod tests {
    use holdfast_model::{FragmentPlace, Generation, Redundancy};

    use super::*;

    #[test]
    fn sums_are_on_disk_what_earlier_releases_wrote() {
        let place = |index, disk| FragmentPlace {
            index,
            disk: DiskId::from_bytes([disk; 16]),
        };
        let chunk = |fragments| Chunk {
            index: 17,
            size: 1,
            stored: 1,
            redundancy: Redundancy::copies(3),
            stripe_bytes: 1,
            generation: Generation(1),
            fragments,
        };
        let (group, upload) = (GroupId(3), UploadId::from_bytes([0xab; 16]));
        let mut sums = RangeSums::of(0xab);
        sums.objects = 1;
        sums.chunks = 2;
        sums.degraded = 3;
        sums.add(group, upload, &chunk(vec![place(0, 7), place(2, 5)]));
        sums.add(group, upload, &chunk(vec![place(1, 7)]));
        sums.remove(group, upload, &chunk(vec![place(0, 7), place(1, 7)]));
        let mut bytes = Vec::new();
        minicbor::encode(&sums, &mut bytes).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let disk = "05".repeat(16);
        // The digest of one name is that of the model's golden test.
        let expected = format!("8518ab010203818350{disk}011bb98f6e1ba80a64fb");
        assert_eq!(hex, expected);
        assert_eq!(minicbor::decode::<RangeSums>(&bytes).unwrap(), sums);
    }
}

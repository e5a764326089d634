//! The store as a map: what the engine is compared with.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use holdfast_model::{FragmentHeader, FragmentId, Generation, GroupId};

use crate::digest::{Digest, fragment_hash};
use crate::store::FragmentStore;
use crate::{
    BLOCK_BYTES, Closing, DeleteError, FragmentEntry, FragmentState, IndexError, ReadError,
    WriteError, Written,
};

/// A fragment.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Kept {
    pub generation: Generation,
    pub data: Bytes,
    /// A block that rots on disk, and whether somebody has seen it.
    pub rotten: Option<u64>,
    pub seen: bool,
}

#[derive(Default)]
pub(super) struct Reference {
    map: Mutex<BTreeMap<FragmentId, Kept>>,
}

impl Reference {
    pub(super) fn map(&self) -> MutexGuard<'_, BTreeMap<FragmentId, Kept>> {
        self.map.lock().unwrap()
    }
}

impl FragmentStore for Reference {
    async fn write(
        &self,
        header: FragmentHeader,
        pieces: Vec<Bytes>,
        _: Closing,
    ) -> Result<Written, WriteError> {
        let mut data = BytesMut::new();
        for piece in pieces {
            data.extend_from_slice(&piece);
        }
        let data = data.freeze();
        let mut written = Written {
            bytes: data.len() as u64,
            checksum: crc32c::crc32c(&data),
            existed: false,
        };
        let mut map = self.map();
        if let Some(old) = map.get(&header.id).filter(|old| !old.seen) {
            if old.data != data {
                return Err(WriteError::Exists(header.id));
            }
            if old.generation >= header.generation && old.rotten.is_none() {
                written.existed = true;
                return Ok(written);
            }
        }
        let kept = Kept {
            generation: header.generation,
            data,
            rotten: None,
            seen: false,
        };
        map.insert(header.id, kept);
        Ok(written)
    }

    async fn read_range(&self, id: FragmentId, range: Range<u64>) -> Result<Bytes, ReadError> {
        let mut map = self.map();
        let kept = map.get_mut(&id).ok_or(ReadError::NotFound(id))?;
        let bytes = kept.data.len() as u64;
        if range.start > bytes {
            let start = range.start;
            return Err(ReadError::Range { start, bytes });
        }
        let range = range.start..range.end.clamp(range.start, bytes);
        let block = BLOCK_BYTES as u64;
        let blocks = range.start / block..range.end.div_ceil(block);
        if !range.is_empty() && kept.rotten.is_some_and(|bad| blocks.contains(&bad)) {
            kept.seen = true;
            let what = "a rotten block".into();
            return Err(ReadError::Corrupt { id, what });
        }
        Ok(kept.data.slice(range.start as usize..range.end as usize))
    }

    async fn remove(&self, id: FragmentId, below: Option<Generation>) -> Result<bool, DeleteError> {
        let mut map = self.map();
        let there = map
            .get(&id)
            .is_some_and(|kept| below.is_none_or(|below| kept.generation < below));
        if there {
            map.remove(&id);
        }
        Ok(there)
    }

    async fn page(
        &self,
        after: Option<FragmentId>,
        limit: usize,
    ) -> Result<Vec<FragmentEntry>, IndexError> {
        let map = self.map();
        let rows = map.iter().filter(|(id, _)| after.is_none_or(|a| **id > a));
        let entries = rows.map(|(id, kept)| FragmentEntry {
            id: *id,
            generation: kept.generation,
            bytes: kept.data.len() as u64,
            state: if kept.seen {
                FragmentState::Corrupt
            } else {
                FragmentState::Whole
            },
        });
        Ok(entries.take(limit).collect())
    }

    fn group_digests(&self, group: GroupId) -> BTreeMap<u8, Digest> {
        let mut ranges: BTreeMap<u8, Digest> = BTreeMap::new();
        for (id, kept) in self.map().iter().filter(|(id, _)| id.group == group) {
            let range = ranges.entry(id.upload.as_bytes()[0]).or_default();
            *range = range.with(Digest {
                fragments: 1,
                sum: fragment_hash(id, kept.generation.0, kept.seen),
                names: if kept.seen { 0 } else { id.digest() },
            });
        }
        ranges
    }
}

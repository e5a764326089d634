//! What has changed since a base, in memory: rows as the index's files have
//! them, in sorted chunks. A map of rows took 82 bytes for each and left the
//! allocator with nodes all over its heaps; this takes some 57, in pieces that
//! are few and alike.

use std::cmp::Ordering;

use holdfast_model::FragmentId;

use super::Location;
use super::entry::{ENTRY_BYTES, NAME_BYTES, decode_entry, encode_entry, encode_name};
use super::journal::Change;

/// Rows of a chunk, at most: 13 KiB, of which half moves when a row comes in
/// between.
const CHUNK_ROWS: usize = 256;
/// Room that a full chunk gets more of: a part of it is all that is unused.
const GROW_ROWS: usize = 16;

/// Changed rows by name; `None` for what is gone.
#[derive(Clone, Default)]
pub(crate) struct Delta {
    /// None of them empty, in order.
    chunks: Vec<Chunk>,
    len: usize,
}

/// Rows one after the other, in order.
#[derive(Clone, Default)]
struct Chunk(Vec<u8>);

/// Where a walk over the rows stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Position {
    chunk: usize,
    row: usize,
}

impl Chunk {
    fn len(&self) -> usize {
        self.0.len() / ENTRY_BYTES
    }

    fn row(&self, row: usize) -> Option<&[u8]> {
        self.0.get(row * ENTRY_BYTES..(row + 1) * ENTRY_BYTES)
    }

    /// The row of a name, or where it would be.
    fn find(&self, name: &[u8; NAME_BYTES]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let row = self.row(middle).unwrap_or_default();
            match row.get(..NAME_BYTES).unwrap_or_default().cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    fn insert(&mut self, row: usize, bytes: &[u8]) {
        let rows = &mut self.0;
        if rows.capacity() - rows.len() < ENTRY_BYTES {
            rows.reserve_exact(GROW_ROWS * ENTRY_BYTES);
        }
        let at = row * ENTRY_BYTES;
        let end = rows.len();
        rows.resize(end + ENTRY_BYTES, 0);
        rows.copy_within(at..end, at + ENTRY_BYTES);
        self.set(row, bytes);
    }

    fn set(&mut self, row: usize, bytes: &[u8]) {
        let place = self.0.get_mut(row * ENTRY_BYTES..(row + 1) * ENTRY_BYTES);
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }
}

impl Delta {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The chunk that holds a name if any does.
    fn chunk_of(&self, name: &[u8; NAME_BYTES]) -> usize {
        let begins_at_or_before = |chunk: &Chunk| {
            chunk
                .0
                .get(..NAME_BYTES)
                .is_some_and(|first| first <= name.as_slice())
        };
        let after = self.chunks.partition_point(begins_at_or_before);
        after.saturating_sub(1)
    }

    /// What has become of a fragment; the outer `None` when it has not changed.
    pub(crate) fn get(&self, id: &FragmentId) -> Option<Option<Location>> {
        let name = encode_name(id);
        let chunk = self.chunks.get(self.chunk_of(&name))?;
        let row = chunk.find(&name).ok()?;
        decode_entry(chunk.row(row)?).map(|(_, at)| at)
    }

    pub(crate) fn insert(&mut self, id: FragmentId, at: Option<Location>) {
        let name = encode_name(&id);
        let mut bytes = Vec::with_capacity(ENTRY_BYTES);
        encode_entry(&id, at.as_ref(), &mut bytes);
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::default());
        }
        let number = self.chunk_of(&name);
        let Some(chunk) = self.chunks.get_mut(number) else {
            return;
        };
        let row = match chunk.find(&name) {
            Ok(row) => return chunk.set(row, &bytes),
            Err(row) => row,
        };
        self.len += 1;
        if chunk.len() < CHUNK_ROWS {
            return chunk.insert(row, &bytes);
        }
        // A row after all others begins a chunk: names in order fill them.
        let keep = if row == CHUNK_ROWS {
            row
        } else {
            CHUNK_ROWS / 2
        };
        let mut upper = Chunk(chunk.0.split_off(keep * ENTRY_BYTES));
        chunk.0.shrink_to_fit();
        match row.checked_sub(keep) {
            Some(row) => upper.insert(row, &bytes),
            None => chunk.insert(row, &bytes),
        }
        self.chunks.insert(number + 1, upper);
    }

    pub(crate) fn remove(&mut self, id: &FragmentId) {
        let name = encode_name(id);
        let number = self.chunk_of(&name);
        let Some(chunk) = self.chunks.get_mut(number) else {
            return;
        };
        let Ok(row) = chunk.find(&name) else {
            return;
        };
        chunk.0.drain(row * ENTRY_BYTES..(row + 1) * ENTRY_BYTES);
        self.len -= 1;
        if chunk.0.is_empty() {
            self.chunks.remove(number);
        }
    }

    /// Where the rows after a name begin.
    pub(crate) fn seek(&self, after: Option<&FragmentId>) -> Position {
        let Some(name) = after.map(encode_name) else {
            return Position::default();
        };
        let number = self.chunk_of(&name);
        let found = self.chunks.get(number).map(|chunk| chunk.find(&name));
        let row = found.map_or(0, |found| found.map_or_else(|row| row, |row| row + 1));
        Position { chunk: number, row }
    }

    /// The row at a position, which moves behind it.
    pub(crate) fn next(&self, position: &mut Position) -> Option<Change> {
        loop {
            let chunk = self.chunks.get(position.chunk)?;
            if let Some(row) = chunk.row(position.row) {
                position.row += 1;
                return decode_entry(row);
            }
            *position = Position {
                chunk: position.chunk + 1,
                row: 0,
            };
        }
    }

    /// The rows after a name, in order.
    pub(crate) fn after(&self, after: Option<&FragmentId>) -> impl Iterator<Item = Change> {
        let mut position = self.seek(after);
        std::iter::from_fn(move || self.next(&mut position))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Change> {
        self.after(None)
    }

    /// All rows, as the files have them, in pieces of at most so many.
    pub(crate) fn to_bytes(&self, rows: usize) -> impl Iterator<Item = Vec<u8>> {
        let chunks = self.chunks.chunks((rows / CHUNK_ROWS).max(1));
        chunks.map(|chunks| {
            let parts: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.0.as_slice()).collect();
            parts.concat()
        })
    }
}

impl FromIterator<Change> for Delta {
    fn from_iter<T: IntoIterator<Item = Change>>(changes: T) -> Self {
        let mut delta = Self::default();
        for (id, at) in changes {
            delta.insert(id, at);
        }
        delta
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use holdfast_model::{GroupId, UploadId};

    use super::*;

    fn id(number: u64) -> FragmentId {
        FragmentId {
            group: GroupId((number % 3) as u16),
            upload: UploadId::from_bytes(u128::from(number % 997).to_be_bytes()),
            chunk: (number % 2) as u32,
            index: 0,
        }
    }

    fn at(number: u64) -> Option<Location> {
        (!number.is_multiple_of(5)).then(|| Location {
            offset: number as u32,
            ..Location::default()
        })
    }

    /// As a map does it, with names in disorder, in order and backwards.
    #[test]
    fn rows_are_found_and_walked_as_those_of_a_map() {
        let mut state = 1_u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state >> 33
        };
        let orders: [&dyn Fn(u64) -> u64; 3] = [&|n| n * 7919, &|n| n, &|n| 20_000 - n];
        for order in orders {
            let (mut delta, mut map) = (Delta::default(), BTreeMap::new());
            for step in 0..6000 {
                let name = id(order(step));
                if random() % 4 == 0 {
                    let name = id(random());
                    delta.remove(&name);
                    map.remove(&name);
                } else {
                    delta.insert(name, at(step));
                    map.insert(name, at(step));
                }
                assert_eq!(delta.len(), map.len());
                let name = id(random());
                assert_eq!(delta.get(&name), map.get(&name).copied());
            }
            assert!(map.len() > 4 * CHUNK_ROWS);
            let all: Vec<Change> = map.iter().map(|(id, at)| (*id, *at)).collect();
            assert_eq!(delta.iter().collect::<Vec<_>>(), all);
            let bytes: Vec<u8> = delta.to_bytes(1000).flatten().collect();
            let rows = bytes.chunks_exact(ENTRY_BYTES).filter_map(decode_entry);
            assert_eq!(rows.collect::<Vec<_>>(), all);
            for _ in 0..500 {
                let name = id(random());
                let next = all.iter().find(|(id, _)| *id > name).copied();
                assert_eq!(delta.after(Some(&name)).next(), next);
            }
        }
    }

    #[test]
    fn little_room_is_left_unused() {
        let (mut mixed, mut sorted) = (Delta::default(), Delta::default());
        for number in 0..50_000_u64 {
            let mixed_up = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64;
            let upload = UploadId::from_bytes(mixed_up.to_be_bytes());
            mixed.insert(FragmentId { upload, ..id(0) }, at(1));
            let upload = UploadId::from_bytes(u128::from(number).to_be_bytes());
            sorted.insert(FragmentId { upload, ..id(0) }, at(1));
        }
        for delta in [mixed, sorted] {
            let room = |chunk: &Chunk| chunk.0.capacity() + size_of::<Chunk>();
            let bytes: usize = delta.chunks.iter().map(room).sum();
            let each = bytes as f64 / delta.len() as f64;
            assert!(each < 60.0, "{each} bytes a row");
        }
    }
}

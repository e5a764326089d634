//! Reading: a view is the file as of one commit, with what lies over it in memory.

use std::collections::VecDeque;
use std::ops::Bound;

use holdfast_model::GroupId;

use super::layer::{Change, Changes, Layers, Piece};
use super::{APPLIED, ReadTable, StoreError, group_bounds, prefixed, read_error};

/// Rows taken out of memory at once while scanning: so many are looked at
/// under one lock.
const PIECE_ROWS: usize = 256;

/// A row's key, without its group, and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Is shown rows, key and value, until it answers false.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError> + 'v;

/// Rows of one group that can be read. Keys are without the group's prefix.
pub trait Rows {
    /// The group.
    fn group(&self) -> GroupId;

    /// A row's value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Shows rows from `from` up to and without `to`, in order, until `visit`
    /// answers false.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// The index and term of the last applied entry; `None` for a group that
    /// is not here.
    fn applied(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let Some(value) = self.get(APPLIED)? else {
            return Ok(None);
        };
        let number = |at: usize| {
            let bytes = value.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_be_bytes(bytes))
        };
        match (number(0), number(8)) {
            (Some(index), Some(term)) => Ok(Some((index, term))),
            _ => Err(StoreError::Corrupt("the applied index".to_owned())),
        }
    }
}

/// A consistent view of all groups.
pub struct ReadView {
    pub(super) layers: Layers,
    pub(super) table: ReadTable,
}

impl ReadView {
    /// One group's rows.
    pub fn group(&self, group: GroupId) -> GroupView<'_> {
        GroupView { view: self, group }
    }

    /// Every group that has rows.
    pub fn groups(&self) -> Result<Vec<GroupId>, StoreError> {
        let mut groups = Vec::new();
        let mut from = Some(GroupId(0));
        while let Some(next) = from {
            let begin = next.0.to_be_bytes().to_vec();
            let mut rows = self.merged(begin, Bound::Unbounded, Changes::new())?;
            let Some(row) = rows.next() else { break };
            let (key, _) = row?;
            let group = key.first_chunk::<2>().copied();
            let group = group.ok_or_else(|| StoreError::Corrupt("a row without a group".into()))?;
            let group = GroupId(u16::from_be_bytes(group));
            groups.push(group);
            from = group.0.checked_add(1).map(GroupId);
        }
        Ok(groups)
    }

    /// All rows of a group in order, keys without the group's prefix. The
    /// iterator keeps the view alive.
    pub fn rows(
        &self,
        group: GroupId,
    ) -> Result<impl Iterator<Item = Result<Row, StoreError>> + Send + use<>, StoreError> {
        let (from, to) = group_bounds(group);
        let rows = self.merged(from, to, Changes::new())?;
        Ok(rows.map(|row| {
            let (key, value) = row?;
            Ok((key.get(2..).unwrap_or_default().to_vec(), value))
        }))
    }

    /// A row by its whole key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(change) = self.layers.get(key) {
            return Ok(change.map(|value| value.to_vec()));
        }
        let value = self.table.get(key).map_err(read_error)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// Rows of a range by their whole keys, in order, as `over` changes them.
    pub(super) fn merged(
        &self,
        from: Vec<u8>,
        to: Bound<Vec<u8>>,
        over: Changes,
    ) -> Result<Merged, StoreError> {
        let bounds = (Bound::Included(from.as_slice()), as_slice(&to));
        let file = self.table.range::<&[u8]>(bounds).map_err(read_error)?;
        Ok(Merged {
            layers: self.layers.clone(),
            over,
            pieces: Some(from),
            to,
            memory: VecDeque::new(),
            file,
            row: None,
        })
    }
}

/// Rows of the file and of memory, merged.
pub(super) struct Merged {
    layers: Layers,
    /// What an open batch has changed.
    over: Changes,
    /// Where the next piece of memory begins.
    pieces: Option<Vec<u8>>,
    to: Bound<Vec<u8>>,
    memory: VecDeque<(Vec<u8>, Change)>,
    file: redb::Range<'static, &'static [u8], &'static [u8]>,
    /// The file's next row, once it was looked at.
    row: Option<Row>,
}

impl Merged {
    fn look(&mut self) -> Result<(), StoreError> {
        while self.memory.is_empty()
            && let Some(from) = self.pieces.take()
        {
            let Piece { rows, next } = self.layers.range(&from, as_slice(&self.to), PIECE_ROWS);
            let mut rows: Changes = rows.into_iter().collect();
            let rest = match &next {
                Some(next) => self.over.split_off(next),
                None => Changes::new(),
            };
            rows.append(&mut std::mem::replace(&mut self.over, rest));
            self.memory = rows.into_iter().collect();
            self.pieces = next;
        }
        if self.row.is_none()
            && let Some(row) = self.file.next()
        {
            let (key, value) = row.map_err(read_error)?;
            self.row = Some((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(())
    }
}

impl Iterator for Merged {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Err(error) = self.look() {
                return Some(Err(error));
            }
            let Some((key, _)) = self.memory.front() else {
                return self.row.take().map(Ok);
            };
            match self.row.as_ref().map(|(row, _)| row.cmp(key)) {
                Some(std::cmp::Ordering::Less) => return self.row.take().map(Ok),
                Some(std::cmp::Ordering::Equal) => self.row = None,
                _ => {}
            }
            if let Some((key, Some(value))) = self.memory.pop_front() {
                return Some(Ok((key, value.to_vec())));
            }
        }
    }
}

/// One group in a [`ReadView`].
pub struct GroupView<'v> {
    view: &'v ReadView,
    group: GroupId,
}

impl Rows for GroupView<'_> {
    fn group(&self) -> GroupId {
        self.group
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.view.get(&prefixed(self.group, key))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let to = Bound::Excluded(prefixed(self.group, to));
        let rows = self
            .view
            .merged(prefixed(self.group, from), to, Changes::new())?;
        show(rows, visit)
    }
}

/// Shows rows, keys without the group's prefix, until `visit` answers false.
pub(super) fn show(rows: Merged, visit: &mut Visit<'_>) -> Result<(), StoreError> {
    for row in rows {
        let (key, value) = row?;
        if !visit(key.get(2..).unwrap_or_default(), &value)? {
            break;
        }
    }
    Ok(())
}

pub(super) fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(bytes) => Bound::Included(bytes.as_slice()),
        Bound::Excluded(bytes) => Bound::Excluded(bytes.as_slice()),
        Bound::Unbounded => Bound::Unbounded,
    }
}

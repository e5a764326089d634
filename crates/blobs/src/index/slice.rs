//! A part of the index as of one moment, and the walk over its rows.

use std::iter::Peekable;
use std::sync::Arc;

use holdfast_model::FragmentId;

use super::base::{Base, BaseRows, Recovered};
use super::delta::{Delta, Position};
use super::journal::Change;
use super::{Index, IndexError, Location};

/// A part of the index as of one moment.
pub(crate) struct IndexSlice {
    delta: Vec<Change>,
    frozen: Option<Arc<Delta>>,
    base: Option<Arc<Base>>,
    /// In place of what is bad in the base.
    recovered: Arc<Recovered>,
}

impl IndexSlice {
    /// All of the index, with `frozen` in place of its own newest changes.
    pub(crate) fn whole(frozen: Arc<Delta>, base: Option<Arc<Base>>) -> Self {
        Self {
            delta: Vec::new(),
            frozen: Some(frozen),
            base,
            recovered: Arc::default(),
        }
    }

    /// With rows in place of what is bad in the base.
    pub(crate) fn with(mut self, recovered: Arc<Recovered>) -> Self {
        self.recovered = recovered;
        self
    }

    /// Up to `most` changes are copied; with more, the name to which the slice
    /// speaks is returned.
    pub(crate) fn take(
        index: &Index,
        after: Option<FragmentId>,
        most: usize,
    ) -> (Self, Option<FragmentId>) {
        // An empty page would never end.
        let most = most.max(1);
        let delta: Vec<Change> = index.delta.after(after.as_ref()).take(most).collect();
        let to = delta.last().filter(|_| delta.len() == most);
        let to = to.map(|(id, _)| *id);
        let slice = Self {
            delta,
            frozen: index.frozen.clone(),
            base: index.base.clone(),
            recovered: Arc::default(),
        };
        (slice, to)
    }

    /// How many rows there are at most.
    pub(crate) fn len_at_most(&self) -> u64 {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.len());
        let base = self.base.as_ref().map_or(0, |base| base.entries);
        base + (frozen + self.delta.len()) as u64
    }

    /// The base that was current.
    pub(crate) fn base(&self) -> Option<Arc<Base>> {
        self.base.clone()
    }

    /// Adds rows after a name, up to `limit` in all and to the name `to`.
    pub(crate) fn merge(
        self,
        after: Option<FragmentId>,
        to: Option<FragmentId>,
        limit: usize,
        rows: &mut Vec<(FragmentId, Location)>,
    ) -> Result<(), IndexError> {
        for row in self.rows(after) {
            let (id, at) = row?;
            if rows.len() >= limit || to.is_some_and(|to| id > to) {
                break;
            }
            rows.push((id, at));
        }
        Ok(())
    }

    /// The rows after a name, in order: what is newer goes first.
    pub(crate) fn rows(self, after: Option<FragmentId>) -> Rows {
        let frozen = self.frozen.map(|frozen| {
            let position = frozen.seek(after.as_ref());
            FrozenRows { frozen, position }.peekable()
        });
        let base = self.base.map(|base| base.after(after, self.recovered));
        Rows {
            newest: self.delta.into_iter().peekable(),
            frozen,
            base: base.map(Iterator::peekable),
        }
    }
}

/// A walk over what is being merged.
struct FrozenRows {
    frozen: Arc<Delta>,
    position: Position,
}

impl Iterator for FrozenRows {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        self.frozen.next(&mut self.position)
    }
}

/// A walk over the rows of a slice; the first error ends what the base says.
pub(crate) struct Rows {
    newest: Peekable<std::vec::IntoIter<Change>>,
    frozen: Option<Peekable<FrozenRows>>,
    base: Option<Peekable<BaseRows>>,
}

impl Iterator for Rows {
    type Item = Result<(FragmentId, Location), IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let of_base = match self.base.as_mut().and_then(|base| base.peek()) {
                Some(Err(_)) => return self.base.take()?.next(),
                Some(Ok((id, _))) => Some(*id),
                None => None,
            };
            let of_frozen = self.frozen.as_mut().and_then(|rows| rows.peek());
            let of_frozen = of_frozen.map(|(id, _)| *id);
            let of_newest = self.newest.peek().map(|(id, _)| *id);
            let all = [of_base, of_frozen, of_newest];
            let id = all.into_iter().flatten().min()?;
            // Of each that speaks of it the row is taken; the newest counts.
            let mut row = None;
            if of_base == Some(id)
                && let Some(Ok((_, at))) = self.base.as_mut().and_then(Iterator::next)
            {
                row = Some(at);
            }
            if of_frozen == Some(id) {
                row = self.frozen.as_mut()?.next().and_then(|(_, at)| at);
            }
            if of_newest == Some(id) {
                row = self.newest.next().and_then(|(_, at)| at);
            }
            if let Some(at) = row {
                return Some(Ok((id, at)));
            }
        }
    }
}

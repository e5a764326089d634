//! A walk through a group's chunk rows and, beside them, what disks hold of
//! the same chunks: span by span, so that memory does not grow with the group.
//!
//! The rows of a span are read before the disks' lists of it. A fragment that
//! a row names and no disk lists may have gone for a good reason in between;
//! whoever acts on it looks again.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use holdfast_metadata::protocol::FileEntry;
use holdfast_metadata::query::{Answer, ChunkRow, MAX_PAGE, Query};
use holdfast_model::{DiskId, FragmentId, GroupId, UploadId};

use crate::census::Run;
use crate::error::WorkError;
use crate::shared::Shared;

/// Chunks in order, and what each disk lists of them.
#[derive(Debug, Default)]
pub(crate) struct Span {
    pub rows: Vec<ChunkRow>,
    /// By disk, of those that answered, in order.
    pub files: BTreeMap<DiskId, Vec<FileEntry>>,
    /// The bounds: after this fragment, and before that.
    pub after: Option<FragmentId>,
    pub before: Option<FragmentId>,
}

/// Where a walk is.
pub(crate) struct Walk {
    group: GroupId,
    after: Option<(UploadId, u32)>,
    /// The first upload beyond.
    before: Option<UploadId>,
    ended: bool,
}

/// The name before which no fragment of a chunk sorts.
fn first_of(group: GroupId, upload: UploadId, chunk: u32) -> FragmentId {
    FragmentId {
        group,
        upload,
        chunk,
        index: 0,
    }
}

/// The name after which no fragment of a chunk sorts: no chunk has 256 fragments.
fn last_of(group: GroupId, upload: UploadId, chunk: u32) -> FragmentId {
    FragmentId {
        index: u8::MAX,
        ..first_of(group, upload, chunk)
    }
}

/// The least upload of a range.
fn least_of(range: u8) -> UploadId {
    UploadId::from_bytes((u128::from(range) << 120).to_be_bytes())
}

/// The greatest upload of a range.
fn greatest_of(range: u8) -> UploadId {
    UploadId::from_bytes((u128::from(range) << 120 | u128::MAX >> 8).to_be_bytes())
}

/// The bounds of a span that begins after `after` and ends with `last`, or
/// else before the upload `before`, or with the group: `(after, before)`, both
/// exclusive.
pub(crate) fn bounds(
    group: GroupId,
    after: Option<(UploadId, u32)>,
    last: Option<(UploadId, u32)>,
    before: Option<UploadId>,
) -> (Option<FragmentId>, Option<FragmentId>) {
    let zero = UploadId::from_bytes([0; 16]);
    let from = match after {
        Some((upload, chunk)) => Some(last_of(group, upload, chunk)),
        // The last name of the group before: names of this one sort after it.
        None => group.0.checked_sub(1).map(|before| {
            last_of(
                GroupId(before),
                UploadId::from_bytes([u8::MAX; 16]),
                u32::MAX,
            )
        }),
    };
    let to = match (last, before) {
        (Some((upload, chunk)), _) => Some(last_of(group, upload, chunk)),
        (None, Some(upload)) => Some(first_of(group, upload, 0)),
        (None, None) => group
            .0
            .checked_add(1)
            .map(|next| first_of(GroupId(next), zero, 0)),
    };
    (from, to)
}

impl Walk {
    pub fn new(group: GroupId) -> Self {
        Self::over(group, Run::ALL)
    }

    /// Through some ranges of a group's uploads.
    pub fn over(group: GroupId, run: Run) -> Self {
        Self {
            group,
            after: run
                .first
                .checked_sub(1)
                .map(|range| (greatest_of(range), u32::MAX)),
            before: run.last.checked_add(1).map(least_of),
            ended: false,
        }
    }

    /// The next span, with the lists of `disks`; a disk that does not answer
    /// is taken from `disks`. `None` at the end.
    pub async fn next(
        &mut self,
        shared: &Shared,
        disks: &mut BTreeSet<DiskId>,
    ) -> Result<Option<Span>, WorkError> {
        if self.ended {
            return Ok(None);
        }
        let rows = fetch_rows(shared, self.group, self.after, self.before).await?;
        self.ended = rows.len() < MAX_PAGE as usize;
        let last = rows.last().map(|row| (row.upload, row.chunk.index));
        let last = if self.ended { None } else { last };
        let (after, before) = bounds(self.group, self.after, last, self.before);
        self.after = last;
        let mut span = Span {
            rows,
            files: BTreeMap::new(),
            after,
            before,
        };
        let asked = disks.iter();
        let asked = asked.map(|disk| async { (*disk, span.fetch_files(shared, *disk).await) });
        let answers = join_all(asked).await;
        for (disk, listed) in answers {
            match listed {
                Ok(files) => {
                    span.files.insert(disk, files);
                }
                Err(error) => {
                    tracing::debug!(%disk, %error, "a disk does not list its fragments");
                    disks.remove(&disk);
                }
            }
        }
        Ok(Some(span))
    }
}

impl Span {
    /// What a disk lists of this span now.
    pub async fn fetch_files(
        &self,
        shared: &Shared,
        disk: DiskId,
    ) -> Result<Vec<FileEntry>, WorkError> {
        let mut all = Vec::new();
        let mut after = self.after;
        loop {
            let page = shared.files(disk, after, self.before).await?;
            let next = page.files.last().map(|file| file.id);
            all.extend(page.files);
            if !page.more || next.is_none() {
                return Ok(all);
            }
            after = next;
        }
    }
}

/// A page of a group's chunk rows, up to those of the upload `before`.
pub(crate) async fn fetch_rows(
    shared: &Shared,
    group: GroupId,
    after: Option<(UploadId, u32)>,
    before: Option<UploadId>,
) -> Result<Vec<ChunkRow>, WorkError> {
    let query = Query::Rows {
        after,
        before,
        limit: MAX_PAGE,
    };
    match shared.query(group, "the chunk rows", query).await? {
        Answer::Rows(rows) => Ok(rows),
        _ => Err(WorkError::OtherAnswer {
            group,
            asked: "the chunk rows",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn do_the_bounds_hold_every_fragment_of_the_span_and_none_beside_it() {
        let upload = |n: u8| UploadId::from_bytes([n; 16]);
        let id = |group, up, chunk, index| FragmentId {
            group: GroupId(group),
            upload: upload(up),
            chunk,
            index,
        };
        let within = |span: (Option<FragmentId>, Option<FragmentId>), id: FragmentId| {
            span.0.is_none_or(|after| id > after) && span.1.is_none_or(|before| id < before)
        };
        let first = bounds(GroupId(2), None, Some((upload(5), 7)), None);
        let second = bounds(GroupId(2), Some((upload(5), 7)), None, None);
        for inside in [id(2, 0, 0, 0), id(2, 5, 7, 0), id(2, 5, 7, 254)] {
            assert!(within(first, inside) && !within(second, inside), "{inside}");
        }
        for inside in [id(2, 5, 8, 0), id(2, 255, u32::MAX, 254)] {
            assert!(within(second, inside) && !within(first, inside), "{inside}");
        }
        for beside in [id(1, 255, u32::MAX, 254), id(3, 0, 0, 0)] {
            assert!(
                !within(first, beside) && !within(second, beside),
                "{beside}"
            );
        }
        assert!(within(bounds(GroupId(0), None, None, None), id(0, 0, 0, 0)));
        assert!(within(
            bounds(GroupId(u16::MAX), None, None, None),
            id(u16::MAX, 255, 1, 1)
        ));
    }
}

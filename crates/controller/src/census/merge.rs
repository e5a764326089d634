//! What a span's rows and the disks' lists say together: a pure comparison.

use std::collections::BTreeMap;

use holdfast_metadata::command::MissingFragment;
use holdfast_metadata::protocol::FileEntry;
use holdfast_metadata::query::ChunkRow;
use holdfast_model::fragment::census_range;
use holdfast_model::placement::DiskUse;
use holdfast_model::{Chunk, DiskId, FragmentId, GroupId, Layout, NodeState, UploadId};

use crate::spans::Span;

/// How an object, or a chunk of it, is; the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Standing {
    /// Every fragment is on a disk that answers.
    #[default]
    Whole,
    /// It can be read, with fewer fragments than it should have.
    Degraded,
    /// It cannot be read until disks that do not answer come back.
    Unavailable,
    /// It cannot be read any more.
    Lost,
}

/// Counts of some uploads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub objects: u64,
    pub chunks: u64,
    pub degraded: u64,
    pub unavailable: u64,
    pub lost: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.objects += other.objects;
        self.chunks += other.chunks;
        self.degraded += other.degraded;
        self.unavailable += other.unavailable;
        self.lost += other.lost;
    }
}

/// Counts of a group as they grow, span by span.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    /// By range of uploads.
    pub ranges: BTreeMap<u8, Counts>,
    /// The upload that the last row was of, which may go on in the next span.
    open: Option<(UploadId, Standing)>,
}

impl Tally {
    fn chunk(&mut self, upload: UploadId, standing: Standing) {
        self.ranges.entry(census_range(upload)).or_default().chunks += 1;
        match &mut self.open {
            Some((open, worst)) if *open == upload => *worst = standing.max(*worst),
            _ => {
                self.close();
                self.open = Some((upload, standing));
            }
        }
    }

    /// Counts the last object, after the last span.
    pub fn close(&mut self) {
        let Some((upload, worst)) = self.open.take() else {
            return;
        };
        let counts = self.ranges.entry(census_range(upload)).or_default();
        counts.objects += 1;
        match worst {
            Standing::Whole => {}
            Standing::Degraded => counts.degraded += 1,
            Standing::Unavailable => counts.unavailable += 1,
            Standing::Lost => counts.lost += 1,
        }
    }

    /// Of all ranges together.
    pub fn total(&self) -> Counts {
        let mut all = Counts::default();
        self.ranges.values().for_each(|counts| all.add(counts));
        all
    }
}

/// What was found in a span.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Findings {
    /// Referenced and not listed by a disk that answers; to be looked at again.
    pub absent: Vec<MissingFragment>,
    /// Referenced and known to be corrupt.
    pub corrupt: Vec<MissingFragment>,
    /// Referenced on a disk that is given up, or that is down while there is
    /// room elsewhere.
    pub displaced: Vec<MissingFragment>,
    /// Listed and not referenced.
    pub unreferenced: Vec<(DiskId, FileEntry)>,
}

/// Compares a span's rows with the disks' lists.
pub(crate) fn merge_span(
    group: GroupId,
    span: &Span,
    layout: &Layout,
    uses: &BTreeMap<DiskId, DiskUse>,
    tally: &mut Tally,
) -> Findings {
    let mut found = Findings::default();
    let listed = Listed::new(span);
    for row in &span.rows {
        // A running upload's fragments are references, and its own business.
        if row.committed {
            let standing = look_at(group, row, layout, uses, &listed, &mut found);
            tally.chunk(row.upload, standing);
        }
    }
    for (disk, files) in &span.files {
        let rows = Rows(&span.rows);
        let loose = files.iter().filter(|file| !rows.refer(*disk, &file.id));
        found
            .unreferenced
            .extend(loose.map(|file| (*disk, file.clone())));
    }
    found
}

/// The disks' lists, to be looked up.
struct Listed<'a> {
    files: &'a BTreeMap<DiskId, Vec<FileEntry>>,
}

impl<'a> Listed<'a> {
    fn new(span: &'a Span) -> Self {
        Self { files: &span.files }
    }

    /// `None` when the disk does not answer; then the entry, if it is there.
    fn find(&self, disk: DiskId, id: &FragmentId) -> Option<Option<&'a FileEntry>> {
        let files = self.files.get(&disk)?;
        let at = files.binary_search_by(|file| file.id.cmp(id)).ok();
        Some(at.and_then(|at| files.get(at)))
    }
}

/// A span's rows, in order.
pub(crate) struct Rows<'a>(pub &'a [ChunkRow]);

impl Rows<'_> {
    pub fn find(&self, id: &FragmentId) -> Option<&ChunkRow> {
        let name = (id.upload, id.chunk);
        let at = self
            .0
            .binary_search_by(|row| (row.upload, row.chunk.index).cmp(&name))
            .ok()?;
        self.0.get(at)
    }

    pub fn refer(&self, disk: DiskId, id: &FragmentId) -> bool {
        let named = |chunk: &Chunk| {
            chunk
                .fragments
                .iter()
                .any(|place| (place.index, place.disk) == (id.index, disk))
        };
        self.find(id).is_some_and(|row| named(&row.chunk))
    }
}

fn look_at(
    group: GroupId,
    row: &ChunkRow,
    layout: &Layout,
    uses: &BTreeMap<DiskId, DiskUse>,
    listed: &Listed<'_>,
    found: &mut Findings,
) -> Standing {
    let chunk = &row.chunk;
    let (mut present, mut silent) = (0, 0);
    let mut down = Vec::new();
    for place in &chunk.fragments {
        let missing = MissingFragment {
            upload: row.upload,
            chunk: chunk.index,
            place: *place,
        };
        let state = layout.node_of(place.disk).map(|node| node.state);
        if state.is_none_or(|state| matches!(state, NodeState::Lost | NodeState::Drained)) {
            found.displaced.push(missing);
            continue;
        }
        match listed.find(place.disk, &place.id(group, row.upload, chunk.index)) {
            None => {
                silent += 1;
                if state == Some(NodeState::Down) {
                    down.push(missing);
                }
            }
            Some(None) => found.absent.push(missing),
            Some(Some(file)) if file.corrupt => found.corrupt.push(missing),
            Some(Some(_)) => present += 1,
        }
    }
    let enough = usize::from(chunk.redundancy.data);
    // What is on a node that is down counts for nothing once it can be made
    // again elsewhere, of what is left.
    if present >= enough && has_room(chunk, layout, uses) {
        found.displaced.extend(down);
    }
    if present + silent < enough {
        Standing::Lost
    } else if present < enough {
        Standing::Unavailable
    } else if present < chunk.redundancy.fragments() {
        Standing::Degraded
    } else {
        Standing::Whole
    }
}

/// Whether another fragment of a chunk could be written somewhere now.
fn has_room(chunk: &Chunk, layout: &Layout, uses: &BTreeMap<DiskId, DiskUse>) -> bool {
    layout.nodes.values().any(|node| {
        node.takes_data()
            && !chunk.fragments.iter().any(|place| place.disk == node.disk)
            && uses
                .get(&node.disk)
                .is_some_and(|disk| disk.answers && !disk.full)
    })
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;

//! What the rows of all groups say of fragments, read past the nodes' answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_metadata::query::{Answer, GarbageRow, MAX_PAGE, Query};
use holdfast_metadata::state::{answer, intents};
use holdfast_metadata::store::Rows;
use holdfast_model::{ClusterState, DiskId, FragmentId, GroupId, Timestamp, UploadId};
use holdfast_node::Node;

use super::{Not, ever, yet};

/// What the rows of all groups say of fragments.
#[derive(Default)]
pub(super) struct References {
    /// Fragments of chunks, with their disks.
    pub fragments: BTreeSet<(FragmentId, DiskId)>,
    /// Fragments given up that are still to be deleted.
    pub garbage: BTreeSet<(FragmentId, DiskId)>,
    /// Groups with uploads that were neither committed nor given up: they hold
    /// the clean-up back until their time is over, an hour later.
    pub unfinished: BTreeSet<GroupId>,
    /// Chunks with fewer fragments than they should have.
    pub degraded: u64,
    /// By group: uploads that were committed, and their chunks.
    pub committed: BTreeMap<GroupId, (BTreeSet<UploadId>, u64)>,
}

/// Reads the rows of all groups from their leaders' stores.
pub(super) fn references(
    state: &ClusterState,
    nodes: &BTreeMap<DiskId, Arc<Node>>,
) -> Result<References, Not> {
    let mut all = References::default();
    for group in state.layout.data_groups() {
        let leader = nodes.values().find(|node| {
            let mine = node.identity().disk;
            node.status()
                .groups
                .iter()
                .any(|g| g.group == group && g.active && g.leader == Some(mine))
        });
        let Some(leader) = leader else {
            return Err(yet(format!("group {group} has no leader")));
        };
        let view = leader.store().snapshot().map_err(ever)?;
        all.read(&view.group(group))?;
    }
    Ok(all)
}

impl References {
    fn read(&mut self, rows: &impl Rows) -> Result<(), Not> {
        let group = rows.group();
        if intents(rows).map_err(ever)? > 0 {
            self.unfinished.insert(group);
        }
        let committed = self.committed.entry(group).or_default();
        let mut after = None;
        loop {
            let query = Query::Rows {
                before: None,
                after,
                limit: MAX_PAGE,
            };
            let Answer::Rows(page) = answer(rows, &query, Timestamp(0)).map_err(ever)? else {
                return Err(ever("rows are answered with something else"));
            };
            for row in &page {
                after = Some((row.upload, row.chunk.index));
                for place in &row.chunk.fragments {
                    let id = place.id(group, row.upload, row.chunk.index);
                    self.fragments.insert((id, place.disk));
                }
                self.degraded += u64::from(row.chunk.missing() > 0);
                if row.committed {
                    committed.0.insert(row.upload);
                    committed.1 += 1;
                }
            }
            if (page.len() as u32) < MAX_PAGE {
                break;
            }
        }
        // Of all times to come: what is not due yet counts as well.
        let query = Query::Garbage {
            limit: MAX_PAGE,
            after: None,
        };
        let end = Timestamp(u64::MAX);
        let Answer::Garbage(garbage) = answer(rows, &query, end).map_err(ever)? else {
            return Err(ever("garbage is answered with something else"));
        };
        for GarbageRow { id, places } in garbage {
            for (index, disk) in places {
                let (upload, chunk) = (id.upload, id.chunk);
                let id = FragmentId {
                    group,
                    upload,
                    chunk,
                    index,
                };
                self.garbage.insert((id, disk));
            }
        }
        Ok(())
    }
}

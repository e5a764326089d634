//! What a backup holds: read as a whole before anything is changed.

use std::collections::BTreeMap;
use std::io::Read;

use holdfast_metadata::log::LogEnd;
use holdfast_metadata::raft::applier::read_members;
use holdfast_metadata::store::{Rows, StoreError, Visit};
use holdfast_metadata::wire::Members;
use holdfast_model::{ClusterState, DiskId, GroupId};

use super::sections::{Part, RowsPart, walk};
use super::{BackupError, RestoreError};

/// A group as the backup has it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct BackedUp {
    pub end: LogEnd,
    pub members: Members,
}

impl BackedUp {
    fn has(&self, disk: DiskId) -> bool {
        let members = &self.members;
        [
            &members.voters,
            &members.learners,
            &members.voters_outgoing,
            &members.learners_next,
        ]
        .iter()
        .any(|list| list.contains(&disk.raft_id()))
    }
}

/// Reads the whole backup: checks it, and says what groups it has and how many rows.
pub(super) fn survey(
    source: Box<dyn Read>,
    groups: &mut BTreeMap<GroupId, BackedUp>,
) -> Result<(ClusterState, u64), RestoreError> {
    let mut count = 0;
    let mut few = FewRows::default();
    let state = walk::<BackupError>(source, &mut |part| {
        match part {
            Part::Rows(RowsPart { group, rows }) => {
                count += rows.len() as u64;
                few.group = group;
                // What the log and the members need is in rows that no table has.
                for (key, value) in rows {
                    if matches!(key.first(), Some(0 | 0xff)) {
                        few.rows.insert(key.to_vec(), value.to_vec());
                    }
                }
            }
            Part::GroupEnd(head) => {
                let found = std::mem::take(&mut few);
                let damaged =
                    |what: &str| BackupError::Damaged(format!("group {}: {what}", head.group));
                let members = read_members(&found).map_err(|error| damaged(&error.to_string()))?;
                let applied = found
                    .applied()
                    .map_err(|error| damaged(&error.to_string()))?;
                if members.voters.is_empty() || applied != Some((head.applied, head.term)) {
                    return Err(damaged("its members or its index are missing"));
                }
                let end = LogEnd {
                    index: head.applied,
                    term: head.term,
                };
                groups.insert(head.group, BackedUp { end, members });
            }
        }
        Ok(())
    })?;
    let mut named = state.layout.groups.keys();
    if let Some(missing) = named.find(|group| !groups.contains_key(group)) {
        return Err(BackupError::Damaged(format!("group {missing} is missing")).into());
    }
    Ok((state, count))
}

/// The groups that a disk is to carry.
pub(super) fn carried(
    groups: &BTreeMap<GroupId, BackedUp>,
    disk: DiskId,
) -> BTreeMap<GroupId, BackedUp> {
    let groups = groups.iter().filter(|(_, group)| group.has(disk));
    groups.map(|(id, group)| (*id, group.clone())).collect()
}

/// The few rows of a group that are needed before all others.
#[derive(Default)]
struct FewRows {
    group: GroupId,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Rows for FewRows {
    fn group(&self) -> GroupId {
        self.group
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let from = self
            .rows
            .iter()
            .skip_while(|(key, _)| key.as_slice() < from);
        for (key, value) in from.take_while(|(key, _)| key.as_slice() < to) {
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}

//! Rows beside the state's own: a group's members, how far the log was durable,
//! and those of a snapshot on their way into place.

use holdfast_model::GroupId;

use super::{ApplyError, LAST_KEY, NODE_ROWS, STAGED};
use crate::log::LogEnd;
use crate::store::{GroupTxn, Rows, Store, StoreError, WriteBatch};
use crate::wire::Members;

/// The row with a group's members; no table of the state has this number.
pub(super) const MEMBERS_KEY: &[u8] = &[0xff, 1];
/// The row of [`NODE_ROWS`] with the last round of the log
/// that was durable when the state was.
pub(super) const SEQUENCE_KEY: &[u8] = &[0xff, 2];

/// Moves the staged rows of a snapshot into place.
pub(super) fn install(
    batch: &mut WriteBatch<'_>,
    group: GroupId,
    end: LogEnd,
    members: &Members,
) -> Result<(), ApplyError> {
    let staged = GroupId(group.0 | STAGED);
    batch.delete_group(group)?;
    let mut rows = Vec::new();
    let mut from = Vec::new();
    loop {
        // In pieces, since a transaction lends its table to one group at a time.
        rows.clear();
        let mut bytes = 0;
        batch
            .group(staged)?
            .scan(&from, LAST_KEY, &mut |key, value| {
                bytes += key.len() + value.len();
                rows.push((key.to_vec(), value.to_vec()));
                Ok(bytes < (4 << 20))
            })?;
        let Some((last, _)) = rows.last() else { break };
        from = last.clone();
        from.push(0);
        let mut txn = batch.group(group)?;
        for (key, value) in &rows {
            txn.put(key, value)?;
        }
    }
    batch.delete_group(staged)?;
    write_members(&mut batch.group(group)?, end, members)?;
    Ok(())
}

/// Notes a group's members and how far its rows are.
pub fn write_members(
    txn: &mut GroupTxn<'_>,
    end: LogEnd,
    members: &Members,
) -> Result<(), StoreError> {
    let members = members.clone().sorted();
    txn.put(MEMBERS_KEY, &crate::protocol::encode(&members))?;
    txn.set_applied(end.index, end.term)
}

/// A group's members as of what is applied.
pub fn read_members(rows: &impl Rows) -> Result<Members, StoreError> {
    match rows.get(MEMBERS_KEY)? {
        None => Ok(Members::default()),
        Some(bytes) => minicbor::decode(&bytes)
            .map_err(|error| StoreError::Corrupt(format!("a group's members: {error}"))),
    }
}

/// The last round of the log that was durable when the state was.
pub fn durable_sequence(store: &Store) -> Result<u64, StoreError> {
    let view = store.snapshot()?;
    let bytes = view.group(NODE_ROWS).get(SEQUENCE_KEY)?;
    let number = bytes.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_slice()).ok());
    Ok(number.map_or(0, u64::from_be_bytes))
}

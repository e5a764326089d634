//! The new state store and the new log, beside the old ones.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use holdfast_metadata::log::{Checkpoint, GroupRound, LogFiles, LogSettings, Round};
use holdfast_metadata::raft::applier::write_members;
use holdfast_metadata::state::renew_restored;
use holdfast_metadata::store::Store;
use holdfast_metadata::wire::WireHardState;
use holdfast_model::GroupId;
use holdfast_runtime::Disk;

use super::RestoreError;
use super::directories::Target;
use super::places::{STORE_FILE, Under};
use super::sections::{Part, RowsPart, walk};
use super::survey::BackedUp;

/// Bytes of rows after which they are made durable.
const DURABLE_AFTER_BYTES: usize = 64 << 20;

/// Writes the new state store and log durably, beside the old ones.
pub(super) fn write_beside(
    target: &Target,
    source: Box<dyn Read>,
    groups: &BTreeMap<GroupId, BackedUp>,
    term: u64,
    log: LogSettings,
) -> Result<(), RestoreError> {
    let beside: Arc<dyn Disk> =
        Arc::new(Under::staging(target.disk.clone()).map_err(target.failed())?);
    let store = Store::open(&beside, STORE_FILE).map_err(target.store())?;
    write_rows(target, &store, source, groups)?;
    let failed = |source| RestoreError::Log {
        directory: target.name.clone(),
        source,
    };
    let files = LogFiles::open(beside, log, 0).map_err(failed)?.files;
    let begin = |(group, backed_up): (&GroupId, &BackedUp)| GroupRound {
        hard: Some(WireHardState {
            term,
            vote: 0,
            commit: backed_up.end.index,
        }),
        reset: Some(backed_up.end),
        ..GroupRound::new(*group)
    };
    let round = Round {
        groups: groups.iter().map(begin).collect(),
    };
    files
        .write(&round, &Checkpoint::default())
        .map_err(failed)?;
    Ok(())
}

fn write_rows(
    target: &Target,
    store: &Store,
    source: Box<dyn Read>,
    groups: &BTreeMap<GroupId, BackedUp>,
) -> Result<(), RestoreError> {
    let failed = target.store();
    let mut bytes = 0;
    walk::<RestoreError>(source, &mut |part| {
        let Part::Rows(RowsPart { group, rows }) = part else {
            return Ok(());
        };
        if !groups.contains_key(&group) {
            return Ok(());
        }
        let mut batch = store.begin_bulk().map_err(&failed)?;
        let mut txn = batch.group(group).map_err(&failed)?;
        for (key, value) in rows {
            bytes += key.len() + value.len();
            txn.put(key, value).map_err(&failed)?;
        }
        drop(txn);
        // What is not durable stays in memory until something after it is.
        let durable = bytes >= DURABLE_AFTER_BYTES;
        bytes = if durable { 0 } else { bytes };
        batch.commit(durable).map_err(&failed)
    })?;
    let mut batch = store.begin_bulk().map_err(&failed)?;
    for (group, backed_up) in groups {
        let mut txn = batch.group(*group).map_err(&failed)?;
        renew_restored(&mut txn).map_err(&failed)?;
        write_members(&mut txn, backed_up.end, &backed_up.members).map_err(&failed)?;
    }
    batch.commit(true).map_err(&failed)
}

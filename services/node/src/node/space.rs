//! The room of a node's disk: told to the others, and guarded here.
//!
//! Fragments stop at the disk's reserve; the engine sees to that. What travels
//! inside commands ends in the state store, which reuses the pages of deleted
//! rows but does not give them back: once the reserve is reached it may take as
//! many bytes as it has let go of ([`Store::reusable`]), and no more.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use holdfast_blobs::{EngineSettings, standard_reserve};
use holdfast_metadata::command::Command;
use holdfast_metadata::protocol::{DiskStatus, NodeError, ProposeRequest};
use holdfast_metadata::store::{Store, StoreError};
use holdfast_model::Representation;
use holdfast_runtime::Disk;

use super::{Node, STORE_FILE};

/// How often a node's disk is asked for its room.
const SPACE_INTERVAL: Duration = Duration::from_secs(2);
/// On a disk at its reserve, so many bytes must have been deleted from the
/// state store before it takes inline data again: more than uploads bring until
/// everybody has heard that it takes none.
const REUSABLE_BYTES: u64 = 4 << 20;

/// Whether inline data is refused by whoever knows of it, and by this node even
/// from those who do not.
fn inline_limits(free: u64, reserve: u64, reusable: u64) -> (bool, bool) {
    let reuses = reusable >= REUSABLE_BYTES;
    let soft = free < reserve && !reuses;
    // Clients hear of a full disk seconds later; a quarter of the reserve is for those.
    let hard = free < reserve / 4 * 3 && !reuses;
    (soft, hard)
}

/// Opens the state store; on a disk at its reserve its unused pages are given
/// back first, which takes some seconds for each GiB. Blocks.
pub(super) fn open_store(
    disk: &Arc<dyn Disk>,
    settings: &EngineSettings,
) -> Result<Store, StoreError> {
    let mut store = Store::open(disk, STORE_FILE)?;
    let Ok(space) = disk.space() else {
        return Ok(store);
    };
    let reserve = settings.reserve_bytes;
    if space.free >= reserve.unwrap_or_else(|| standard_reserve(space.total)) {
        return Ok(store);
    }
    match store.compact() {
        Ok((before, after)) => {
            tracing::info!(
                before,
                after,
                "the disk is at its reserve: the state store was compacted"
            );
            Ok(store)
        }
        Err(error) => {
            // What a failed compaction holds in memory is not to be trusted; the file is whole.
            tracing::warn!(%error, "the disk is at its reserve, and the state store cannot be compacted");
            store.abandon();
            Store::open(disk, STORE_FILE)
        }
    }
}

impl Node {
    pub(super) async fn refresh_space(&self) {
        let stats = match self.fragments.engine().stats().await {
            Ok(stats) => stats,
            Err(error) => return tracing::warn!(%error, "the disk does not tell its room"),
        };
        let reusable = self.store.reusable();
        let (inline_full, refuses) = inline_limits(stats.free, stats.reserve, reusable);
        let status = DiskStatus {
            capacity: stats.total.saturating_sub(stats.reserve),
            free: stats.free.saturating_sub(stats.reserve),
            fragments: stats.fragments,
            fragment_bytes: stats.bytes,
            corrupt: stats.corrupt,
            full: stats.full,
            inline_full,
        };
        self.refuses_inline.store(refuses, Ordering::Relaxed);
        *self.space.lock().unwrap_or_else(PoisonError::into_inner) = status;
        metrics::gauge!("holdfast_node_fragments").set(stats.fragments as f64);
        metrics::gauge!("holdfast_node_fragment_bytes").set(stats.bytes as f64);
        metrics::gauge!("holdfast_node_corrupt_fragments").set(stats.corrupt as f64);
        metrics::gauge!("holdfast_node_disk_free_bytes").set(status.free as f64);
        metrics::gauge!("holdfast_node_disk_capacity_bytes").set(status.capacity as f64);
        metrics::gauge!("holdfast_node_state_reusable_bytes").set(reusable as f64);
        self.show_limits();
    }

    fn show_limits(&self) {
        for limit in self.limits.view() {
            metrics::gauge!("holdfast_limit", "of" => limit.of).set(limit.most as f64);
            metrics::gauge!("holdfast_limit_used", "of" => limit.of).set(limit.used as f64);
        }
        let waiting = self.groups.get().map(|groups| groups.waiting());
        for (of, most, used) in waiting.into_iter().flatten() {
            metrics::gauge!("holdfast_limit", "of" => of).set(most as f64);
            metrics::gauge!("holdfast_limit_used", "of" => of).set(used as f64);
        }
    }

    pub(super) async fn keep_space(&self) {
        // It goes through what the writers of fragments hold.
        let beat = self.pulse.part("the engine of fragments");
        loop {
            beat.moved();
            tokio::select! {
                biased;
                () = self.shutdown.begun() => return,
                () = self.env.clock.sleep(SPACE_INTERVAL) => {}
            }
            self.refresh_space().await;
            if let Some(groups) = self.groups.get() {
                let statuses = groups.shared().statuses();
                let led = statuses.iter().filter(|status| status.active).count();
                metrics::gauge!("holdfast_node_groups").set(statuses.len() as f64);
                metrics::gauge!("holdfast_node_groups_led").set(led as f64);
            }
        }
    }

    /// Refuses inline data for which there is no room, whoever sends it.
    ///
    /// # Errors
    /// [`NodeError::DiskFull`].
    pub(super) fn check_room(&self, request: &ProposeRequest) -> Result<(), NodeError> {
        let brings_bytes = match &request.command {
            Command::PutObject(put) => {
                matches!(&put.record.representation, Representation::Inline { .. })
            }
            _ => false,
        };
        if brings_bytes && self.refuses_inline.load(Ordering::Relaxed) {
            return Err(NodeError::DiskFull);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_data_is_taken_while_there_is_room_or_rows_were_deleted() {
        const MIB: u64 = 1 << 20;
        let limits = |free, reusable| inline_limits(free * MIB, 128 * MIB, reusable * MIB);
        assert_eq!(limits(128, 0), (false, false));
        assert_eq!(limits(127, 3), (true, false));
        assert_eq!(limits(95, 3), (true, true));
        assert_eq!(limits(0, 4), (false, false));
    }
}

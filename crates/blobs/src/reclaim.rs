//! Deleting, and giving back what writers gave up: both put an extent on the
//! list of those to be freed, write a free record over its header, sync, and
//! only then give the room back.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_model::{FragmentId, Generation};
use holdfast_runtime::TasksExt;

use crate::engine::{Engine, Shared};
use crate::fatal::Failed;
use crate::format::{ALIGN, FreePayload, kind, padded_record};
use crate::index::{Extent, IndexError};

/// Why something may not have been deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The disk has failed.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The operating system refused.
    #[error("deleting a fragment")]
    Io(#[source] io::Error),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

impl Engine {
    /// Deletes a fragment, durably when this returns, which says whether there
    /// was one. From then on it is neither read nor listed, nor after a crash.
    ///
    /// # Errors
    /// When it may come back at the next start.
    pub async fn delete(&self, id: FragmentId) -> Result<bool, DeleteError> {
        self.delete_below(id, None).await
    }

    /// Deletes a fragment if its generation is below `below`, as [`Engine::delete`]
    /// does. One that has been written anew since the caller looked stays.
    ///
    /// # Errors
    /// As for [`Engine::delete`].
    pub async fn delete_below(
        &self,
        id: FragmentId,
        below: Option<Generation>,
    ) -> Result<bool, DeleteError> {
        self.shared.fatal.check()?;
        let there = loop {
            // Made before the look, or a wake-up could be missed.
            let moved = self.shared.moved.notified();
            let shared = self.shared.clone();
            let work = move || shared.begin_to_free(id, below);
            let done = self.shared.tasks.blocking(work).await;
            match done.ok_or(DeleteError::Ending)?? {
                Some(there) => break there,
                None => moved.await,
            }
        };
        self.free(Some(id)).await?;
        self.keep_index_in_background();
        Ok(there)
    }

    /// Frees everything that is to be freed. Called in passing; a node may call
    /// it now and then while it is idle.
    ///
    /// # Errors
    /// As for [`Engine::delete`].
    pub async fn reclaim(&self) -> Result<(), DeleteError> {
        self.free(None).await
    }

    pub(crate) fn reclaim_in_background(&self) {
        if self.shared.index().freeing.is_empty() {
            return;
        }
        // One at a time: each takes all there is.
        if self.shared.reclaiming.swap(true, Ordering::SeqCst) {
            return;
        }
        let engine = self.clone();
        self.shared.tasks.spawn(
            "reclaim extents",
            Box::pin(async move {
                let done = engine.reclaim().await;
                engine.shared.reclaiming.store(false, Ordering::SeqCst);
                if let Err(error) = done {
                    tracing::warn!(%error, "cannot free extents; they stay on the list");
                }
            }),
        );
    }

    /// Frees the extents of one fragment, or all that are to be freed.
    async fn free(&self, only: Option<FragmentId>) -> Result<(), DeleteError> {
        let wanted: Vec<(FragmentId, Extent)> = {
            let index = self.shared.index();
            let all = index.freeing.values();
            all.filter(|(id, _)| only.is_none_or(|only| only == *id))
                .cloned()
                .collect()
        };
        if wanted.is_empty() {
            return Ok(());
        }
        self.shared.note_frees(wanted.iter().cloned()).await?;
        let mut by_segment: BTreeMap<u32, Vec<Extent>> = BTreeMap::new();
        for (_, extent) in wanted {
            let list = by_segment.entry(extent.segment.number).or_default();
            list.push(extent);
        }
        for extents in by_segment.into_values() {
            self.free_in_segment(extents).await?;
        }
        Ok(())
    }

    async fn free_in_segment(&self, extents: Vec<Extent>) -> Result<(), DeleteError> {
        let Some(segment) = extents.first().map(|extent| extent.segment.clone()) else {
            return Ok(());
        };
        let extents = Arc::new(extents);
        let (shared, list) = (self.shared.clone(), extents.clone());
        let work = move || {
            shared.fatal.check()?;
            // Whoever else frees the same may be done, and the segment gone.
            let freeing = |extent: &&Extent| shared.index().freeing.contains_key(&extent.place());
            list.iter()
                .filter(freeing)
                .try_for_each(|extent| shared.write_free(extent))
                .map_err(DeleteError::Io)
        };
        let done = self.shared.tasks.blocking(work).await;
        done.unwrap_or(Err(DeleteError::Ending))?;
        self.shared.disk.reached("delete: header overwritten");
        segment
            .commit(&self.shared.tasks, &self.shared.fatal)
            .await?;
        self.shared.disk.reached("delete: synced");
        let shared = self.shared.clone();
        let work = move || {
            for extent in extents.iter() {
                shared.release(extent);
            }
        };
        let done = self.shared.tasks.blocking(work).await;
        done.ok_or(DeleteError::Ending)
    }
}

impl Shared {
    /// Moves a fragment from the index to the list of what is to be freed, and
    /// says whether there was one; `None` while compaction is moving it.
    fn begin_to_free(
        self: &Arc<Self>,
        id: FragmentId,
        below: Option<Generation>,
    ) -> Result<Option<bool>, IndexError> {
        self.with_entry(&id, |index, old| {
            if index.moving.contains(&id) {
                return None;
            }
            let Some(old) = old else {
                return Some(false);
            };
            if below.is_some_and(|below| old.generation >= below) {
                return Some(false);
            }
            // The segment of a listed fragment is there: it has a live extent.
            if let Some(extent) = self.extent(&old) {
                index.freeing.insert(extent.place(), (id, extent));
            }
            index.set(id, Some(old), None);
            Some(true)
        })
    }

    /// Writes a free record over an extent's header; it fits in one sector, so
    /// after a crash one or the other is there. Not durable yet.
    pub(crate) fn write_free(&self, extent: &Extent) -> io::Result<()> {
        let payload = FreePayload {
            offset: extent.offset,
            bytes: extent.bytes(),
        };
        let segment = &extent.segment;
        let block = padded_record(kind::FREE, segment.id, self.next_sequence(), &payload);
        segment.file.write_all_at(&block, extent.offset)
    }

    /// Gives back the room of an extent whose free record is durable. Blocks.
    pub(crate) fn release(&self, extent: &Extent) {
        if self.index().freeing.remove(&extent.place()).is_none() {
            return;
        }
        let segment = &extent.segment;
        self.disk.reached("delete: no longer listed");
        if !segment.give_back(extent.offset + ALIGN, extent.bytes() - ALIGN) {
            // Without holes at least the closing record goes, or it would speak
            // for the fragment again if the free record were damaged one day.
            let blank = [0; ALIGN as usize];
            if let Err(error) = segment.file.write_all_at(&blank, extent.closing_at()) {
                tracing::warn!(%error, "cannot blank a closing record");
            }
        }
        self.remove_if_dead(segment);
    }
}

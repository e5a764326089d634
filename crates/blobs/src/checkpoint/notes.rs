//! Deletes are noted before they happen, and the index is given up on disk when
//! they cannot be.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use holdfast_model::FragmentId;

use super::files::{base_name, idle_name};
use super::{CheckpointError, State};
use crate::engine::Shared;
use crate::fatal::Failed;
use crate::index::journal::ExtentPayload;
use crate::index::{Extent, Place};
use crate::segment::{DIRECTORY, is_full};

/// Extents in one record of deletes: far below what a record may hold.
const FREES_AT_ONCE: usize = 10_000;

impl Shared {
    /// Notes durably, if there is a journal, that extents are about to be
    /// freed. Many who wait share one sync.
    pub(crate) async fn note_frees(
        self: &Arc<Self>,
        extents: impl Iterator<Item = (FragmentId, Extent)>,
    ) -> Result<(), Failed> {
        // Whoever frees the same extents at the same time notes them once.
        let payloads = extents.map(|(id, extent)| (extent.place(), extent.payload(id)));
        self.intents().extend(payloads);
        let shared = self.clone();
        let work = Arc::new(move || {
            if let Err(error) = shared.write_intents() {
                shared.fatal.fail(format!("noting deletes: {error}"));
            }
        });
        let rounds = &self.intent_rounds;
        rounds.join(&self.tasks, &self.fatal, work).await
    }

    /// Notes all that is to be freed. For the start; blocks.
    pub(crate) fn note_frees_now(&self) -> Result<(), Failed> {
        let extents: Vec<_> = {
            let index = self.index();
            let freeing = index.freeing.values();
            freeing.map(|(id, extent)| extent.payload(*id)).collect()
        };
        if extents.is_empty() {
            return Ok(());
        }
        let noted = extents.into_iter().map(|extent| (extent.place(), extent));
        self.intents().extend(noted);
        self.write_intents()
            .map_err(|error| self.fatal.fail(format!("noting deletes: {error}")))
    }

    fn intents(&self) -> MutexGuard<'_, BTreeMap<Place, ExtentPayload>> {
        self.intents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_intents(&self) -> Result<(), CheckpointError> {
        self.fatal.check()?;
        let mut state = self.keeper.state();
        let intents = std::mem::take(&mut *self.intents());
        let Some(journal) = &mut state.journal else {
            return Ok(());
        };
        let intents: Vec<ExtentPayload> = intents.into_values().collect();
        for some in intents.chunks(FREES_AT_ONCE) {
            if let Err(error) = journal.write_frees(some.to_vec()) {
                tracing::warn!(%error, "deletes cannot be noted: the index is given up");
                return self.give_up_index(&mut state);
            }
            self.disk.reached("delete: noted");
            journal
                .sync()
                .map_err(|error| self.index_not_synced(&error))?;
        }
        self.disk.reached("delete: note synced");
        self.keeper.measure(journal);
        Ok(())
    }

    /// Takes the index's name on disk away, durably: it will not be true any
    /// more. It is still used by this process.
    pub(super) fn give_up_index(&self, state: &mut State) -> Result<(), CheckpointError> {
        if state.journal.take().is_none() {
            return Ok(());
        }
        {
            let mut index = self.index();
            index.journaled = false;
            index.unsaved.clear();
        }
        let Some(number) = state.current.take() else {
            return Ok(());
        };
        let give_up = || {
            self.disk.rename(&base_name(number), &idle_name(number))?;
            self.disk.sync_dir(DIRECTORY)
        };
        give_up().map_err(|error| self.index_not_synced(&error))?;
        Ok(())
    }

    pub(super) fn index_not_synced(&self, error: &io::Error) -> CheckpointError {
        let what = if is_full(error) { "no room" } else { "failed" };
        self.fatal
            .fail(format!("syncing the index: {what}: {error}"))
            .into()
    }
}

//! The beginning of a writer: its room, or the whole way at once for what is
//! small.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::FragmentHeader;
use holdfast_runtime::TasksExt;

use super::claim::Claimed;
use super::{Closing, FragmentWriter, WriteError, Written};
use crate::engine::{Engine, Shared};
use crate::format::STRIPE_BYTES;
use crate::room::{Allowance, Held};

impl Engine {
    /// Begins a fragment of at most `max_bytes`.
    ///
    /// # Errors
    /// [`WriteError::Full`] when there is no room above the reserve.
    pub async fn begin(
        &self,
        header: FragmentHeader,
        max_bytes: u64,
    ) -> Result<FragmentWriter, WriteError> {
        self.reclaim_in_background();
        let held = match self.allocate(&header, max_bytes).await {
            Err(WriteError::Full) => {
                // What writers gave up may be room enough.
                self.reclaim().await.map_err(|_| WriteError::Full)?;
                self.allocate(&header, max_bytes).await?
            }
            other => other?,
        };
        Ok(FragmentWriter::new(held, header))
    }

    async fn allocate(&self, header: &FragmentHeader, max_bytes: u64) -> Result<Held, WriteError> {
        let (shared, header) = (self.shared.clone(), header.clone());
        let work = move || shared.allocate(&header, max_bytes, Allowance::Fragment);
        let done = self.shared.tasks.blocking(work).await;
        done.unwrap_or(Err(WriteError::Ending))
    }

    /// Writes a fragment that is in memory already: all of it, header to closing
    /// record, in one hand-over, and then the sync that all share.
    ///
    /// # Errors
    /// As [`Engine::begin`] and [`FragmentWriter::finish`].
    pub async fn put_small(
        &self,
        header: FragmentHeader,
        data: Bytes,
        closing: Closing,
    ) -> Result<Written, WriteError> {
        if data.len() > STRIPE_BYTES {
            let mut writer = self.begin(header, data.len() as u64).await?;
            writer.write(data).await?;
            return writer.finish(closing).await;
        }
        self.reclaim_in_background();
        let (shared, again) = (self.shared.clone(), closing.clone());
        let work = {
            let (header, data) = (header.clone(), data.clone());
            move || shared.write_small(header, &data, &again)
        };
        let done = self.shared.tasks.blocking(work).await;
        let (writer, claimed, written) = match done.unwrap_or(Err(WriteError::Ending)) {
            Err(WriteError::Full) => {
                // The long way makes room first.
                let mut writer = self.begin(header, data.len() as u64).await?;
                writer.write(data).await?;
                return writer.finish(closing).await;
            }
            other => other?,
        };
        match claimed {
            Claimed::Own(claim) => writer.end(claim, written).await,
            Claimed::Exists | Claimed::Moving => writer.finish(closing).await,
        }
    }
}

impl Shared {
    /// Writes a small fragment up to its closing record, if its id is free.
    /// Blocks.
    fn write_small(
        self: &Arc<Self>,
        header: FragmentHeader,
        data: &Bytes,
        closing: &Closing,
    ) -> Result<(FragmentWriter, Claimed, Written), WriteError> {
        let held = self.allocate(&header, data.len() as u64, Allowance::Fragment)?;
        let extent = held.extent.clone();
        let mut writer = FragmentWriter::new(held, header);
        writer.progress.add(&writer.held.id, data);
        let file = &extent.segment.file;
        let stored = file.write_all_at(data, extent.data_at());
        stored.map_err(WriteError::from_io)?;
        let written = writer.written(closing)?;
        let payload = writer.closing_payload(closing);
        let claimed = self.claim(&payload, &written)?;
        if let Claimed::Own(_) = &claimed {
            self.close(&extent, &payload)?;
        }
        Ok((writer, claimed, written))
    }
}

//! Writing a fragment, in pieces or at once.
//!
//! Begun (header written) → data, stripe by stripe → finishing (the id is
//! claimed, the closing record written, a sync shared) → durable, in the index.
//! A writer that is dropped on the way gives its extent up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use holdfast_model::{FragmentHeader, FragmentId, ObjectKey, Timestamp};
use holdfast_runtime::TasksExt;

use crate::engine::{Allowance, Engine, Held, Shared};
use crate::fatal::Failed;
use crate::format::{BLOCK_BYTES, ClosingPayload, STRIPE_BYTES, block_check, kind, padded_record};
use crate::index::{Extent, IndexError, Location};
use crate::reader::ReadError;

/// Unused room below this is not worth a system call.
const GIVE_BACK_AT_LEAST: u64 = 64 << 10;

/// Why a fragment was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No room above the reserve. Deleting something makes room.
    #[error("the disk is full")]
    Full,
    /// Larger than a segment.
    #[error("a fragment of up to {max_bytes} bytes is larger than a segment")]
    TooLarge {
        /// What was asked for.
        max_bytes: u64,
    },
    /// More bytes than were announced.
    #[error("more than the {max_bytes} bytes that were announced")]
    TooLong {
        /// What was announced.
        max_bytes: u64,
    },
    /// The bytes are not those that the sender meant.
    #[error("the bytes have crc32c {found:08x}, and {expected:08x} was announced")]
    Checksum {
        /// What was announced.
        expected: u32,
        /// What came.
        found: u32,
    },
    /// Another fragment has this name.
    #[error("fragment {0} exists with other bytes")]
    Exists(FragmentId),
    /// Another writer is finishing it: ask again.
    #[error("fragment {0} is being written by somebody else")]
    InProgress(FragmentId),
    /// An earlier call was cancelled half-way, so that bytes are missing.
    #[error("an earlier write was cancelled half-way")]
    Interrupted,
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The disk has failed.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The operating system refused.
    #[error("writing a fragment")]
    Io(#[source] io::Error),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// What is known of a fragment only at its end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Closing {
    /// The object's key.
    pub key: Option<ObjectKey>,
    /// When it expires.
    pub expires: Option<Timestamp>,
    /// crc32c of all the bytes, as the sender computed it.
    pub checksum: Option<u32>,
}

/// A fragment is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Bytes of data.
    pub bytes: u64,
    /// crc32c of them.
    pub checksum: u32,
    /// It was there before: this was a retry.
    pub existed: bool,
}

/// Writes one fragment.
pub struct FragmentWriter {
    held: Held,
    header: FragmentHeader,
    progress: Progress,
    pending: BytesMut,
    /// A store has begun and not returned: cancelled, if seen from outside it.
    storing: bool,
}

/// What has been stored so far.
#[derive(Default)]
struct Progress {
    bytes: u64,
    checksum: u32,
    table: Vec<u8>,
}

impl Progress {
    /// Adds whole blocks; only the last call may end in a shorter one.
    fn add(&mut self, id: &FragmentId, data: &[u8]) {
        for block in data.chunks(BLOCK_BYTES) {
            let number = self.bytes / BLOCK_BYTES as u64;
            let plain = crc32c::crc32c(block);
            let check = block_check(plain, id, number);
            self.table.extend_from_slice(&check.to_le_bytes());
            self.checksum = crc32c::crc32c_combine(self.checksum, plain, block.len());
            self.bytes += block.len() as u64;
        }
    }
}

/// The claim of a writer on the id that it finishes.
struct Claim {
    shared: Arc<Shared>,
    id: FragmentId,
}

/// What came of claiming an id.
enum Claimed {
    Own(Claim),
    /// The same fragment is there already.
    Exists,
    /// Compaction is moving it: to be asked again.
    Moving,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.index().finishing.remove(&self.id);
    }
}

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

impl FragmentWriter {
    fn new(held: Held, header: FragmentHeader) -> Self {
        Self {
            held,
            header,
            progress: Progress::default(),
            pending: BytesMut::new(),
            storing: false,
        }
    }

    /// Adds bytes, in pieces of any size.
    ///
    /// # Errors
    /// After one the writer is of no more use.
    pub async fn write(&mut self, data: Bytes) -> Result<(), WriteError> {
        let max_bytes = self.held.extent.max_bytes;
        let sum = self.progress.bytes + (self.pending.len() + data.len()) as u64;
        if sum > max_bytes {
            return Err(WriteError::TooLong { max_bytes });
        }
        let mut data = data;
        while self.pending.len() + data.len() >= STRIPE_BYTES {
            let stripe = if self.pending.is_empty() {
                data.split_to(STRIPE_BYTES)
            } else {
                let missing = data.split_to(STRIPE_BYTES - self.pending.len());
                self.pending.extend_from_slice(&missing);
                self.pending.split().freeze()
            };
            self.store(stripe).await?;
        }
        self.pending.extend_from_slice(&data);
        Ok(())
    }

    /// Writes whole blocks, or the last ones.
    async fn store(&mut self, data: Bytes) -> Result<(), WriteError> {
        if std::mem::replace(&mut self.storing, true) {
            return Err(WriteError::Interrupted);
        }
        let extent = self.held.extent.clone();
        let (id, fatal) = (self.held.id, self.held.shared.fatal.clone());
        let mut progress = std::mem::take(&mut self.progress);
        let work = move || {
            fatal.check()?;
            let at = extent.data_at() + progress.bytes;
            progress.add(&id, &data);
            let written = extent.segment.file.write_all_at(&data, at);
            written.map_err(WriteError::from_io)?;
            Ok(progress)
        };
        let done = self.held.shared.tasks.blocking(work).await;
        self.progress = done.unwrap_or(Err(WriteError::Ending))?;
        self.storing = false;
        Ok(())
    }

    /// Ends the fragment and returns when it is durable. An identical fragment
    /// that is there already is success, once it has been verified; one that is known to be corrupt, or of
    /// an older generation, is replaced.
    ///
    /// # Errors
    /// After one, nothing is kept.
    pub async fn finish(mut self, closing: Closing) -> Result<Written, WriteError> {
        if !self.pending.is_empty() {
            let rest = self.pending.split().freeze();
            self.store(rest).await?;
        }
        if self.storing {
            return Err(WriteError::Interrupted);
        }
        let mut written = self.written(&closing)?;
        let shared = self.held.shared.clone();
        let claim = loop {
            let moved = shared.moved.notified();
            match self.claim_and_close(&written, &closing).await? {
                Claimed::Own(claim) => break claim,
                Claimed::Moving => {
                    moved.await;
                    continue;
                }
                Claimed::Exists => {}
            }
            // A crash may have kept the closing record of a fragment that was
            // never acknowledged and lost its data: what is there is success
            // only once it has been read.
            let engine = Engine {
                shared: self.held.shared.clone(),
            };
            match engine.verify(self.held.id).await {
                Ok(_) => {
                    written.existed = true;
                    return Ok(written);
                }
                Err(ReadError::Ending) => return Err(WriteError::Ending),
                Err(_) => {}
            }
        };
        self.end(claim, written).await
    }

    /// Waits for the sync and lists the fragment.
    async fn end(mut self, claim: Claim, written: Written) -> Result<Written, WriteError> {
        let shared = self.held.shared.clone();
        let segment = self.held.extent.segment.clone();
        segment.commit(&shared.tasks, &shared.fatal).await?;
        shared.disk.reached("write: synced");
        self.publish(&written);
        drop(claim);
        let engine = Engine { shared };
        engine.keep_index_in_background();
        Ok(written)
    }

    /// What was stored, if it is what the sender meant.
    fn written(&self, closing: &Closing) -> Result<Written, WriteError> {
        let found = self.progress.checksum;
        match closing.checksum {
            Some(expected) if expected != found => Err(WriteError::Checksum { expected, found }),
            _ => Ok(Written {
                bytes: self.progress.bytes,
                checksum: found,
                existed: false,
            }),
        }
    }

    fn closing_payload(&self, closing: &Closing) -> ClosingPayload {
        let extent = &self.held.extent;
        ClosingPayload {
            offset: extent.offset,
            max_bytes: extent.max_bytes,
            durable_end: extent.segment.durable_end.load(Ordering::SeqCst),
            fragment: self.header.clone(),
            bytes: self.progress.bytes,
            checksum: self.progress.checksum,
            key: closing.key.clone(),
            expires: closing.expires,
            table: self.progress.table.clone(),
        }
    }

    /// Claims the id and writes the closing record.
    async fn claim_and_close(
        &mut self,
        written: &Written,
        closing: &Closing,
    ) -> Result<Claimed, WriteError> {
        let shared = self.held.shared.clone();
        let extent = self.held.extent.clone();
        let payload = self.closing_payload(closing);
        let written = *written;
        let work = move || {
            let claimed = shared.claim(&payload, &written)?;
            if let Claimed::Own(_) = &claimed {
                shared.close(&extent, &payload)?;
            }
            Ok(claimed)
        };
        let done = self.held.shared.tasks.blocking(work).await;
        done.unwrap_or(Err(WriteError::Ending))
    }

    /// Puts the durable fragment into the index, and what it replaces out.
    fn publish(&mut self, written: &Written) {
        let shared = self.held.shared.clone();
        shared.publish(&self.held.extent, &self.header, written);
        self.held.kept = true;
    }
}

impl Shared {
    /// Claims an id. Blocks.
    fn claim(
        self: &Arc<Self>,
        payload: &ClosingPayload,
        written: &Written,
    ) -> Result<Claimed, WriteError> {
        self.fatal.check()?;
        let id = payload.fragment.id;
        self.with_entry(&id, |index, old| {
            if index.moving.contains(&id) {
                return Ok(Claimed::Moving);
            }
            if index.finishing.contains_key(&id) {
                return Err(WriteError::InProgress(id));
            }
            if let Some(old) = old.filter(|old| !old.corrupt) {
                if (u64::from(old.bytes), old.checksum) != (written.bytes, written.checksum) {
                    return Err(WriteError::Exists(id));
                }
                // One of an older generation may be cleaned up at any time, so it
                // cannot stand for the newer.
                if old.generation >= payload.fragment.generation {
                    return Ok(Claimed::Exists);
                }
            }
            index.finishing.insert(id, old);
            Ok(Claimed::Own(Claim {
                shared: self.clone(),
                id,
            }))
        })?
    }

    /// Writes a closing record and gives back what the fragment did not use.
    pub(crate) fn close(
        &self,
        extent: &Extent,
        payload: &ClosingPayload,
    ) -> Result<(), WriteError> {
        // Its own number, later than that of any fragment of this name that was
        // finished before: at the start the latest one counts.
        let sequence = self.next_sequence();
        let record = padded_record(kind::CLOSING, extent.segment.id, sequence, payload);
        let (unused, len) = extent.unused(payload.bytes);
        if len >= GIVE_BACK_AT_LEAST {
            extent.segment.give_back(unused, len);
        }
        let at = extent.closing_at();
        let done = extent.segment.file.write_all_at(&record, at);
        done.map_err(WriteError::from_io)?;
        self.disk.reached("write: closing record written");
        Ok(())
    }

    /// Lists a durable fragment whose id is claimed; what it replaces goes.
    fn publish(&self, extent: &Extent, header: &FragmentHeader, written: &Written) {
        let location = Location {
            segment: extent.segment.number,
            offset: extent.offset as u32,
            max_bytes: extent.max_bytes as u32,
            bytes: written.bytes as u32,
            checksum: written.checksum,
            corrupt: false,
            generation: header.generation,
        };
        let mut index = self.index();
        index.held.remove(&extent.place());
        let old = index.finishing.get(&header.id).copied().flatten();
        index.set(header.id, old, Some(location));
        if let Some(replaced) = old.and_then(|old| self.extent(&old)) {
            index
                .freeing
                .insert(replaced.place(), (header.id, replaced));
        }
    }
}

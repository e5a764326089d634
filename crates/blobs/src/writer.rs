//! Writing a fragment, in pieces or at once.
//!
//! Begun (header written) → data, stripe by stripe → finishing (the id is
//! claimed, the closing record written, a sync shared) → durable, in the index.
//! A writer that is dropped on the way gives its extent up.

use std::io;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use holdfast_model::{FragmentHeader, FragmentId, ObjectKey, Timestamp};
use holdfast_runtime::TasksExt;

use crate::engine::Engine;
use crate::fatal::Failed;
use crate::format::{BLOCK_BYTES, ClosingPayload, STRIPE_BYTES, block_check};
use crate::index::IndexError;
use crate::reader::ReadError;
use crate::room::Held;

mod begin;
mod claim;

use claim::{Claim, Claimed};

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
    /// Bytes that do not fill a stripe yet.
    pending: BytesMut,
    /// The same as whole blocks of known checksums; one of the two is empty.
    blocks: Vec<(Bytes, u32)>,
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
            self.add_block(id, block.len(), crc32c::crc32c(block));
        }
    }

    fn add_block(&mut self, id: &FragmentId, len: usize, plain: u32) {
        let number = self.bytes / BLOCK_BYTES as u64;
        let check = block_check(plain, id, number);
        self.table.extend_from_slice(&check.to_le_bytes());
        self.checksum = crc32c::crc32c_combine(self.checksum, plain, len);
        self.bytes += len as u64;
    }
}

impl FragmentWriter {
    fn new(held: Held, header: FragmentHeader) -> Self {
        Self {
            held,
            header,
            progress: Progress::default(),
            pending: BytesMut::new(),
            blocks: Vec::new(),
            storing: false,
        }
    }

    /// Adds bytes, in pieces of any size.
    ///
    /// # Errors
    /// After one the writer is of no more use.
    pub async fn write(&mut self, data: Bytes) -> Result<(), WriteError> {
        self.check_length(data.len())?;
        self.store_blocks().await?;
        let mut data = data;
        while self.pending.len() + data.len() >= STRIPE_BYTES {
            let stripe = if self.pending.is_empty() {
                data.split_to(STRIPE_BYTES)
            } else {
                let missing = data.split_to(STRIPE_BYTES - self.pending.len());
                self.pending.extend_from_slice(&missing);
                self.pending.split().freeze()
            };
            self.store(vec![(stripe, None)]).await?;
        }
        self.pending.extend_from_slice(&data);
        Ok(())
    }

    /// Adds bytes whose crc32c the caller has compared. That of a whole block
    /// is kept and not computed anew: what changes in memory from here on is
    /// noticed when it is read.
    ///
    /// # Errors
    /// As for [`FragmentWriter::write`].
    pub async fn write_verified(&mut self, data: Bytes, checksum: u32) -> Result<(), WriteError> {
        if data.len() != BLOCK_BYTES || !self.pending.is_empty() {
            return self.write(data).await;
        }
        self.check_length(data.len())?;
        self.blocks.push((data, checksum));
        if self.blocks.len() * BLOCK_BYTES >= STRIPE_BYTES {
            self.store_blocks().await?;
        }
        Ok(())
    }

    /// Whether so many bytes more were announced.
    fn check_length(&self, more: usize) -> Result<(), WriteError> {
        let max_bytes = self.held.extent.max_bytes;
        let waiting = self.pending.len() + self.blocks.len() * BLOCK_BYTES;
        if self.progress.bytes + (waiting + more) as u64 > max_bytes {
            return Err(WriteError::TooLong { max_bytes });
        }
        Ok(())
    }

    async fn store_blocks(&mut self) -> Result<(), WriteError> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        let blocks = std::mem::take(&mut self.blocks).into_iter();
        let pieces = blocks.map(|(data, checksum)| (data, Some(checksum)));
        self.store(pieces.collect()).await
    }

    /// Writes whole blocks, or the last ones; with a checksum a single one.
    async fn store(&mut self, pieces: Vec<(Bytes, Option<u32>)>) -> Result<(), WriteError> {
        if std::mem::replace(&mut self.storing, true) {
            return Err(WriteError::Interrupted);
        }
        let extent = self.held.extent.clone();
        let (id, fatal) = (self.held.id, self.held.shared.fatal.clone());
        let mut progress = std::mem::take(&mut self.progress);
        let work = move || {
            fatal.check()?;
            for (data, known) in pieces {
                let at = extent.data_at() + progress.bytes;
                match known {
                    Some(checksum) => progress.add_block(&id, data.len(), checksum),
                    None => progress.add(&id, &data),
                }
                let written = extent.segment.file.write_all_at(&data, at);
                written.map_err(WriteError::from_io)?;
            }
            Ok(progress)
        };
        let done = self.held.shared.tasks.blocking(work).await;
        self.progress = done.unwrap_or(Err(WriteError::Ending))?;
        self.storing = false;
        Ok(())
    }

    /// Ends the fragment and returns when it is durable. An identical fragment
    /// that is there already is success, once it has been verified; one that is
    /// known to be corrupt, or of an older generation, is replaced.
    ///
    /// # Errors
    /// After one, nothing is kept.
    pub async fn finish(mut self, closing: Closing) -> Result<Written, WriteError> {
        self.store_blocks().await?;
        if !self.pending.is_empty() {
            let rest = self.pending.split().freeze();
            self.store(vec![(rest, None)]).await?;
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

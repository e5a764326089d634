//! Scrubbing: every fragment on the own disk is read now and then, slowly, so
//! that what has rotted is found while other copies are left.

use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_metadata::command::{Command, MissingFragment};
use holdfast_metadata::protocol::FileEntry;
use holdfast_model::{FragmentId, FragmentPlace};

use crate::census::just_before;
use crate::copy::read_whole;
use crate::error::WorkError;
use crate::repair::is_gone;
use crate::shared::Shared;
use crate::worker::{Round, Worker};

/// The pause after the whole disk has been read.
const PAUSE: Duration = Duration::from_secs(60);

/// Reads the own disk.
pub(crate) struct Scrub {
    shared: Shared,
    after: Option<FragmentId>,
    read: u64,
    corrupt: u64,
    passes: u64,
}

impl Scrub {
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            after: None,
            read: 0,
            corrupt: 0,
            passes: 0,
        }
    }

    async fn read_page(&mut self) -> Result<Round, WorkError> {
        let disk = self.shared.disk;
        if self.shared.state()?.layout.node_of(disk).is_none() {
            return Ok(Round::Idle("the own disk is in no layout yet".into()));
        }
        let page = self.shared.files(disk, self.after, None).await?;
        for file in &page.files {
            // One that cannot be read now must not keep the rest unread.
            self.after = Some(file.id);
            self.read_one(file).await?;
        }
        if page.more {
            return Ok(Round::More(self.note()));
        }
        self.after = None;
        self.passes += 1;
        Ok(Round::Idle(self.note()))
    }

    fn note(&self) -> String {
        format!(
            "{} passes, {} fragments read, {} found corrupt",
            self.passes, self.read, self.corrupt
        )
    }

    async fn read_one(&mut self, file: &FileEntry) -> Result<(), WorkError> {
        let disk = self.shared.disk;
        self.shared.scrub_throttle.take(file.bytes).await;
        self.read += 1;
        metrics::counter!("holdfast_scrub_bytes_total").increment(file.bytes);
        let Err(error) = read_whole(&self.shared, disk, file.id, file.bytes).await else {
            return Ok(());
        };
        // A read that breaks off in the middle says only that it did; the
        // disk's list says whether the fragment is at fault.
        let corrupt = is_gone(&error) || self.listed_corrupt(&file.id).await?;
        if !corrupt {
            return Err(error);
        }
        let Some(_) = self.listed(&file.id).await? else {
            // Deleted meanwhile.
            return Ok(());
        };
        self.corrupt += 1;
        tracing::warn!(fragment = %file.id, %error, "a fragment on this disk is corrupt");
        metrics::counter!("holdfast_scrub_corrupt_total").increment(1);
        let missing = MissingFragment {
            upload: file.id.upload,
            chunk: file.id.chunk,
            place: FragmentPlace {
                index: file.id.index,
                disk,
            },
        };
        let command = Command::ReportMissing {
            fragments: vec![missing],
        };
        self.shared
            .propose(file.id.group, "a report of a corrupt fragment", command)
            .await?;
        Ok(())
    }

    async fn listed(&self, id: &FragmentId) -> Result<Option<FileEntry>, WorkError> {
        let before = FragmentId {
            index: id.index.saturating_add(1),
            ..*id
        };
        let page = self
            .shared
            .files(self.shared.disk, just_before(id), Some(before))
            .await?;
        Ok(page.files.into_iter().find(|file| file.id == *id))
    }

    async fn listed_corrupt(&self, id: &FragmentId) -> Result<bool, WorkError> {
        Ok(self.listed(id).await?.is_none_or(|file| file.corrupt))
    }
}

impl Worker for Scrub {
    fn name(&self) -> &'static str {
        "scrub"
    }

    fn every(&self) -> Duration {
        PAUSE
    }

    fn round(&mut self) -> BoxFuture<'_, Result<Round, WorkError>> {
        Box::pin(self.read_page())
    }
}

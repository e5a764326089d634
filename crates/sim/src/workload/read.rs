//! Reading objects, compared with what was written.

use futures_util::StreamExt;
use holdfast_client::{ClusterError, read_record};
use holdfast_model::{ObjectKey, ObjectRecord};

use super::{BODY_LIMIT, Client};
use crate::journal::{Work, Written};

impl Client {
    pub(super) async fn read(&self, key: &ObjectKey) {
        if let Err(error) = self.read_whole(key).await {
            self.journal.count(|counts| counts.failed += 1);
            self.tell(&format!("read {}: {error}", key.as_str()));
        }
    }

    /// Reads an object whole and compares it; answers which value it has.
    ///
    /// # Errors
    /// Why it could not be read; what was read of it was right.
    pub async fn read_whole(&self, key: &ObjectKey) -> Result<Option<u64>, ClusterError> {
        let begun = self.journal.trace().at();
        let read = self.try_read(key).await;
        self.journal.did(begun, Work::Read, read.as_ref().err());
        read
    }

    async fn try_read(&self, key: &ObjectKey) -> Result<Option<u64>, ClusterError> {
        let (_, seen) = self.look(key).await?;
        let Some((record, written)) = seen else {
            self.tell(&format!("read {}: nothing", key.as_str()));
            return Ok(None);
        };
        match self.compare(key, &record, written).await {
            // What was written over is deleted at once: a reader begins anew.
            Err(ClusterError::DataUnavailable { .. }) if self.is_over(key, &record).await? => {
                return Box::pin(self.try_read(key)).await;
            }
            compared => compared?,
        }
        self.tell(&format!("read {}: value {}", key.as_str(), written.value));
        self.journal.count(|counts| counts.reads += 1);
        Ok(Some(written.value))
    }

    /// Whether this version of an object is not its newest any more.
    async fn is_over(&self, key: &ObjectKey, record: &ObjectRecord) -> Result<bool, ClusterError> {
        let (_, seen) = self.look(key).await?;
        Ok(seen.is_none_or(|(now, _)| now.version != record.version))
    }

    async fn compare(
        &self,
        key: &ObjectKey,
        record: &ObjectRecord,
        written: Written,
    ) -> Result<(), ClusterError> {
        let size = record.content.size;
        // Clients read a part now and then; the judge reads all of it.
        let range = match self.number > 0 && size > 0 && self.below(4) == 0 {
            true => {
                let first = self.below(size);
                first..first + 1 + self.below(size - first)
            }
            false => 0..size,
        };
        let mut pieces = read_record(
            &self.cluster,
            self.place(key)?,
            record,
            Vec::new(),
            range.clone(),
            self.budget.clone(),
        );
        let expected = written.bytes();
        let expected = expected.slice(range.start as usize..range.end as usize);
        let mut at = 0;
        let reading = async {
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                let right = expected.get(at..at + piece.len());
                if right != Some(piece.as_ref()) {
                    self.wrong(format!("{} has wrong bytes from {at} on", key.as_str()));
                    return Ok(());
                }
                at += piece.len();
            }
            if at != expected.len() {
                self.wrong(format!(
                    "{} ended after {at} of {} bytes as if it were whole",
                    key.as_str(),
                    expected.len()
                ));
            }
            Ok(())
        };
        tokio::time::timeout(BODY_LIMIT, reading)
            .await
            .unwrap_or_else(|_| Err(ClusterError::NotReady("the body took too long".into())))
    }
}

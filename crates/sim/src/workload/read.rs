//! Reading objects and listing them, compared with what was written.

use futures_util::StreamExt;
use holdfast_client::{ClusterError, read_object};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::{GroupId, ObjectKey, ObjectRecord};

use super::{BODY_LIMIT, Client, DEADLINE, SHARED_KEYS, key, said};
use crate::history::Action;
use crate::journal::Written;

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
        let called = self.journal.tick();
        let (group, record, now) = self.record(key).await?;
        let record = record.filter(|record| !record.expired(now));
        let Some(record) = record else {
            self.journal
                .note(key, self.number, called, true, Action::Read(None));
            self.tell(&format!("read {}: nothing", key.as_str()));
            return Ok(None);
        };
        let Some(written) = self.journal.written(&record.version) else {
            self.wrong(format!("{} has a version nobody wrote", key.as_str()));
            return Ok(None);
        };
        let action = Action::Read(Some(written.value));
        self.journal.note(key, self.number, called, true, action);
        self.compare(key, group, &record, written).await?;
        self.tell(&format!("read {}: value {}", key.as_str(), written.value));
        self.journal.count(|counts| counts.reads += 1);
        Ok(Some(written.value))
    }

    async fn compare(
        &self,
        key: &ObjectKey,
        group: GroupId,
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
        let mut pieces = read_object(
            &self.cluster,
            group,
            size,
            &record.representation,
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

    /// Lists one group: each shared key of it is seen or not.
    pub(super) async fn list(&self) {
        let keys: Vec<ObjectKey> = (0..SHARED_KEYS).filter_map(|n| key("shared", n)).collect();
        let Some(any) = keys.get(self.below(SHARED_KEYS) as usize) else {
            return;
        };
        let Ok(group) = self.cluster.group_of(self.bucket, any) else {
            return;
        };
        let query = Query::List {
            bucket: self.bucket,
            owner: None,
            after: None,
            limit: 1_000,
        };
        let called = self.journal.tick();
        let answer = self.cluster.query(group, query, DEADLINE, None).await;
        let Ok(Answer::Listing { records, more, .. }) = answer else {
            self.tell(&format!("list {group}: {}", said(&answer)));
            return self.journal.count(|counts| counts.failed += 1);
        };
        if more {
            self.wrong("a short listing claims to have more".into());
        }
        self.tell(&format!("list {group}: {} objects", records.len()));
        self.journal.count(|counts| counts.listings += 1);
        for key in keys {
            if self.cluster.group_of(self.bucket, &key).ok() != Some(group) {
                continue;
            }
            let record = records.iter().find(|record| record.key == key);
            let value = record.and_then(|record| self.journal.written(&record.version));
            let action = Action::Read(value.map(|written| written.value));
            self.journal.note(&key, self.number, called, true, action);
        }
    }
}

//! Putting and deleting objects.

use std::time::Duration;

use holdfast_client::{ClusterError, ObjectTarget, ObjectWriter, Written as Stored};
use holdfast_metadata::command::{Command, Condition, DeleteCause, Outcome, Refusal};
use holdfast_model::record::DownloadLimit;
use holdfast_model::{ObjectKey, VersionId};

use super::{BODY_LIMIT, Client, LIFETIME_MILLIS, Pace, said};
use crate::history::Action;
use crate::journal::Written;
use crate::plain_put::plain_put;

impl Client {
    /// Puts an object and notes what came of it.
    pub async fn put(&self, key: &ObjectKey, size: u64, limit: Option<u32>) {
        let version = VersionId::from_bytes(self.cluster.env().entropy.id());
        let written = self.journal.new_value(version, size as usize);
        let absent = limit.is_some() || self.below(5) == 0;
        let condition = if absent {
            Condition::Absent
        } else {
            Condition::Always
        };
        let action = if absent {
            Action::PutAbsent(written.value)
        } else {
            Action::Put(written.value)
        };
        let called = self.journal.tick();
        let result = self.try_put(key, version, written, condition, limit).await;
        let name = key.as_str();
        let Written { value, .. } = written;
        self.tell(&format!(
            "put {name} value {value} of {size}: {}",
            said(&result)
        ));
        let counted = limit.is_none();
        match result {
            Ok(()) => {
                self.journal.count(|counts| counts.puts += 1);
                if counted {
                    self.journal.note(key, self.number, called, true, action);
                }
            }
            Err(ClusterError::OutcomeUnknown { .. }) => {
                self.journal.count(|counts| counts.unknown += 1);
                if counted {
                    self.journal.note(key, self.number, called, false, action);
                }
            }
            Err(error) => {
                self.journal.count(|counts| counts.failed += 1);
                if let ClusterError::Refused(Refusal::Invalid(why)) = error {
                    self.wrong(format!("a put of {name} is refused as senseless: {why}"));
                }
            }
        }
    }

    async fn try_put(
        &self,
        key: &ObjectKey,
        version: VersionId,
        written: Written,
        condition: Condition,
        limit: Option<u32>,
    ) -> Result<(), ClusterError> {
        let state = self.cluster.require_state()?;
        let group = self.cluster.group_of(self.bucket, key)?;
        let stored = self.upload(key, version, written).await?;
        let expires = self.below(3) == 0;
        let owner = state.access_keys.first().map(|key| key.id);
        let owner = owner.ok_or_else(|| ClusterError::NotReady("no access key".into()))?;
        let mut put = plain_put(self.bucket, key.clone(), version, owner, stored);
        put.record.downloads = limit.map(|limit| DownloadLimit { limit, left: limit });
        put.condition = condition;
        put.lifetime_millis = expires.then_some(LIFETIME_MILLIS);
        let command = Command::PutObject(Box::new(put));
        match self.command(group, command).await? {
            Outcome::Put(record) if record.version == version => Ok(()),
            other => {
                self.wrong(format!("a put is answered with {other:?}"));
                Ok(())
            }
        }
    }

    /// Sends the bytes of an object.
    async fn upload(
        &self,
        key: &ObjectKey,
        version: VersionId,
        written: Written,
    ) -> Result<Stored, ClusterError> {
        let env = self.cluster.env();
        let target = ObjectTarget {
            bucket: self.bucket,
            key: key.clone(),
            version,
            expires: None,
        };
        let budget = self.budget.clone();
        let mut writer = ObjectWriter::new(&self.cluster, target, None, budget);
        let pace = self.pace.unwrap_or_else(|| self.draw_pace());
        let upload = async {
            let mut bytes = written.bytes();
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(200 << 10));
                writer.write(piece).await?;
                env.clock.sleep(pace.piece).await;
            }
            Ok::<_, ClusterError>(())
        };
        let sent = tokio::time::timeout(BODY_LIMIT, upload)
            .await
            .unwrap_or_else(|_| Err(ClusterError::NotReady("the upload took too long".into())));
        if let Err(error) = sent {
            // As a gateway does, unless it dies.
            if self.below(4) > 0 {
                writer.abort().await;
            }
            return Err(error);
        }
        let stored = tokio::time::timeout(BODY_LIMIT, writer.finish())
            .await
            .map_err(|_| ClusterError::NotReady("the upload took too long".into()))??;
        if stored.generation.is_some() {
            env.clock.sleep(pace.commit).await;
        }
        Ok(stored)
    }

    /// Some are slower than what the clean-up waits for, and some dawdle between
    /// their last byte and the commit.
    fn draw_pace(&self) -> Pace {
        let piece = match self.below(12) {
            0 => self.below(12_000),
            _ => 0,
        };
        let commit = match self.below(14) {
            0 => self.below(40_000),
            _ => 0,
        };
        Pace {
            piece: Duration::from_millis(piece),
            commit: Duration::from_millis(commit),
        }
    }

    /// Deletes an object and notes what came of it.
    pub async fn delete(&self, key: &ObjectKey) {
        let Ok(group) = self.cluster.group_of(self.bucket, key) else {
            return;
        };
        let command = Command::DeleteObject {
            bucket: self.bucket,
            key: key.clone(),
            version: None,
            cause: DeleteCause::Wish,
        };
        let called = self.journal.tick();
        let result = self.command(group, command).await;
        self.tell(&format!("delete {}: {}", key.as_str(), said(&result)));
        let (known, action) = match result {
            Ok(Outcome::Deleted(version)) => match self.journal.written(&version) {
                Some(written) => {
                    self.journal.count(|counts| counts.deletes += 1);
                    (true, Action::Take(written.value))
                }
                None => return self.wrong(format!("a version nobody wrote: {version}")),
            },
            Err(ClusterError::Refused(Refusal::NoSuchObject)) => (true, Action::Read(None)),
            Err(ClusterError::OutcomeUnknown { .. }) => {
                self.journal.count(|counts| counts.unknown += 1);
                (false, Action::Clear)
            }
            Ok(other) => return self.wrong(format!("a delete is answered with {other:?}")),
            Err(_) => return self.journal.count(|counts| counts.failed += 1),
        };
        self.journal.note(key, self.number, called, known, action);
    }
}

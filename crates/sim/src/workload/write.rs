//! Putting and deleting objects.

use std::time::Duration;

use holdfast_client::{ClusterError, ObjectTarget, ObjectWriter, Written as Stored};
use holdfast_metadata::command::{
    Command, Condition, DeleteCause, DeleteVersion, Outcome, Refusal,
};
use holdfast_model::record::DownloadLimit;
use holdfast_model::{ObjectKey, VersionId};

use super::condition::Chosen;
use super::{BODY_LIMIT, Client, LIFETIME_MILLIS, Pace, said};
use crate::history::{Action, Held, When};
use crate::journal::{Work, Written};
use crate::plain_put::plain_put;

impl Client {
    /// Puts an object and notes what came of it: whatever is there, but one
    /// with a limit only where nothing is.
    pub async fn put(&self, key: &ObjectKey, size: u64, limit: Option<u32>) {
        let chosen = match limit {
            Some(_) => Chosen::ABSENT,
            None => Chosen::ALWAYS,
        };
        self.put_when(key, size, limit, chosen).await;
    }

    /// Puts an object on a drawn condition, or on none.
    pub(super) async fn put_drawn(&self, key: &ObjectKey, size: u64) {
        let chosen = match self.below(10) {
            0 | 1 => Chosen::ABSENT,
            2..5 => self.one_that_is_there(key).await,
            _ => Chosen::ALWAYS,
        };
        self.put_when(key, size, None, chosen).await;
    }

    async fn put_when(&self, key: &ObjectKey, size: u64, limit: Option<u32>, chosen: Chosen) {
        let version = VersionId::from_bytes(self.cluster.env().entropy.id());
        let written = self.journal.new_value(version, size as usize, limit);
        let when = chosen.when();
        let held = Held {
            value: written.value,
            left: limit,
        };
        let begun = self.journal.trace().at();
        let called = self.journal.tick();
        let result = self.try_put(key, version, written, chosen.condition).await;
        let (name, value) = (key.as_str(), written.value);
        self.journal
            .did(begun, Work::Put(size), result.as_ref().err());
        self.tell(&format!(
            "put {name} value {value} of {size} if {when:?}: {}",
            said(&result)
        ));
        match result {
            Ok(()) => {
                self.journal.count(|counts| counts.puts += 1);
                self.note(key, called, true, Action::Put(held, when));
            }
            Err(ClusterError::OutcomeUnknown { .. }) => {
                self.journal.count(|counts| counts.unknown += 1);
                self.note(key, called, false, Action::Put(held, when));
            }
            Err(ClusterError::Refused(Refusal::ConditionFailed(tag))) => {
                self.unmet(key, called, when, tag);
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
    ) -> Result<(), ClusterError> {
        let state = self.cluster.require_state()?;
        let group = self.cluster.group_of(self.bucket, key)?;
        let stored = self.upload(key, version, written).await?;
        let expires = self.below(3) == 0;
        let owner = state.access_keys.first().map(|key| key.id);
        let owner = owner.ok_or_else(|| ClusterError::NotReady("no access key".into()))?;
        let mut put = plain_put(self.bucket, key.clone(), version, owner, stored);
        put.record.downloads = written
            .limit
            .map(|limit| DownloadLimit { limit, left: limit });
        put.condition = condition;
        put.lifetime_millis = expires.then_some(LIFETIME_MILLIS);
        let command = Command::PutObject(Box::new(put));
        match self.command(group, command).await? {
            Outcome::Put(record) if record.version == version => {
                self.journal.held(&record);
                Ok(())
            }
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

    /// Deletes an object on a drawn condition, or on none.
    pub(super) async fn delete_drawn(&self, key: &ObjectKey) {
        let chosen = match self.below(5) {
            0..2 => self.one_that_is_there(key).await,
            _ => Chosen::ALWAYS,
        };
        self.delete_when(key, chosen).await;
    }

    /// Deletes an object, whatever it is, and notes what came of it.
    pub async fn delete(&self, key: &ObjectKey) {
        self.delete_when(key, Chosen::ALWAYS).await;
    }

    async fn delete_when(&self, key: &ObjectKey, chosen: Chosen) {
        let Ok(group) = self.cluster.group_of(self.bucket, key) else {
            return;
        };
        let when = chosen.when();
        let command = self.delete_command(key, chosen);
        // One that names its version is told only that it is not there.
        let by_version = matches!(command, Command::DeleteObject { .. });
        let begun = self.journal.trace().at();
        let called = self.journal.tick();
        let result = self.command(group, command).await;
        let name = key.as_str();
        self.journal.did(begun, Work::Delete, result.as_ref().err());
        self.tell(&format!("delete {name} if {when:?}: {}", said(&result)));
        let (known, action) = match result {
            Ok(Outcome::Deleted(version)) => match self.journal.written(&version) {
                Some(Written { value, .. }) => {
                    self.journal.count(|counts| counts.deletes += 1);
                    if !matches!(when, When::Always) && when != When::Is(value) {
                        self.wrong(format!("{name}: {value} is deleted on {when:?}"));
                    }
                    (true, Action::Take(value))
                }
                None => return self.wrong(format!("a version nobody wrote: {version}")),
            },
            Err(ClusterError::Refused(Refusal::NoSuchObject)) => match when {
                When::Is(value) if by_version => (true, Action::Gone(value)),
                When::Always => (true, Action::Read(None)),
                _ => return self.wrong(format!("{name} is not there, and {when:?} was met")),
            },
            Err(ClusterError::Refused(Refusal::ConditionFailed(tag))) => {
                return self.unmet(key, called, when, tag);
            }
            Err(ClusterError::OutcomeUnknown { .. }) => {
                self.journal.count(|counts| counts.unknown += 1);
                (false, Action::Clear(when))
            }
            Ok(other) => return self.wrong(format!("a delete is answered with {other:?}")),
            Err(_) => return self.journal.count(|counts| counts.failed += 1),
        };
        self.note(key, called, known, action);
    }

    fn delete_command(&self, key: &ObjectKey, chosen: Chosen) -> Command {
        let (bucket, key) = (self.bucket, key.clone());
        let condition = match chosen.condition {
            Condition::Version(version) if self.below(2) == 0 => {
                return Command::DeleteObject {
                    bucket,
                    key,
                    version: Some(version),
                    cause: DeleteCause::Wish,
                };
            }
            Condition::Always => {
                return Command::DeleteObject {
                    bucket,
                    key,
                    version: None,
                    cause: DeleteCause::Wish,
                };
            }
            condition => condition,
        };
        Command::DeleteVersion(Box::new(DeleteVersion {
            bucket,
            key,
            version: None,
            condition,
            marker: None,
        }))
    }
}

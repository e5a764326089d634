//! What workers make of objects: another representation, or something derived.
//!
//! A result names the attempt that made it and the version it was made of, and
//! is refused when either is old: so a worker that wakes up late changes
//! nothing. Taking the result finishes the task in the same command.

use bytes::Bytes;
use holdfast_model::{BucketId, Chunk, Derived, Generation, ObjectKey, Representation, VersionId};

use super::objects::Found;
use super::stored::{Proposed, REPLACED_GRACE_MILLIS};
use super::{Applied, Machine, invalid};
use crate::command::{Outcome, Refusal, TaskAttempt};
use crate::store::StoreError;

/// A worker's result.
pub(super) struct WorkerResult<'c> {
    pub bucket: BucketId,
    pub key: &'c ObjectKey,
    pub version: VersionId,
    pub made: Made<'c>,
    pub chunks: &'c [Chunk],
    pub task: TaskAttempt,
    pub generation: Generation,
}

/// What was made.
pub(super) enum Made<'c> {
    /// How the object's own bytes are to be stored.
    Representation(&'c Representation),
    /// Something beside them.
    Derived(&'c Derived),
}

impl Machine<'_, '_> {
    pub(super) fn take_result(&mut self, result: &WorkerResult<'_>) -> Applied {
        self.check_slot(result.bucket, result.key)?;
        let task = self.current_attempt(result.task)?;
        let about = (task.task.bucket, &task.task.key, task.task.version);
        if about != (result.bucket, result.key, result.version) {
            return Err(invalid("the task is about another object"));
        }
        let found = self.find_version(result.bucket, result.key, result.version)?;
        let Some(mut found) = found else {
            self.drop_task(&task)?;
            return Err(Refusal::Fenced.into());
        };
        let (representation, size) = match &result.made {
            Made::Representation(representation) => (*representation, found.record.content.size),
            Made::Derived(derived) => (&derived.representation, derived.content.size),
        };
        let plan = self.plan_commit(&Proposed {
            bucket: result.bucket,
            key: result.key,
            representation,
            chunks: result.chunks,
            generation: Some(result.generation),
            size,
        })?;
        self.commit_plan(plan)?;
        match &result.made {
            Made::Representation(representation) => self.swap(&mut found, representation)?,
            Made::Derived(derived) => self.attach(&mut found, derived)?,
        }
        found.record.revision += 1;
        self.write_record(&found)?;
        self.task_done(task)?;
        Ok(Outcome::Done)
    }

    fn swap(&mut self, found: &mut Found, new: &Representation) -> Result<(), StoreError> {
        let (new, inline) = without_bytes(new);
        let old = std::mem::replace(&mut found.record.representation, new);
        self.exchange_bytes(found.sequence, 0, Some(&old), inline)
    }

    fn attach(&mut self, found: &mut Found, derived: &Derived) -> Result<(), StoreError> {
        let (representation, inline) = without_bytes(&derived.representation);
        let new = Derived {
            representation,
            ..derived.clone()
        };
        let what = 1 + new.kind as u8;
        let list = &mut found.record.derived;
        let old = match list.iter_mut().find(|old| old.kind == new.kind) {
            Some(slot) => Some(std::mem::replace(slot, new).representation),
            None => {
                list.push(new);
                None
            }
        };
        self.exchange_bytes(found.sequence, what, old.as_ref(), inline)
    }

    /// Discards what was stored before and writes new inline bytes. Readers
    /// that have begun on the old chunks may end.
    fn exchange_bytes(
        &mut self,
        sequence: u64,
        what: u8,
        old: Option<&Representation>,
        inline: Option<Bytes>,
    ) -> Result<(), StoreError> {
        if let Some(old) = old {
            let due = self.now().plus(REPLACED_GRACE_MILLIS);
            self.discard_bytes(sequence, what, old, due)?;
        }
        match inline {
            Some(bytes) => self.rows.put(&super::keys::inline(sequence, what), &bytes),
            None => Ok(()),
        }
    }
}

/// A representation without its inline bytes, and those.
fn without_bytes(representation: &Representation) -> (Representation, Option<Bytes>) {
    let mut new = representation.clone();
    let bytes = match &mut new {
        Representation::Inline { bytes, .. } => Some(std::mem::take(bytes)),
        Representation::Chunked { .. } => None,
    };
    (new, bytes)
}

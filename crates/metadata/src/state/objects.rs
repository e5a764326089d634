//! Objects: commit, delete, and what workers make of them.
//!
//! A record is stored without its inline bytes, which are rows of their own:
//! counting a download rewrites some hundred bytes and not sixteen thousand.

use bytes::Bytes;
use holdfast_model::attributes::check_attributes;
use holdfast_model::{
    BucketId, DownloadLimit, ObjectKey, ObjectRecord, Representation, TaskKind, Timestamp,
    VersionId, Versioning,
};

use super::rows::{self, UploadState};
use super::stored::Proposed;
use super::versions::{index_name, indexed_when_current};
use super::{Applied, Machine, Stop, invalid, keys};
use crate::command::{Condition, DeleteCause, Outcome, PutObject, Refusal};
use crate::store::{Rows, StoreError};

/// The most tasks that one commit asks for.
const MAX_NEW_TASKS: usize = 8;

/// An object as it is stored: its record has no inline bytes.
#[derive(Clone)]
pub(super) struct Found {
    pub sequence: u64,
    pub record: ObjectRecord,
}

/// The current version of an object.
pub(super) fn find(
    view: &impl Rows,
    bucket: BucketId,
    key: &ObjectKey,
) -> Result<Option<Found>, StoreError> {
    let row = rows::prefixed(view, &keys::object_versions(bucket, key), 1)?.pop();
    let Some((row_key, value)) = row else {
        return Ok(None);
    };
    let sequence = row_key
        .last_chunk::<8>()
        .map(|bytes| !u64::from_be_bytes(*bytes))
        .unwrap_or_default();
    let record = rows::decode(&value)?;
    Ok(Some(Found { sequence, record }))
}

/// Puts the inline bytes back into a record.
pub(super) fn with_inline_bytes(
    view: &impl Rows,
    found: Found,
) -> Result<ObjectRecord, StoreError> {
    let Found {
        sequence,
        mut record,
    } = found;
    for (what, representation) in representations(&mut record) {
        if let Representation::Inline { bytes, .. } = representation {
            let stored = view.get(&keys::inline(sequence, what))?;
            *bytes = stored.map(Bytes::from).ok_or_else(|| {
                StoreError::Corrupt(format!("no inline bytes of object {sequence}"))
            })?;
        }
    }
    Ok(record)
}

/// All representations of a record, by the number of their inline rows.
fn representations(record: &mut ObjectRecord) -> impl Iterator<Item = (u8, &mut Representation)> {
    let derived = record
        .derived
        .iter_mut()
        .map(|derived| (1 + derived.kind as u8, &mut derived.representation));
    std::iter::once((0, &mut record.representation)).chain(derived)
}

/// The rows that show an object in the lists of files.
pub(super) fn listing_rows(record: &ObjectRecord) -> [Vec<u8>; 2] {
    let by_owner = keys::owner_listing(record.bucket, record.owner);
    let by_created = keys::bucket_listing(record.bucket);
    [by_owner, by_created].map(|start| keys::listed(start, record.created, &record.key))
}

/// Whether nobody may have the object any more at `now`.
pub(super) fn ended(record: &ObjectRecord, now: Timestamp) -> bool {
    record.expired(now) || record.downloads.is_some_and(|limit| limit.left == 0)
}

impl Machine<'_, '_> {
    pub(super) fn find_object(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
    ) -> Result<Option<Found>, StoreError> {
        find(self.rows, bucket, key)
    }

    pub(super) fn put_object(&mut self, put: &PutObject) -> Applied {
        let wanted = &put.record;
        self.check_slot(wanted.bucket, &wanted.key)?;
        let versioning = self.open_bucket(wanted.bucket)?.versioning;
        let old = self.find_object(wanted.bucket, &wanted.key)?;
        if let Some(first) = self.check_condition(put, old.as_ref())? {
            self.discard_duplicate(put)?;
            return Ok(Outcome::Put(Box::new(first)));
        }
        let plan = self.plan_commit(&Proposed {
            bucket: wanted.bucket,
            key: &wanted.key,
            representation: &wanted.representation,
            chunks: &put.chunks,
            generation: put.generation,
            size: wanted.content.size,
        })?;
        self.check_new_object(put, old.as_ref(), versioning)?;
        let kind = self.cover(old.as_ref(), versioning, wanted.bucket, &wanted.key)?;
        self.commit_plan(plan)?;
        let mut record = wanted.clone();
        record.kind = kind;
        record.created = self.now();
        record.expires = put.lifetime_millis.map(|millis| self.now().plus(millis));
        record.revision = 1;
        record.downloads = record
            .downloads
            .map(|DownloadLimit { limit, .. }| DownloadLimit { limit, left: limit });
        let record = self.insert_object(record)?;
        for task in &put.tasks {
            self.add_task(task.id, task.kind, &record, self.now())?;
        }
        Ok(Outcome::Put(Box::new(record)))
    }

    /// Whether the condition is met; the object that answers a repeated
    /// request, where one does.
    fn check_condition(
        &self,
        put: &PutObject,
        old: Option<&Found>,
    ) -> Result<Option<ObjectRecord>, Stop> {
        let live = old
            .map(|old| &old.record)
            .filter(|record| !record.kind.is_marker() && !ended(record, self.now()));
        let failed = || {
            let tag = live.map(|record| record.content.etag.clone());
            Stop::Refused(Refusal::ConditionFailed(tag))
        };
        match (&put.condition, live, old) {
            (Condition::Always, ..) | (Condition::Absent, None, _) => Ok(None),
            (Condition::Matches(tag), Some(live), _) if live.content.etag == *tag => Ok(None),
            (Condition::Version(version), Some(live), _) if live.version == *version => Ok(None),
            (Condition::Absent | Condition::Matches(_) | Condition::Version(_), ..) => {
                Err(failed())
            }
            (Condition::Idempotent, _, None) => Ok(None),
            // Ended or not: it is what the first request made.
            (Condition::Idempotent, _, Some(old)) => {
                let same = old.record.fingerprint.is_some()
                    && old.record.fingerprint == put.record.fingerprint;
                if same {
                    Ok(Some(old.record.clone()))
                } else {
                    Err(Refusal::KeyReused.into())
                }
            }
        }
    }

    /// Gives up what a repeated request has uploaded again.
    fn discard_duplicate(&mut self, put: &PutObject) -> Result<(), StoreError> {
        let uploads: Vec<_> = put.record.representation.uploads().collect();
        for upload in &uploads {
            match rows::read_upload(self.rows, *upload)? {
                Some(row) if matches!(row.state, UploadState::Open(_)) => {
                    self.give_up(*upload, row)?;
                }
                // The first request itself, come again.
                Some(row) if row.state == UploadState::Committed => return Ok(()),
                _ => {}
            }
        }
        // Chunks that came with the command were never stored: their fragments
        // are orphans, which the clean-up by generations finds.
        Ok(())
    }

    fn check_new_object(
        &self,
        put: &PutObject,
        old: Option<&Found>,
        versioning: Versioning,
    ) -> Result<(), Stop> {
        let wanted = &put.record;
        check_attributes(wanted).map_err(invalid)?;
        let ends = put.lifetime_millis.is_some() || wanted.downloads.is_some();
        if versioning != Versioning::Unversioned && ends {
            return Err(invalid(
                "an object with versions has no expiry and no limit",
            ));
        }
        if !put.record.derived.is_empty() {
            return Err(invalid("a new object has nothing derived"));
        }
        if put.record.downloads.is_some_and(|limit| limit.limit == 0) {
            return Err(invalid("a download limit is at least one"));
        }
        let version = wanted.version;
        let known = match old {
            None => false,
            Some(old) if old.record.version == version => true,
            Some(_) if versioning == Versioning::Unversioned => false,
            Some(_) => {
                let known = self.find_version(wanted.bucket, &wanted.key, version)?;
                known.is_some()
            }
        };
        if version == VersionId::NULL || known {
            return Err(invalid("a new object needs a new version"));
        }
        if put.tasks.len() > MAX_NEW_TASKS {
            return Err(invalid("too many tasks"));
        }
        for (at, task) in put.tasks.iter().enumerate() {
            let twice = put
                .tasks
                .iter()
                .skip(at + 1)
                .any(|other| other.id == task.id);
            if twice
                || task.kind == TaskKind::Delete
                || self.rows.get(&keys::task(task.id))?.is_some()
            {
                return Err(invalid("such a task cannot be added"));
            }
        }
        Ok(())
    }

    /// Writes a new object with its rows; answers its record without inline bytes.
    pub(super) fn insert_object(
        &mut self,
        record: ObjectRecord,
    ) -> Result<ObjectRecord, StoreError> {
        let mut found = Found {
            sequence: self.next_sequence(),
            record,
        };
        self.write_object(&mut found)?;
        if indexed_when_current(found.record.kind) {
            self.index_version(&found)?;
        }
        self.list(&found)?;
        let record = found.record;
        if let Some(expires) = record.expires {
            self.mark(&keys::expiry(expires, record.bucket, &record.key))?;
        }
        if !record.kind.is_marker() {
            self.head.totals.objects += 1;
            self.head.totals.bytes += record.content.size;
        }
        Ok(record)
    }

    /// Shows what is the current version in the lists of files.
    pub(super) fn list(&mut self, found: &Found) -> Result<(), StoreError> {
        if found.record.kind.is_marker() {
            return Ok(());
        }
        for row in listing_rows(&found.record) {
            self.put(&row, &found.sequence)?;
        }
        Ok(())
    }

    /// Takes what is no longer the current version from the lists of files.
    pub(super) fn unlist(&mut self, record: &ObjectRecord) -> Result<(), StoreError> {
        for row in listing_rows(record) {
            self.rows.delete(&row)?;
        }
        Ok(())
    }

    /// Writes a record; inline bytes that it carries go into rows of their own.
    fn write_object(&mut self, found: &mut Found) -> Result<(), StoreError> {
        let sequence = found.sequence;
        for (what, representation) in representations(&mut found.record) {
            if let Representation::Inline { bytes, .. } = representation {
                self.rows.put(&keys::inline(sequence, what), bytes)?;
                *bytes = Bytes::new();
            }
        }
        self.write_record(found)
    }

    /// Writes a record as it was found and changed; its inline rows stay.
    pub(super) fn write_record(&mut self, found: &Found) -> Result<(), StoreError> {
        let record = &found.record;
        let key = keys::object(record.bucket, &record.key, found.sequence);
        self.put(&key, record)
    }

    /// Removes a version with all that hangs on it; what it covered is the
    /// current one then.
    pub(super) fn remove_object(
        &mut self,
        found: &Found,
        garbage_due: Timestamp,
    ) -> Result<(), StoreError> {
        let (bucket, key) = (found.record.bucket, &found.record.key);
        self.remove_row(found, garbage_due)?;
        let next = self.find_object(bucket, key)?;
        match next {
            // It was not the current one.
            Some(next) if next.sequence > found.sequence => Ok(()),
            next => {
                self.unlist(&found.record)?;
                next.map_or(Ok(()), |next| self.uncover(&next))
            }
        }
    }

    /// Removes a version, and leaves the lists of files as they are.
    pub(super) fn remove_row(
        &mut self,
        found: &Found,
        garbage_due: Timestamp,
    ) -> Result<(), StoreError> {
        let record = &found.record;
        let (bucket, key) = (record.bucket, &record.key);
        self.rows
            .delete(&keys::object(bucket, key, found.sequence))?;
        let name = index_name(record);
        self.rows.delete(&keys::version(bucket, key, name))?;
        if let Some(expires) = record.expires {
            self.rows.delete(&keys::expiry(expires, bucket, key))?;
        }
        let mut copy = record.clone();
        for (what, representation) in representations(&mut copy) {
            self.discard_bytes(found.sequence, what, representation, garbage_due)?;
        }
        self.drop_tasks_of(record.version)?;
        self.drop_tickets_of(record.version)?;
        if !record.kind.is_marker() {
            self.head.totals.objects -= 1;
            self.head.totals.bytes -= record.content.size;
        }
        Ok(())
    }

    pub(super) fn discard_bytes(
        &mut self,
        sequence: u64,
        what: u8,
        representation: &Representation,
        due: Timestamp,
    ) -> Result<(), StoreError> {
        match representation {
            Representation::Inline { .. } => {
                self.rows.delete(&keys::inline(sequence, what))?;
                Ok(())
            }
            Representation::Chunked { .. } => self.discard_representation(due, representation),
        }
    }

    pub(super) fn delete_object(
        &mut self,
        bucket: BucketId,
        key: &ObjectKey,
        version: Option<VersionId>,
        cause: DeleteCause,
    ) -> Applied {
        self.check_slot(bucket, key)?;
        let found = match version {
            Some(version) => self.find_version(bucket, key, version)?,
            None if self.versioning(bucket)? == Versioning::Unversioned => {
                self.find_object(bucket, key)?
            }
            None => return Err(invalid("the bucket has versions: name one")),
        };
        let found = found.ok_or(Refusal::NoSuchObject)?;
        let due = match cause {
            DeleteCause::Wish => true,
            DeleteCause::Expired => found
                .record
                .expires
                .is_some_and(|end| end.plus(self.known.times.expiry_grace) <= self.now()),
            DeleteCause::Exhausted => {
                found.record.downloads.is_some_and(|limit| limit.left == 0)
                    && !self.has_live_tickets(found.record.version)?
            }
        };
        if !due {
            return Err(Refusal::NotYet.into());
        }
        self.remove_object(&found, self.now())?;
        Ok(Outcome::Deleted(found.record.version))
    }
}

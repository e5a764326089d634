//! Versions of objects.
//!
//! The rows of an object's versions sort newest first, so the first is the
//! current one. In a bucket that never had versions there is one, a null
//! version. A further index leads from a version's id to its row; the null
//! version is in it under zeros, unless it is the current one: so a bucket
//! without versions has no such rows. The lists of files show what is current
//! and no marker.

use bytes::Bytes;
use holdfast_model::record::{Coding, Content};
use holdfast_model::{
    BucketId, ObjectKey, ObjectRecord, Representation, VersionId, VersionKind, Versioning,
};

use super::objects::{Found, ended, find};
use super::rows;
use super::stored::REPLACED_GRACE_MILLIS;
use super::{Applied, Machine, Stop, invalid, keys};
use crate::command::{Condition, DeleteVersion, NewMarker, Outcome, Refusal};
use crate::store::{Rows, StoreError};

/// A version of an object; [`VersionId::NULL`] names the null version.
pub(super) fn find_version(
    view: &impl Rows,
    bucket: BucketId,
    key: &ObjectKey,
    version: VersionId,
) -> Result<Option<Found>, StoreError> {
    let is_it = |record: &ObjectRecord| {
        record.version == version || (version == VersionId::NULL && record.kind.is_null())
    };
    let current = find(view, bucket, key)?;
    if current.as_ref().is_none_or(|found| is_it(&found.record)) {
        return Ok(current);
    }
    // The null version has an id too, by which tasks and tickets know it.
    for name in [version, VersionId::NULL] {
        let Some(sequence) = rows::read(view, &keys::version(bucket, key, name))? else {
            continue;
        };
        let record: ObjectRecord = rows::read(view, &keys::object(bucket, key, sequence))?
            .ok_or_else(|| StoreError::Corrupt(format!("version {name} of {key} is not there")))?;
        if is_it(&record) {
            return Ok(Some(Found { sequence, record }));
        }
    }
    Ok(None)
}

/// The name under which a version is in the index.
pub(super) fn index_name(record: &ObjectRecord) -> VersionId {
    if record.kind.is_null() {
        VersionId::NULL
    } else {
        record.version
    }
}

/// Whether a version that is the current one is in the index.
pub(super) fn indexed_when_current(kind: VersionKind) -> bool {
    kind != VersionKind::Null
}

impl Machine<'_, '_> {
    pub(super) fn find_version(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        version: VersionId,
    ) -> Result<Option<Found>, StoreError> {
        find_version(self.rows, bucket, key, version)
    }

    /// Makes room for a new current version: what it replaces goes, what it
    /// covers stays. Says what the new one is.
    pub(super) fn cover(
        &mut self,
        current: Option<&Found>,
        versioning: Versioning,
        bucket: BucketId,
        key: &ObjectKey,
    ) -> Result<VersionKind, StoreError> {
        let due = self.now().plus(REPLACED_GRACE_MILLIS);
        if let Some(current) = current {
            self.unlist(&current.record)?;
        }
        if versioning == Versioning::Enabled {
            if let Some(current) = current {
                self.index_version(current)?;
            }
            return Ok(VersionKind::Numbered);
        }
        let null = match current {
            None => None,
            Some(current) if current.record.kind.is_null() => Some(current.clone()),
            Some(_) => self.find_version(bucket, key, VersionId::NULL)?,
        };
        if let Some(null) = null {
            self.remove_row(&null, due)?;
        }
        Ok(VersionKind::Null)
    }

    pub(super) fn index_version(&mut self, found: &Found) -> Result<(), StoreError> {
        let record = &found.record;
        let name = index_name(record);
        let key = keys::version(record.bucket, &record.key, name);
        self.put(&key, &found.sequence)
    }

    /// Enters a version that is the current one now.
    pub(super) fn uncover(&mut self, found: &Found) -> Result<(), StoreError> {
        if indexed_when_current(found.record.kind) {
            self.index_version(found)?;
        } else {
            let (bucket, key) = (found.record.bucket, &found.record.key);
            self.rows
                .delete(&keys::version(bucket, key, VersionId::NULL))?;
        }
        self.list(found)
    }

    pub(super) fn delete_version(&mut self, delete: &DeleteVersion) -> Applied {
        let (bucket, key) = (delete.bucket, &delete.key);
        self.check_slot(bucket, key)?;
        let versioning = self.versioning(bucket)?;
        let found = match delete.version {
            Some(version) => self.find_version(bucket, key, version)?,
            None => self.find_object(bucket, key)?,
        };
        self.check_delete(&delete.condition, found.as_ref())?;
        match (delete.version, versioning) {
            (Some(_), _) | (None, Versioning::Unversioned) => {
                let found = found.ok_or(Refusal::NoSuchObject)?;
                self.remove_object(&found, self.now())?;
                Ok(Outcome::Deleted(found.record.version))
            }
            (None, versioning) => {
                let marker = delete
                    .marker
                    .ok_or_else(|| invalid("the bucket has versions: a marker is needed"))?;
                self.lay_marker(bucket, key, found.as_ref(), versioning, marker)
            }
        }
    }

    fn check_delete(&self, condition: &Condition, found: Option<&Found>) -> Result<(), Stop> {
        let live = found
            .map(|found| &found.record)
            .filter(|record| !record.kind.is_marker() && !ended(record, self.now()));
        let met = match condition {
            Condition::Always => true,
            Condition::Matches(tag) => live.is_some_and(|live| live.content.etag == *tag),
            Condition::Version(version) => {
                found.is_some_and(|found| found.record.version == *version)
            }
            Condition::Absent | Condition::Idempotent => {
                return Err(invalid("a deletion has no such condition"));
            }
        };
        if met {
            Ok(())
        } else {
            let tag = live.map(|record| record.content.etag.clone());
            Err(Refusal::ConditionFailed(tag).into())
        }
    }

    fn lay_marker(
        &mut self,
        bucket: BucketId,
        key: &ObjectKey,
        current: Option<&Found>,
        versioning: Versioning,
        marker: NewMarker,
    ) -> Applied {
        self.open_bucket(bucket)?;
        if marker.version == VersionId::NULL
            || self.find_version(bucket, key, marker.version)?.is_some()
        {
            return Err(invalid("a marker needs a new version"));
        }
        let kind = match self.cover(current, versioning, bucket, key)? {
            VersionKind::Numbered => VersionKind::Marker,
            _ => VersionKind::NullMarker,
        };
        self.insert_object(marker_record(bucket, key, marker, kind, self.now()))?;
        Ok(Outcome::Marked(marker.version))
    }
}

fn marker_record(
    bucket: BucketId,
    key: &ObjectKey,
    marker: NewMarker,
    kind: VersionKind,
    created: holdfast_model::Timestamp,
) -> ObjectRecord {
    ObjectRecord {
        bucket,
        key: key.clone(),
        version: marker.version,
        owner: marker.owner,
        created,
        expires: None,
        content: Content {
            filename: None,
            mime: String::new(),
            size: 0,
            sha256: [0; 32],
            etag: String::new(),
            checksums: Default::default(),
        },
        representation: Representation::Inline {
            bytes: Bytes::new(),
            coding: Coding::Identity,
        },
        downloads: None,
        password: None,
        delete_token: None,
        metadata: Default::default(),
        tags: Default::default(),
        derived: Vec::new(),
        revision: 1,
        fingerprint: None,
        kind,
        headers: Default::default(),
    }
}

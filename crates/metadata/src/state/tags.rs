//! Tags of an object's version, the one thing of it that changes alone.

use std::collections::BTreeMap;

use holdfast_model::attributes::check_tags;
use holdfast_model::{BucketId, ObjectKey, VersionId};

use super::objects::ended;
use super::{Applied, Machine, invalid};
use crate::command::{Outcome, Refusal};

impl Machine<'_, '_> {
    pub(super) fn set_tags(
        &mut self,
        bucket: BucketId,
        key: &ObjectKey,
        version: Option<VersionId>,
        tags: &BTreeMap<String, String>,
    ) -> Applied {
        self.check_slot(bucket, key)?;
        self.open_bucket(bucket)?;
        let found = match version {
            Some(version) => self.find_version(bucket, key, version)?,
            None => self.find_object(bucket, key)?,
        };
        let mut found = found
            .filter(|found| !found.record.kind.is_marker())
            .ok_or(Refusal::NoSuchObject)?;
        if ended(&found.record, self.now()) {
            return Err(Refusal::Expired.into());
        }
        check_tags(tags).map_err(invalid)?;
        found.record.tags.clone_from(tags);
        found.record.revision += 1;
        self.write_record(&found)?;
        Ok(Outcome::Put(Box::new(found.record)))
    }
}

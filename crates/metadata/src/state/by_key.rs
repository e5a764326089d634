//! Listings by object key: prefix, delimiter, versions.
//!
//! What a page need not show is passed by seeking: all keys below a common
//! prefix once one of them is seen, and the older versions of a key. What is
//! there and cannot be had (markers, expired objects) is passed row by row, so
//! the rows that one page looks at are bounded, and the page says how far it
//! came.

use holdfast_model::{ObjectKey, ObjectRecord, Timestamp};

use super::keys;
use super::objects::ended;
use super::rows;
use crate::query::{Answer, KeyCursor, KeyEntry, KeyPage, ListKeys, ListedObject};
use crate::store::{Rows, StoreError};

/// The most rows that one page looks at: some ten milliseconds.
const MAX_ROWS_LOOKED: usize = 10_000;

/// Where the scan goes on.
enum Next {
    /// From this row on.
    Seek(Vec<u8>),
    /// The page ends here.
    End(Option<KeyCursor>),
}

struct Pager<'q> {
    asked: &'q ListKeys,
    /// Before every object key in a row of the bucket.
    start: Vec<u8>,
    limit: usize,
    now: Timestamp,
    page: KeyPage,
    looked: usize,
    /// The key of the last row looked at.
    last: Option<ObjectKey>,
    /// The place after the last row dealt with.
    at: Option<KeyCursor>,
}

/// Answers [`Query::Keys`](crate::query::Query::Keys).
pub(super) fn list(
    view: &impl Rows,
    asked: &ListKeys,
    limit: usize,
    now: Timestamp,
) -> Result<Answer, StoreError> {
    let start = keys::objects_of(asked.bucket);
    let bounds = [start.as_slice(), asked.prefix.as_bytes()].concat();
    let end = keys::after_prefix(&bounds);
    let mut pager = Pager {
        asked,
        start,
        limit,
        now,
        page: KeyPage::default(),
        looked: 0,
        last: None,
        at: asked.after.clone(),
    };
    let mut from = asked.after.as_ref().map_or_else(
        || bounds.clone(),
        |after| pager.row_after(after).max(bounds.clone()),
    );
    // A cursor amid a key's versions has shown the current one.
    if let Some(KeyCursor::Version { key, .. }) = &asked.after {
        pager.last = ObjectKey::new(key.clone()).ok();
    }
    loop {
        let mut next = Next::End(None);
        view.scan(&from, &end, &mut |key, value| {
            match pager.look(key, value)? {
                None => return Ok(true),
                Some(stop) => next = stop,
            }
            Ok(false)
        })?;
        match next {
            Next::Seek(row) => from = row,
            Next::End(cursor) => {
                pager.page.next = cursor;
                return Ok(Answer::Keys(pager.page));
            }
        }
    }
}

impl Pager<'_> {
    /// The first row after a place.
    fn row_after(&self, cursor: &KeyCursor) -> Vec<u8> {
        let row = |name: &str| [self.start.as_slice(), name.as_bytes()].concat();
        match cursor {
            KeyCursor::Prefix(prefix) => keys::after_prefix(&row(prefix)),
            KeyCursor::Key(key) => {
                let mut row = row(key);
                row.push(0);
                keys::after_prefix(&row)
            }
            KeyCursor::Version { key, sequence } => {
                let mut row = row(key);
                row.push(0);
                row.extend_from_slice(&(!sequence).to_be_bytes());
                row.push(0);
                row
            }
        }
    }

    /// Looks at a row: `None` when the next one follows.
    fn look(&mut self, row: &[u8], value: &[u8]) -> Result<Option<Next>, StoreError> {
        let (key, sequence) = self.read_key(row)?;
        let current = self.last.as_ref() != Some(&key);
        if !current && !self.asked.versions {
            let cursor = KeyCursor::Key(key.as_str().to_owned());
            return Ok(Some(Next::Seek(self.row_after(&cursor))));
        }
        if self.looked == MAX_ROWS_LOOKED {
            return Ok(Some(Next::End(self.at.clone())));
        }
        self.looked += 1;
        let record: ObjectRecord = rows::decode(value)?;
        let gone = record.kind.is_marker() || ended(&record, self.now);
        if gone && !self.asked.versions {
            self.at = Some(KeyCursor::Key(key.as_str().to_owned()));
            self.last = Some(key);
            return Ok(None);
        }
        if self.page.entries.len() == self.limit {
            return Ok(Some(Next::End(self.at.clone())));
        }
        if let Some(common) = self.common_prefix(&key) {
            let at = KeyCursor::Prefix(common.clone());
            let seek = self.row_after(&at);
            self.page.entries.push(KeyEntry::Prefix(common));
            self.at = Some(at);
            self.last = Some(key);
            return Ok(Some(Next::Seek(seek)));
        }
        self.last = Some(key.clone());
        let object = ListedObject {
            key,
            version: record.version,
            kind: record.kind,
            current,
            created: record.created,
            size: record.content.size,
            etag: record.content.etag,
            owner: record.owner,
            sequence,
        };
        let entry = KeyEntry::Object(Box::new(object));
        self.at = Some(entry.cursor(self.asked.versions));
        self.page.entries.push(entry);
        Ok(None)
    }

    fn read_key(&self, row: &[u8]) -> Result<(ObjectKey, u64), StoreError> {
        let corrupt = || StoreError::Corrupt("the key of an object's row".to_owned());
        let (name, sequence) = row
            .get(self.start.len()..)
            .and_then(|rest| rest.split_last_chunk::<8>())
            .ok_or_else(corrupt)?;
        let name = name.strip_suffix(&[0]).ok_or_else(corrupt)?;
        let text = std::str::from_utf8(name).map_err(|_| corrupt())?;
        let key = ObjectKey::new(text).map_err(|_| corrupt())?;
        Ok((key, !u64::from_be_bytes(*sequence)))
    }

    /// The beginning that a key shares with others, if it is shown by that.
    fn common_prefix(&self, key: &ObjectKey) -> Option<String> {
        let delimiter = self.asked.delimiter.as_deref().filter(|d| !d.is_empty())?;
        let rest = key.as_str().strip_prefix(self.asked.prefix.as_str())?;
        let (before, _) = rest.split_once(delimiter)?;
        Some(format!("{}{before}{delimiter}", self.asked.prefix))
    }
}

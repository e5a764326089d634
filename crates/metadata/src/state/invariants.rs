//! What must be true of a group's rows after every batch.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_model::fragment::census_range;
use holdfast_model::{
    BucketId, Chunk, GroupId, ObjectKey, ObjectRecord, Representation, TaskKind, TaskState,
    UploadId, VersionId,
};

use super::keys::{self, KeyReader, Table};
use super::objects::listing_rows;
use super::rows::{self, TaskRow, TicketRow, UploadRow, UploadState};
use super::stored::repair_rank;
use super::tasks::read_task;
use super::versions::{index_name, indexed_when_current};
use crate::query::{RangeSums, Totals};
use crate::store::{Rows, StoreError};

type Check = Result<Result<(), String>, StoreError>;

/// All rows of a group, read once.
struct All {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Rows that follow from others.
    expected: BTreeSet<Vec<u8>>,
    totals: Totals,
    committed: BTreeSet<UploadId>,
    /// Uploads that nothing refers to any more.
    removed: BTreeSet<UploadId>,
    census: BTreeMap<u8, RangeSums>,
    versions: BTreeSet<VersionId>,
    problems: Vec<String>,
}

/// Compares indexes and totals of a group with a full scan of it. The inner
/// error says what is wrong. It reads everything: for tests and the simulation.
pub fn check_invariants(view: &impl Rows) -> Check {
    if view.group() == GroupId::CLUSTER {
        let state = super::read_cluster(view)?;
        return Ok(state.map(|_| ()).ok_or("group 0 has no state".to_owned()));
    }
    let mut all = All {
        rows: BTreeMap::new(),
        expected: BTreeSet::new(),
        totals: Totals::default(),
        committed: BTreeSet::new(),
        removed: BTreeSet::new(),
        census: BTreeMap::new(),
        versions: BTreeSet::new(),
        problems: Vec::new(),
    };
    view.scan(&[], &[u8::MAX], &mut |key, value| {
        all.rows.insert(key.to_vec(), value.to_vec());
        Ok(true)
    })?;
    all.objects(super::facts::read(view)?.forgotten.is_some())?;
    all.uploads()?;
    all.chunks(view.group())?;
    all.removals()?;
    all.census()?;
    all.tasks(view)?;
    all.tickets()?;
    all.indexes();
    let head = rows::read_head(view)?;
    all.totals.garbage = all.count(Table::Garbage);
    if head.totals != all.totals {
        let (kept, counted) = (head.totals, all.totals);
        all.problems
            .push(format!("totals are {kept:?} and should be {counted:?}"));
    }
    if head.floor > head.current {
        all.problems
            .push("the floor is above the current generation".to_owned());
    }
    Ok(if all.problems.is_empty() {
        Ok(())
    } else {
        Err(all.problems.join("\n"))
    })
}

impl All {
    fn table(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.rows
            .range(vec![table as u8]..vec![table as u8 + 1])
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    fn count(&self, table: Table) -> u64 {
        self.table(table).len() as u64
    }

    fn expect(&mut self, key: Vec<u8>) {
        self.expected.insert(key);
    }

    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// `strict`: the group has been told of all buckets.
    fn objects(&mut self, strict: bool) -> Result<(), StoreError> {
        let mut names = BTreeSet::new();
        let mut nulls = BTreeSet::new();
        for (row_key, value) in self.table(Table::Objects) {
            let record: ObjectRecord = rows::decode(&value)?;
            let sequence = row_key.last_chunk().map_or(0, |n| !u64::from_be_bytes(*n));
            let (bucket, key) = (record.bucket, &record.key);
            // Rows of a key are newest first.
            let current = names.insert((bucket, key.clone()));
            self.check_version(&record, current, sequence, &mut nulls)?;
            if row_key != keys::object(bucket, key, sequence) {
                self.problem(format!("{key} is not where it belongs"));
            }
            if strict && !self.rows.contains_key(&keys::bucket(bucket)) {
                self.problem(format!("{key} lies in a bucket that is not known"));
            }
            if !record.kind.is_marker() {
                self.totals.objects += 1;
                self.totals.bytes += record.content.size;
            }
            self.versions.insert(record.version);
            if let Some(expires) = record.expires {
                self.check_expiry(&record, &keys::expiry(expires, bucket, key))?;
            }
            if record
                .downloads
                .is_some_and(|limit| limit.left > limit.limit)
            {
                self.problem(format!("{key} has more downloads left than its limit"));
            }
            self.representation(sequence, 0, &record.representation);
            for derived in &record.derived {
                self.representation(sequence, 1 + derived.kind as u8, &derived.representation);
            }
        }
        Ok(())
    }

    fn check_version(
        &mut self,
        record: &ObjectRecord,
        current: bool,
        sequence: u64,
        nulls: &mut BTreeSet<(BucketId, ObjectKey)>,
    ) -> Result<(), StoreError> {
        let (bucket, key) = (record.bucket, &record.key);
        if record.kind.is_null() && !nulls.insert((bucket, key.clone())) {
            self.problem(format!("{key} has two null versions"));
        }
        if !current || indexed_when_current(record.kind) {
            let row = keys::version(bucket, key, index_name(record));
            let leads_to = self.rows.get(&row).map(|value| rows::decode::<u64>(value));
            if leads_to.transpose()? != Some(sequence) {
                self.problem(format!("a version of {key} is not found by its id"));
            }
            self.expect(row);
        }
        if current && !record.kind.is_marker() {
            for row in listing_rows(record) {
                let leads_to = self.rows.get(&row).map(|value| rows::decode::<u64>(value));
                if leads_to.transpose()? != Some(sequence) {
                    self.problem(format!("{key} is not listed"));
                }
                self.expect(row);
            }
        }
        Ok(())
    }

    fn check_expiry(&mut self, record: &ObjectRecord, key: &[u8]) -> Result<(), StoreError> {
        if self.rows.contains_key(key) {
            self.expect(key.to_vec());
        } else if !self.has_delete_task(record.version)? {
            self.problem(format!(
                "nothing will delete {} when it expires",
                record.key
            ));
        }
        Ok(())
    }

    fn has_delete_task(&self, version: VersionId) -> Result<bool, StoreError> {
        for (_, value) in self.table(Table::Tasks) {
            let row: TaskRow = rows::decode(&value)?;
            let deletes = row.task.kind == TaskKind::Delete && row.task.state != TaskState::Done;
            if deletes && row.task.version == version {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn representation(&mut self, sequence: u64, what: u8, representation: &Representation) {
        match representation {
            Representation::Inline { bytes, .. } => {
                if !bytes.is_empty() {
                    self.problem(format!("object {sequence} holds its inline bytes twice"));
                }
                self.expect(keys::inline(sequence, what));
            }
            Representation::Chunked { parts, .. } => {
                for part in parts {
                    if !self.committed.insert(part.upload) {
                        self.problem(format!("two objects hold the upload {}", part.upload));
                    }
                    let prefix = keys::chunks(part.upload);
                    let end = keys::after_prefix(&prefix);
                    let count = self.rows.range(prefix..end).count();
                    if count != part.chunks as usize {
                        self.problem(format!(
                            "{} of {} chunks of the upload {} are there",
                            count, part.chunks, part.upload
                        ));
                    }
                }
            }
        }
    }

    fn uploads(&mut self) -> Result<(), StoreError> {
        let mut seen = BTreeSet::new();
        for (key, value) in self.table(Table::Uploads) {
            let upload = UploadId::from_bytes(KeyReader::after_table(&key).take()?);
            let row: UploadRow = rows::decode(&value)?;
            match row.state {
                UploadState::Open(deadline) => {
                    self.totals.uploads += 1;
                    self.expect(keys::intent(deadline, upload));
                }
                UploadState::Dead => self.expect(keys::dead_upload(row.generation.0, upload)),
                UploadState::Committed => {
                    seen.insert(upload);
                }
                UploadState::Removed => {
                    self.removed.insert(upload);
                }
            }
        }
        if seen != self.committed {
            self.problem("committed uploads are not those of the objects");
        }
        Ok(())
    }

    fn chunks(&mut self, group: GroupId) -> Result<(), StoreError> {
        let mut counted = BTreeSet::new();
        for (key, value) in self.table(Table::Chunks) {
            let chunk: Chunk = rows::decode(&value)?;
            let upload = UploadId::from_bytes(KeyReader::after_table(&key).take()?);
            self.totals.chunks += 1;
            if !self.rows.contains_key(&keys::upload(upload)) {
                self.problem(format!("a chunk of the unknown upload {upload}"));
            }
            let committed = self.committed.contains(&upload);
            let range = census_range(upload);
            let sums = self.census.entry(range);
            let sums = sums.or_insert_with(|| RangeSums::of(range));
            sums.add(group, upload, &chunk);
            sums.objects += u64::from(committed && counted.insert(upload));
            sums.chunks += u64::from(committed);
            let listed = committed || self.removed.contains(&upload);
            if let Some(rank) = repair_rank(&chunk).filter(|_| listed) {
                sums.degraded += 1;
                self.expect(keys::degraded(rank, upload, chunk.index));
                if chunk.redundancy.readable(chunk.fragments.len()) {
                    self.totals.degraded += 1;
                } else {
                    self.totals.lost += 1;
                }
            }
        }
        Ok(())
    }

    /// Every upload that nothing refers to is being removed, if it is there.
    fn removals(&mut self) -> Result<(), StoreError> {
        let mut removing = BTreeSet::new();
        for (key, _) in self.table(Table::Removing) {
            removing.insert(UploadId::from_bytes(KeyReader::after_table(&key).take()?));
        }
        if let Some(upload) = self.removed.difference(&removing).next() {
            self.problem(format!("nothing will remove the upload {upload}"));
        }
        if let Some(upload) = removing.intersection(&self.committed).next() {
            self.problem(format!("the upload {upload} is removed and in use"));
        }
        Ok(())
    }

    fn census(&mut self) -> Result<(), StoreError> {
        let mut kept = BTreeMap::new();
        for (_, value) in self.table(Table::Census) {
            let sums: RangeSums = rows::decode(&value)?;
            kept.insert(sums.range, sums);
        }
        if kept != self.census {
            let counted = &self.census;
            self.problems.push(format!(
                "the census's sums are {kept:?} and should be {counted:?}"
            ));
        }
        Ok(())
    }

    fn tasks(&mut self, view: &impl Rows) -> Result<(), StoreError> {
        for (key, _) in self.table(Table::Tasks) {
            let id = holdfast_model::TaskId::from_bytes(KeyReader::after_table(&key).take()?);
            let Some(row) = read_task(view, id)? else {
                continue;
            };
            let task = &row.task;
            match task.state {
                TaskState::Pending => self.totals.tasks_pending += 1,
                TaskState::Running => self.totals.tasks_running += 1,
                TaskState::Done => self.totals.tasks_done += 1,
                TaskState::Failed => self.totals.tasks_failed += 1,
            }
            let waits = matches!(task.state, TaskState::Pending | TaskState::Failed);
            if waits && !self.versions.contains(&task.version) {
                self.problem(format!("the task {id} is for an object that is gone"));
            }
            self.expect(row.due_key());
            self.expect(keys::task_by_state(task.state, task.created, id));
            self.expect(keys::task_of(task.version, id));
        }
        Ok(())
    }

    fn tickets(&mut self) -> Result<(), StoreError> {
        for (_, value) in self.table(Table::Tickets) {
            let row: TicketRow = rows::decode(&value)?;
            self.totals.tickets += 1;
            if !self.versions.contains(&row.version) {
                self.problem(format!(
                    "the ticket {} is for an object that is gone",
                    row.id
                ));
            }
            self.expect(keys::ticket_due(row.deadline, row.id));
            self.expect(keys::ticket_of(row.version, row.id));
        }
        Ok(())
    }

    /// Rows that follow from others are there, and no further ones.
    fn indexes(&mut self) {
        let derived = [
            Table::Inline,
            Table::ByOwner,
            Table::ByCreated,
            Table::Intents,
            Table::DeadUploads,
            Table::TasksDue,
            Table::TasksByState,
            Table::TasksByVersion,
            Table::TicketsByVersion,
            Table::TicketsDue,
            Table::Expiry,
            Table::Degraded,
            Table::Versions,
        ];
        let there: BTreeSet<Vec<u8>> = derived
            .iter()
            .flat_map(|table| self.table(*table))
            .map(|(key, _)| key)
            .collect();
        for key in there.difference(&self.expected.clone()) {
            self.problem(format!("the row {key:02x?} has no reason"));
        }
        for key in self.expected.clone().difference(&there) {
            self.problem(format!("the row {key:02x?} is missing"));
        }
    }
}

//! The outbox: tasks, published as hints, claimed with a fencing token.
//!
//! States: pending -> running -> done or failed; running -> pending when an
//! attempt fails and another is left. Each task has one row in the index of
//! times: by class, when something is to happen with it next. A delete task
//! that failed is shown so for an hour and then tried anew: it is never given
//! up, since it is what destroys.

use holdfast_model::task::MAX_ATTEMPTS;
use holdfast_model::{ObjectRecord, Task, TaskId, TaskKind, TaskState, Timestamp, VersionId};

use super::keys::{self, KeyReader, RowKey, Table};
use super::objects::Found;
use super::rows::{self, TaskRow};
use super::{Applied, Machine, Stop};
use crate::command::{
    AttemptResult, MAX_PUBLISHED_TASKS, Outcome, PUBLISH_DEADLINE_MILLIS, Refusal,
    TASK_DEADLINE_MILLIS, TaskAttempt,
};
use crate::store::{Rows, StoreError};

/// How long a done task is shown, in milliseconds.
pub(super) const KEEP_DONE_MILLIS: u64 = 60 * 60 * 1_000;
/// How long a failed task is shown, in milliseconds.
pub(super) const KEEP_FAILED_MILLIS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// After how long a failed delete task is tried anew, in milliseconds.
pub(super) const REVIVE_DELETE_MILLIS: u64 = 60 * 60 * 1_000;
/// The longest back-off that a worker may ask for, in milliseconds.
const MAX_BACK_OFF_MILLIS: u64 = 60 * 60 * 1_000;
/// Back-off of a delete task whose worker says done while the object is there.
const NOT_DELETED_BACK_OFF_MILLIS: u64 = 60 * 1_000;
/// The longest error and worker's name kept, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// What happens next with a task, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum DueClass {
    /// It may be published.
    Publish = 0,
    /// It was published; if unclaimed by then it may be again.
    Republish = 1,
    /// Its worker has given no answer.
    TakeBack = 2,
    /// It is forgotten.
    Forget = 3,
    /// It failed; it is forgotten, or revived if it deletes.
    Failed = 4,
}

impl TaskRow {
    fn next(&self) -> (DueClass, Timestamp) {
        let task = &self.task;
        match (task.state, self.published) {
            (TaskState::Pending, None) => (DueClass::Publish, task.due),
            (TaskState::Pending, Some(until)) => (DueClass::Republish, until),
            (TaskState::Running, _) => (DueClass::TakeBack, task.due),
            (TaskState::Done, _) => (DueClass::Forget, task.updated.plus(KEEP_DONE_MILLIS)),
            (TaskState::Failed, _) if task.kind == TaskKind::Delete => {
                (DueClass::Failed, task.updated.plus(REVIVE_DELETE_MILLIS))
            }
            (TaskState::Failed, _) => (DueClass::Failed, task.updated.plus(KEEP_FAILED_MILLIS)),
        }
    }

    /// The task's row in the index of times.
    pub(super) fn due_key(&self) -> Vec<u8> {
        let (class, time) = self.next();
        due_from(class)
            .time(time)
            .bytes(self.task.id.as_bytes())
            .done()
    }

    fn attempts_used_up(&self) -> bool {
        self.task.attempts > 0 && self.task.attempts.is_multiple_of(MAX_ATTEMPTS)
    }
}

fn due_from(class: DueClass) -> RowKey {
    RowKey::new(Table::TasksDue).byte(class as u8)
}

/// Tasks of a class whose time has come, up to `limit`.
pub(super) fn due(
    view: &impl Rows,
    class: DueClass,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<TaskId>, StoreError> {
    let to = due_from(class).time(now.plus(1)).done();
    rows::page(view, &due_from(class).done(), &to, limit)?
        .iter()
        .map(|(key, _)| Ok(due_entry(key)?.1))
        .collect()
}

/// When the next task of a class is due.
pub(super) fn next_of(view: &impl Rows, class: DueClass) -> Result<Option<Timestamp>, StoreError> {
    let first = rows::prefixed(view, &due_from(class).done(), 1)?.pop();
    first.map(|(key, _)| Ok(due_entry(&key)?.0)).transpose()
}

fn due_entry(key: &[u8]) -> Result<(Timestamp, TaskId), StoreError> {
    let mut key = KeyReader::after_table(key);
    key.take::<1>()?;
    Ok((key.time()?, TaskId::from_bytes(key.take()?)))
}

/// How many more tasks may be published: those that wait in the queue unclaimed
/// are bounded.
pub(super) fn room(view: &impl Rows, now: Timestamp) -> Result<usize, StoreError> {
    let from = due_from(DueClass::Republish).time(now.plus(1)).done();
    let to = keys::after_prefix(&due_from(DueClass::Republish).done());
    let most = MAX_PUBLISHED_TASKS as usize;
    Ok(most - rows::page(view, &from, &to, most)?.len())
}

/// Tasks that may be published now, up to `limit`: those whose message was
/// lost first.
pub(super) fn publishable(
    view: &impl Rows,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<TaskId>, StoreError> {
    let limit = limit.min(room(view, now)?);
    let mut found = due(view, DueClass::Republish, now, limit)?;
    found.extend(due(view, DueClass::Publish, now, limit - found.len())?);
    Ok(found)
}

pub(super) fn read_task(view: &impl Rows, id: TaskId) -> Result<Option<TaskRow>, StoreError> {
    rows::read(view, &keys::task(id))
}

fn known_task(view: &impl Rows, id: TaskId) -> Result<TaskRow, StoreError> {
    read_task(view, id)?.ok_or_else(|| StoreError::Corrupt(format!("no row of the task {id}")))
}

/// What was asked for a version and is not forgotten.
pub(super) fn tasks_of(view: &impl Rows, version: VersionId) -> Result<Vec<TaskRow>, StoreError> {
    rows::prefixed(view, &keys::tasks_of(version), usize::MAX)?
        .iter()
        .map(|(key, _)| {
            let mut key = KeyReader::after_table(key);
            key.take::<16>()?;
            known_task(view, TaskId::from_bytes(key.take()?))
        })
        .collect()
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

impl Machine<'_, '_> {
    pub(super) fn task_row(&self, id: TaskId) -> Result<TaskRow, StoreError> {
        known_task(self.rows, id)
    }

    fn count_of(&mut self, state: TaskState) -> &mut u64 {
        let totals = &mut self.head.totals;
        match state {
            TaskState::Pending => &mut totals.tasks_pending,
            TaskState::Running => &mut totals.tasks_running,
            TaskState::Done => &mut totals.tasks_done,
            TaskState::Failed => &mut totals.tasks_failed,
        }
    }

    pub(super) fn add_task(
        &mut self,
        id: TaskId,
        kind: TaskKind,
        record: &ObjectRecord,
        due: Timestamp,
    ) -> Result<(), StoreError> {
        let row = TaskRow {
            task: Task {
                id,
                kind,
                bucket: record.bucket,
                key: record.key.clone(),
                version: record.version,
                state: TaskState::Pending,
                attempts: 0,
                due,
                created: self.now(),
                updated: self.now(),
                error: None,
                worker: None,
            },
            published: None,
        };
        self.mark(&keys::task_of(record.version, id))?;
        self.write_task(&row)
    }

    fn write_task(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        let task = &row.task;
        self.put(&keys::task(task.id), row)?;
        self.mark(&row.due_key())?;
        self.mark(&keys::task_by_state(task.state, task.created, task.id))?;
        *self.count_of(task.state) += 1;
        Ok(())
    }

    /// Removes what [`Self::write_task`] has written.
    fn clear_task(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        let task = &row.task;
        self.rows.delete(&row.due_key())?;
        self.rows
            .delete(&keys::task_by_state(task.state, task.created, task.id))?;
        *self.count_of(task.state) -= 1;
        Ok(())
    }

    fn change_task(
        &mut self,
        row: TaskRow,
        change: impl FnOnce(&mut TaskRow),
    ) -> Result<Task, StoreError> {
        self.clear_task(&row)?;
        let mut row = row;
        change(&mut row);
        row.task.updated = self.now();
        self.write_task(&row)?;
        Ok(row.task)
    }

    pub(super) fn drop_task(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        self.clear_task(row)?;
        self.rows.delete(&keys::task(row.task.id))?;
        self.rows
            .delete(&keys::task_of(row.task.version, row.task.id))?;
        Ok(())
    }

    /// Drops what was asked for a version that goes, but for what a worker is
    /// at: its answer is still awaited.
    pub(super) fn drop_tasks_of(&mut self, version: VersionId) -> Result<(), StoreError> {
        for row in tasks_of(self.rows, version)? {
            if matches!(row.task.state, TaskState::Pending | TaskState::Failed) {
                self.drop_task(&row)?;
            }
        }
        Ok(())
    }

    /// Makes sure that a task will delete the object, from `due` on.
    pub(super) fn ensure_delete_task(
        &mut self,
        found: &Found,
        due: Timestamp,
    ) -> Result<(), StoreError> {
        for row in tasks_of(self.rows, found.record.version)? {
            if row.task.kind != TaskKind::Delete || row.task.state == TaskState::Done {
                continue;
            }
            if row.task.state == TaskState::Pending && row.task.due > due {
                self.change_task(row, |row| row.task.due = due)?;
            }
            return Ok(());
        }
        let id = self.made_task_id();
        self.add_task(id, TaskKind::Delete, &found.record, due)
    }

    /// An identity for a task that the group makes itself, unlike any other:
    /// group, time and a number that is used once.
    fn made_task_id(&mut self) -> TaskId {
        let group = self.rows.group().0.to_be_bytes();
        let [_, _, time @ ..] = self.now().0.to_be_bytes();
        let number = self.next_sequence().to_be_bytes();
        let mut bytes = [0; 16];
        let parts = group.iter().chain(&time).chain(&number);
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = *from;
        }
        TaskId::from_bytes(bytes)
    }

    pub(super) fn publish_tasks(&mut self, limit: u32) -> Applied {
        let until = self.now().plus(PUBLISH_DEADLINE_MILLIS);
        let mut published = Vec::new();
        for id in publishable(self.rows, self.now(), limit as usize)? {
            let row = self.task_row(id)?;
            published.push(self.change_task(row, |row| row.published = Some(until))?);
        }
        Ok(Outcome::Tasks(published))
    }

    pub(super) fn claim_task(&mut self, id: TaskId, worker: &str) -> Applied {
        let row = read_task(self.rows, id)?.ok_or(Refusal::NotClaimable)?;
        let waits = row.task.due <= self.now()
            && match row.task.state {
                TaskState::Pending => true,
                // Its worker is late; the last attempt is for the tick to end.
                TaskState::Running => !row.attempts_used_up(),
                TaskState::Done | TaskState::Failed => false,
            };
        if !waits {
            return Err(Refusal::NotClaimable.into());
        }
        let deadline = self.now().plus(TASK_DEADLINE_MILLIS);
        let task = self.change_task(row, |row| {
            row.published = None;
            row.task.state = TaskState::Running;
            row.task.attempts += 1;
            row.task.due = deadline;
            row.task.worker = Some(cut(worker));
        })?;
        Ok(Outcome::Claimed(Box::new(task)))
    }

    /// The task, if the attempt is the one that runs.
    pub(super) fn current_attempt(&self, attempt: TaskAttempt) -> Result<TaskRow, Stop> {
        read_task(self.rows, attempt.task)?
            .filter(|row| {
                row.task.state == TaskState::Running && row.task.attempts == attempt.attempt
            })
            .ok_or_else(|| Refusal::Fenced.into())
    }

    pub(super) fn finish_task(&mut self, attempt: TaskAttempt, result: &AttemptResult) -> Applied {
        let row = read_task(self.rows, attempt.task)?
            .filter(|row| row.task.attempts == attempt.attempt)
            .ok_or(Refusal::Fenced)?;
        match row.task.state {
            TaskState::Running => {}
            // The command that took the result has finished it.
            TaskState::Done if *result == AttemptResult::Done => return Ok(Outcome::Done),
            _ => return Err(Refusal::Fenced.into()),
        }
        let there = self.task_has_object(&row)?;
        if !there && row.task.kind != TaskKind::Delete {
            self.drop_task(&row)?;
            return Err(Refusal::Fenced.into());
        }
        match result {
            _ if !there => self.task_done(row)?,
            AttemptResult::Done if row.task.kind == TaskKind::Delete => {
                self.attempt_failed(
                    row,
                    "the object is still there",
                    NOT_DELETED_BACK_OFF_MILLIS,
                )?;
            }
            AttemptResult::Done => self.task_done(row)?,
            AttemptResult::Retry {
                error,
                after_millis,
            } => self.attempt_failed(row, error, *after_millis)?,
            AttemptResult::Final { error } => {
                let error = cut(error);
                self.change_task(row, |row| {
                    row.task.state = TaskState::Failed;
                    row.task.error = Some(error);
                })?;
            }
        }
        Ok(Outcome::Done)
    }

    fn task_has_object(&self, row: &TaskRow) -> Result<bool, StoreError> {
        let task = &row.task;
        let found = self.find_version(task.bucket, &task.key, task.version)?;
        Ok(found.is_some())
    }

    pub(super) fn task_done(&mut self, row: TaskRow) -> Result<(), StoreError> {
        self.change_task(row, |row| {
            row.task.state = TaskState::Done;
            row.task.error = None;
        })?;
        Ok(())
    }

    fn attempt_failed(
        &mut self,
        row: TaskRow,
        error: &str,
        after_millis: u64,
    ) -> Result<(), StoreError> {
        let due = self.now().plus(after_millis.min(MAX_BACK_OFF_MILLIS));
        self.change_task(row, |row| {
            row.task.error = Some(cut(error));
            if row.attempts_used_up() {
                row.task.state = TaskState::Failed;
            } else {
                row.task.state = TaskState::Pending;
                row.task.due = due;
            }
        })?;
        Ok(())
    }

    /// Takes a task back from a worker that gave no answer in time.
    pub(super) fn take_back(&mut self, id: TaskId) -> Result<(), StoreError> {
        let row = self.task_row(id)?;
        if self.task_has_object(&row)? {
            self.attempt_failed(row, "worker gave no answer", 0)
        } else {
            self.drop_task(&row)
        }
    }

    /// Ends the time that a failed task is shown.
    pub(super) fn end_failed(&mut self, id: TaskId) -> Result<(), StoreError> {
        let row = self.task_row(id)?;
        if row.task.kind == TaskKind::Delete && self.task_has_object(&row)? {
            let now = self.now();
            self.change_task(row, |row| {
                row.task.state = TaskState::Pending;
                row.task.due = now;
                row.published = None;
            })?;
            return Ok(());
        }
        self.drop_task(&row)
    }
}

//! What the worker is doing, for `/debug`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_model::{TaskId, TaskKind};

/// Counts and the tasks at hand. One lock, held for a lookup only.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: BTreeMap<TaskId, (TaskKind, Duration)>,
    ended: BTreeMap<String, u64>,
    last_error: Option<String>,
}

impl Standing {
    pub(crate) fn began(&self, task: TaskId, kind: TaskKind, now: Duration) {
        self.inner().running.insert(task, (kind, now));
    }

    pub(crate) fn ended(&self, task: TaskId, kind: TaskKind, result: &str) {
        let mut inner = self.inner();
        inner.running.remove(&task);
        *inner
            .ended
            .entry(format!("{} {result}", label(kind)))
            .or_default() += 1;
    }

    pub(crate) fn failed(&self, error: String) {
        self.inner().last_error = Some(error);
    }

    pub(crate) fn view(&self, now: Duration) -> serde_json::Value {
        let inner = self.inner();
        let running: Vec<_> = inner
            .running
            .iter()
            .map(|(task, (kind, since))| {
                let seconds = now.saturating_sub(*since).as_secs();
                serde_json::json!({"task": task, "kind": kind, "seconds": seconds})
            })
            .collect();
        serde_json::json!({
            "running": running,
            "ended": inner.ended,
            "last_error": inner.last_error,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a kind of task is called in metrics.
pub(crate) fn label(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Thumbnail => "thumbnail",
        TaskKind::Compress => "compress",
        TaskKind::Delete => "delete",
    }
}

//! Answering queries, off the loop: a look at the state store may wait for a disk.
//!
//! What looks at few rows goes together: while one such look runs, others wait
//! for it, and then share the next one, its view and its hop to another thread.
//! What may go through many rows gets a thread of its own.

use std::sync::Arc;

use holdfast_model::{GroupId, Timestamp};
use holdfast_runtime::{Env, OnFatal, Shutdown, TasksExt};
use tokio::sync::mpsc;

use super::Reading;
use crate::query::Query;
use crate::state;
use crate::store::{Store, StoreError};

/// Answers queries whose read index is applied.
pub(super) struct Reader {
    desk: Desk,
    short: mpsc::UnboundedSender<Looks>,
}

/// Queries of one group.
struct Looks {
    group: GroupId,
    readings: Vec<Reading>,
    now: Timestamp,
}

#[derive(Clone)]
struct Desk {
    env: Env,
    store: Arc<Store>,
    on_fatal: OnFatal,
}

impl Reader {
    pub fn start(env: Env, store: Arc<Store>, on_fatal: OnFatal, shutdown: Shutdown) -> Self {
        let desk = Desk {
            env,
            store,
            on_fatal,
        };
        let (short, waiting) = mpsc::unbounded_channel();
        let one = desk.clone();
        desk.env.tasks.spawn(
            "queries",
            Box::pin(async move {
                tokio::select! {
                    biased;
                    () = shutdown.begun() => {}
                    () = one.run(waiting) => {}
                }
            }),
        );
        Self { desk, short }
    }

    /// Answers some time, each once.
    pub fn answer(&self, group: GroupId, readings: Vec<Reading>, now: Timestamp) {
        let (short, long): (Vec<_>, Vec<_>) =
            readings.into_iter().partition(|one| is_short(&one.query));
        let looks = |readings| Looks {
            group,
            readings,
            now,
        };
        if !short.is_empty() {
            // Fails only at the end, when nobody waits.
            let _ = self.short.send(looks(short));
        }
        if !long.is_empty() {
            let (desk, looks) = (self.desk.clone(), looks(long));
            let tasks = self.desk.env.tasks.clone();
            tasks.spawn(
                "long queries",
                Box::pin(async move { desk.look(vec![looks]).await }),
            );
        }
    }
}

impl Desk {
    async fn run(self, mut waiting: mpsc::UnboundedReceiver<Looks>) {
        while let Some(first) = waiting.recv().await {
            let mut all = vec![first];
            while let Ok(next) = waiting.try_recv() {
                all.push(next);
            }
            self.look(all).await;
        }
    }

    async fn look(&self, all: Vec<Looks>) {
        let (store, on_fatal) = (self.store.clone(), self.on_fatal.clone());
        let look = move || {
            if let Err(error) = answer_all(&store, all) {
                on_fatal(store.fatal(&error));
            }
        };
        self.env.tasks.blocking(look).await;
    }
}

/// Answers from one view, which is newer than every read index among them.
fn answer_all(store: &Store, all: Vec<Looks>) -> Result<(), StoreError> {
    let view = store.snapshot()?;
    for looks in all {
        let rows = view.group(looks.group);
        for reading in looks.readings {
            let answer = state::answer(&rows, &reading.query, looks.now)?;
            // Whoever asked may have gone.
            let _ = reading.answer.send(Ok(answer));
        }
    }
    Ok(())
}

/// Whether a query looks at a handful of rows, however many there are.
fn is_short(query: &Query) -> bool {
    matches!(
        query,
        Query::Object { .. }
            | Query::Version { .. }
            | Query::Task { .. }
            | Query::TasksOf { .. }
            | Query::Ticket { .. }
            | Query::Totals
            | Query::Generation
            | Query::Cluster
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use holdfast_runtime::memory_disk::MemoryDisk;
    use holdfast_runtime::{Disk, Fatal, still};
    use tokio::sync::oneshot;

    use super::*;
    use crate::raft::driver::tests::{A, born};

    /// A query meets the same rows on every member that leads.
    #[tokio::test]
    async fn a_query_that_meets_a_senseless_row_fails_no_disk() {
        let memory: MemoryDisk = born();
        let disk: Arc<dyn Disk> = Arc::new(memory);
        let store = Arc::new(Store::open(&disk, "state").unwrap());
        let mut batch = store.begin_bulk().unwrap();
        let mut txn = batch.group(A).unwrap();
        let head = crate::state::initial_rows(A, &crate::raft::driver::tests::cluster(1));
        txn.put(&head[0].0, &[0x9f]).unwrap();
        drop(txn);
        batch.commit(true).unwrap();
        let ended = Arc::new(Mutex::new(None));
        let end = ended.clone();
        let on_fatal: OnFatal = Arc::new(move |fatal| *end.lock().unwrap() = Some(fatal));
        let reader = Reader::start(still::env(1), store, on_fatal, Shutdown::default());
        let (answer, answered) = oneshot::channel();
        let reading = Reading {
            query: Query::Totals,
            answer: answer.into(),
            since: 0,
        };
        reader.answer(A, vec![reading], Timestamp(1));
        assert!(answered.await.is_err(), "nobody is answered");
        let ended = ended.lock().unwrap().take();
        assert!(matches!(ended, Some(Fatal::Broken(_))), "{ended:?}");
    }
}

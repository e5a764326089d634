//! Rounds of work that many wait for: one sync serves everybody who asked
//! before it began.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_runtime::{Tasks, TasksExt};
use tokio::sync::Notify;

use crate::fatal::{Failed, Fatal};

/// What a round does; it blocks. A failure is told to [`Fatal`].
pub(crate) type Work = Arc<dyn Fn() + Send + Sync>;

/// Who waits for which round: rounds are numbered, and a waiter joins the next
/// one, since the one that runs may have begun before its last write.
#[derive(Default)]
pub(crate) struct Rounds {
    state: Mutex<State>,
    finished: AtomicU64,
    over: Notify,
}

#[derive(Default)]
struct State {
    begun: u64,
    wanted: u64,
    running: bool,
}

impl Rounds {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a round that began after the call is over.
    pub(crate) async fn join(
        self: &Arc<Self>,
        tasks: &Arc<dyn Tasks>,
        fatal: &Arc<Fatal>,
        work: Work,
    ) -> Result<(), Failed> {
        let (wanted, lead) = {
            let mut state = self.state();
            let wanted = state.begun + 1;
            state.wanted = wanted;
            (wanted, !std::mem::replace(&mut state.running, true))
        };
        if lead {
            // A task of its own: a waiter that gives up must not end the round.
            let (rounds, own, fatal) = (self.clone(), tasks.clone(), fatal.clone());
            tasks.spawn(
                "sync for all who wait",
                Box::pin(async move { rounds.run(&own, &fatal, work).await }),
            );
        }
        loop {
            // Made before the look at the number, or a wake-up could be missed.
            let over = self.over.notified();
            if self.finished.load(Ordering::SeqCst) >= wanted {
                return fatal.check();
            }
            over.await;
        }
    }

    async fn run(&self, tasks: &Arc<dyn Tasks>, fatal: &Fatal, work: Work) {
        loop {
            let round = {
                let mut state = self.state();
                if state.wanted <= state.begun {
                    state.running = false;
                    return;
                }
                state.begun += 1;
                state.begun
            };
            let own = work.clone();
            if tasks.blocking(move || own()).await.is_none() {
                // The process ends and the sync was not done: nobody may hear success.
                fatal.fail("the process is ending".into());
            }
            self.finished.store(round, Ordering::SeqCst);
            self.over.notify_waiters();
        }
    }
}

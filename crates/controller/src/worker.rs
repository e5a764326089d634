//! Background work: one trait, with pauses, back-off, and a view of its state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_model::Timestamp;
use holdfast_runtime::{Env, Shutdown};
use tokio::sync::Notify;

use crate::error::WorkError;

/// The pause after the first failure; it doubles up to [`LAST_BACK_OFF`].
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
/// The longest pause after failures: a minute after what was in the way has
/// gone, everything works again.
const LAST_BACK_OFF: Duration = Duration::from_secs(60);
/// The pause after a round that has begun something: until its effect is seen.
const SOON: Duration = Duration::from_millis(200);
/// The least pause between two rounds, whoever asks: no loop may be tight.
const LEAST_PAUSE: Duration = Duration::from_millis(20);

/// What a round has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Round {
    /// All is done for now. What there is to say of it.
    Idle(String),
    /// Something was begun and its effect is waited for.
    Begun(String),
    /// There is more to do at once.
    More(String),
}

/// Work that goes on for as long as the process does. A round may be cut off
/// at any await, when the process ends; whatever it was doing is found again.
pub(crate) trait Worker: Send + 'static {
    /// What it is called in `/debug`.
    fn name(&self) -> &'static str;

    /// How often it looks whether there is something to do.
    fn every(&self) -> Duration;

    /// Does some work: what fits a minute or so.
    fn round(&mut self) -> BoxFuture<'_, Result<Round, WorkError>>;
}

/// What a worker is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerState {
    /// It waits for its next round.
    Waiting,
    /// It is at work.
    Working,
    /// It waits longer, since its last round failed.
    BackingOff,
    /// It has ended with the process.
    Ended,
}

/// A worker, as `/debug` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerView {
    /// Its name.
    pub name: &'static str,
    /// What it is doing.
    pub state: WorkerState,
    /// Since when.
    pub since: Timestamp,
    /// What it said of its last round that went well.
    pub note: String,
    /// Rounds ended.
    pub rounds: u64,
    /// Rounds that failed since one went well.
    pub failures: u32,
    /// The last error and when it was.
    pub last_error: Option<(Timestamp, String)>,
}

/// The workers' views.
#[derive(Clone, Default)]
pub(crate) struct Workers {
    /// Held for updates of one row only.
    views: Arc<Mutex<BTreeMap<&'static str, WorkerView>>>,
}

impl Workers {
    pub fn views(&self) -> Vec<WorkerView> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, WorkerView>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, name: &'static str, now: Timestamp, change: impl FnOnce(&mut WorkerView)) {
        let mut views = self.lock();
        let view = views.entry(name).or_insert_with(|| WorkerView {
            name,
            state: WorkerState::Waiting,
            since: now,
            note: String::new(),
            rounds: 0,
            failures: 0,
            last_error: None,
        });
        let before = view.state;
        change(view);
        if view.state != before {
            view.since = now;
        }
    }

    /// Runs a worker until `shutdown`. `kick` begins its next round at once.
    pub async fn run(
        self,
        env: Env,
        mut worker: impl Worker,
        kick: Arc<Notify>,
        shutdown: Shutdown,
    ) {
        let name = worker.name();
        let update = |change: &mut dyn FnMut(&mut WorkerView)| {
            self.update(name, env.clock.wall(), |view| change(view));
        };
        while !shutdown.has_begun() {
            update(&mut |view| view.state = WorkerState::Working);
            let result = tokio::select! {
                biased;
                () = shutdown.begun() => break,
                result = worker.round() => result,
            };
            if let Err(WorkError::NoState) = &result {
                // Before its birth a node has nothing to look after.
                tracing::debug!(worker = name, "the cluster's state is not known yet");
            } else if let Err(error) = &result {
                tracing::warn!(worker = name, %error, "a round of background work failed");
                metrics::counter!("holdfast_controller_failures_total", "worker" => name)
                    .increment(1);
            }
            let mut pause = LEAST_PAUSE;
            update(&mut |view| pause = settle(view, &result, worker.every(), env.clock.wall()));
            tokio::select! {
                biased;
                () = shutdown.begun() => break,
                () = env.clock.sleep(pause.min(LEAST_PAUSE)) => {}
            }
            tokio::select! {
                biased;
                () = shutdown.begun() => break,
                () = kick.notified() => {}
                () = env.clock.sleep(pause.saturating_sub(LEAST_PAUSE)) => {}
            }
        }
        update(&mut |view| view.state = WorkerState::Ended);
    }
}

/// Notes how a round ended and returns the pause before the next.
fn settle(
    view: &mut WorkerView,
    result: &Result<Round, WorkError>,
    every: Duration,
    now: Timestamp,
) -> Duration {
    view.rounds += 1;
    match result {
        Ok(round) => {
            view.state = WorkerState::Waiting;
            view.failures = 0;
            match round {
                Round::Idle(note) => {
                    view.note.clone_from(note);
                    every
                }
                Round::Begun(note) => {
                    view.note.clone_from(note);
                    SOON.min(every)
                }
                Round::More(note) => {
                    view.note.clone_from(note);
                    LEAST_PAUSE
                }
            }
        }
        Err(error) => {
            view.state = WorkerState::BackingOff;
            view.failures = view.failures.saturating_add(1);
            view.last_error = Some((now, error.to_string()));
            back_off(view.failures).max(every.min(LAST_BACK_OFF))
        }
    }
}

/// The pause after so many failures in a row.
fn back_off(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(0);
    match doubled {
        0 => LAST_BACK_OFF,
        times => FIRST_BACK_OFF.saturating_mul(times).min(LAST_BACK_OFF),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_a_minute_for_ever() {
        let seconds: Vec<f64> = [1, 2, 3, 8, 9, 40, u32::MAX]
            .map(|failures| back_off(failures).as_secs_f64())
            .to_vec();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 60.0, 60.0, 60.0, 60.0]);
    }

    #[test]
    fn a_good_round_ends_the_back_off_and_keeps_the_last_error_to_be_seen() {
        let workers = Workers::default();
        let every = Duration::from_secs(3);
        let mut pauses = Vec::new();
        workers.update("w", Timestamp(1), |view| {
            let bad = Err(WorkError::NoState);
            pauses.push(settle(view, &bad, every, Timestamp(1)));
            pauses.push(settle(
                view,
                &Ok(Round::Idle("fine".into())),
                every,
                Timestamp(2),
            ));
            let begun = Ok(Round::Begun("fine".into()));
            pauses.push(settle(view, &begun, every, Timestamp(3)));
        });
        let view = workers.views().remove(0);
        assert_eq!(
            (view.failures, view.rounds, view.note.as_str()),
            (0, 3, "fine")
        );
        assert_eq!(view.last_error.unwrap().0, Timestamp(1));
        assert_eq!(pauses, [every, every, SOON]);
    }
}

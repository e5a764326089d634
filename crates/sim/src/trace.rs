//! What happened, folded into one number: two runs of a seed must agree. What
//! tells the story (faults, and what clients did) is kept as text as well.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// Lines of the story that are kept: the end of it explains most failures.
const KEPT_LINES: usize = 2_000;

/// A running digest of events.
pub struct Trace {
    start: tokio::time::Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    digest: Sha256,
    events: u64,
    story: VecDeque<String>,
    wrong: Vec<String>,
    live: bool,
}

impl Trace {
    /// A trace that counts time from `start`.
    pub fn new(start: tokio::time::Instant) -> Self {
        Self {
            start,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the run began.
    pub fn at(&self) -> Duration {
        self.start.elapsed()
    }

    /// Prints the story as it goes from now on: a panic then does not hide it.
    pub fn print(&self) {
        self.lock().live = true;
    }

    /// Adds an event.
    pub fn note(&self, event: &str) {
        let mut inner = self.lock();
        inner.digest.update(event.as_bytes());
        inner.digest.update(b"\n");
        inner.events += 1;
    }

    /// Adds an event that belongs to the story.
    pub fn tell(&self, event: &str) {
        let at = self.at();
        let line = format!("{:>9.3} {event}", at.as_secs_f64());
        self.note(&line);
        let mut inner = self.lock();
        if inner.live {
            println!("  {line}");
        }
        if inner.story.len() == KEPT_LINES {
            inner.story.pop_front();
        }
        inner.story.push_back(line);
    }

    /// Adds something that must not be: the run has failed.
    pub fn wrong(&self, what: String) {
        self.tell(&format!("WRONG: {what}"));
        self.lock().wrong.push(what);
    }

    /// What must not be and was.
    pub fn wrongs(&self) -> Vec<String> {
        self.lock().wrong.clone()
    }

    /// The story's last lines.
    pub fn story(&self) -> Vec<String> {
        self.lock().story.iter().cloned().collect()
    }

    /// The digest so far, and of how many events.
    pub fn digest(&self) -> (String, u64) {
        let inner = self.lock();
        let text = inner
            .digest
            .clone()
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (text, inner.events)
    }
}

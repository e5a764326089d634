//! Settling reservations: every request under a ticket is reported to its
//! group, again and again until the group has heard it. A report that never
//! arrives leaves the download counted.
//!
//! One command a group is under way; what ends meanwhile goes with the next
//! one. So a report goes out at once where there are few, and where there are
//! many they share a command.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_client::{ClusterError, ObjectPlace};
use holdfast_metadata::command::{
    ByteSpan, Command, EndedRequest, MAX_ENDS_PER_COMMAND, RequestEnd,
};
use holdfast_model::{GroupId, TicketId};
use tokio::sync::Notify;

use crate::app::App;
use crate::files::lookup::Found;

/// How long one report may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long to wait after a failed report, doubled with each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Reports of one command: about eight minutes, less than outcomes are remembered.
const MAX_REPORTS: u32 = 9;
/// Reports under way; further ones are dropped, and their downloads count.
pub const MAX_UNDER_WAY: usize = 10_000;

/// Reports under way.
#[derive(Default)]
pub struct Settlements {
    under_way: AtomicUsize,
    one_less: Notify,
    /// What waits for each group's next command; a group is in it while a task
    /// reports to it. A lock, held for a move only.
    waiting: Mutex<BTreeMap<GroupId, VecDeque<EndedRequest>>>,
}

impl Settlements {
    /// How many.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    /// Resolves when there are none.
    pub async fn none(&self) {
        loop {
            let changed = self.one_less.notified();
            if self.under_way() == 0 {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, VecDeque<EndedRequest>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> bool {
        let before = self.under_way.fetch_add(1, Ordering::SeqCst);
        if before >= MAX_UNDER_WAY {
            self.end(1);
            return false;
        }
        true
    }

    fn end(&self, count: usize) {
        self.under_way.fetch_sub(count, Ordering::SeqCst);
        self.one_less.notify_waiters();
    }

    /// Adds a report. True when nobody reports to that group yet.
    fn add(&self, group: GroupId, ended: EndedRequest) -> bool {
        let mut waiting = self.lock();
        let is_first = !waiting.contains_key(&group);
        waiting.entry(group).or_default().push_back(ended);
        is_first
    }

    /// What goes with the next command; none ends the task that reports.
    fn next(&self, group: GroupId) -> Option<Vec<EndedRequest>> {
        let mut waiting = self.lock();
        let queue = waiting.get_mut(&group)?;
        let count = queue.len().min(MAX_ENDS_PER_COMMAND);
        if count == 0 {
            waiting.remove(&group);
            return None;
        }
        Some(queue.drain(..count).collect())
    }
}

/// A request under a ticket that has to be reported. Dropped without a report,
/// as when the client goes away while we wait, it gives back: nothing was sent.
pub struct Settlement(Option<Request>);

struct Request {
    app: Arc<App>,
    address: ObjectPlace,
    ticket: TicketId,
    span: ByteSpan,
}

impl Settlement {
    /// Of a request for a span of a file.
    pub fn new(app: &Arc<App>, found: &Found, ticket: TicketId, span: ByteSpan) -> Self {
        Self(Some(Request {
            app: app.clone(),
            address: found.address.clone(),
            ticket,
            span,
        }))
    }

    /// There is nothing to report: the group has refused.
    pub fn forget(mut self) {
        self.0 = None;
    }

    /// Reports how the request ended, in the background.
    pub fn report(mut self, end: RequestEnd) {
        if let Some(request) = self.0.take() {
            request.report(end);
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if let Some(request) = self.0.take() {
            request.report(RequestEnd::GivenBack);
        }
    }
}

impl Request {
    fn report(self, end: RequestEnd) {
        if !self.app.settlements.begin() {
            tracing::warn!(ticket = %self.ticket, "too many reports wait: a download stays counted");
            return;
        }
        let group = self.address.group;
        let ended = EndedRequest {
            bucket: self.address.bucket,
            key: self.address.key,
            ticket: self.ticket,
            range: self.span,
            end,
        };
        if self.app.settlements.add(group, ended) {
            let tasks = self.app.env.tasks.clone();
            tasks.spawn("settle-downloads", Box::pin(report_all(self.app, group)));
        }
    }
}

async fn report_all(app: Arc<App>, group: GroupId) {
    while let Some(ends) = app.settlements.next(group) {
        let count = ends.len();
        report(&app, group, ends).await;
        app.settlements.end(count);
    }
}

async fn report(app: &App, group: GroupId, ends: Vec<EndedRequest>) {
    let env = &app.env;
    let count = ends.len();
    // The same on every report, so that the group does it once.
    let id = app.cluster.request_id();
    let mut pause = FIRST_PAUSE;
    for turn in 1..=MAX_REPORTS {
        let command = Command::EndRequests { ends: ends.clone() };
        match app
            .cluster
            .propose(group, id, command, DEADLINE, None)
            .await
        {
            // Whose ticket has ended or whose file is gone is settled.
            Ok(_) | Err(ClusterError::Refused(_)) => return,
            Err(error) if turn == MAX_REPORTS => {
                tracing::warn!(count, %error, "downloads stay counted");
            }
            Err(_) => env.clock.sleep(pause).await,
        }
        pause *= 2;
    }
}

//! Settling reservations: every request under a ticket is reported to its
//! group, again and again until the group has heard it. A report that never
//! arrives leaves the download counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holdfast_client::ClusterError;
use holdfast_metadata::command::{ByteSpan, Command, RequestEnd};
use holdfast_model::TicketId;
use tokio::sync::Notify;

use crate::app::{App, FileAddress};
use crate::files::lookup::Found;

/// How long one report may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long to wait after a failed report, doubled with each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Reports of one request: about eight minutes, less than outcomes are remembered.
const MAX_REPORTS: u32 = 9;
/// Reports under way; further ones are dropped, and their downloads count.
pub const MAX_UNDER_WAY: usize = 10_000;

/// Reports under way.
#[derive(Default)]
pub struct Settlements {
    under_way: AtomicUsize,
    one_less: Notify,
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

    fn begin(&self) -> bool {
        let before = self.under_way.fetch_add(1, Ordering::SeqCst);
        if before >= MAX_UNDER_WAY {
            self.end();
            return false;
        }
        true
    }

    fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.one_less.notify_waiters();
    }
}

/// A request under a ticket that has to be reported. Dropped without a report,
/// as when the client goes away while we wait, it gives back: nothing was sent.
pub struct Settlement(Option<Request>);

struct Request {
    app: Arc<App>,
    address: FileAddress,
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
        let tasks = self.app.env.tasks.clone();
        tasks.spawn("settle-download", Box::pin(self.run(end)));
    }

    async fn run(self, end: RequestEnd) {
        let env = &self.app.env;
        // The same on every report, so that the group does it once.
        let id = env.entropy.request_id(env.clock.as_ref());
        let mut pause = FIRST_PAUSE;
        for report in 1..=MAX_REPORTS {
            let command = Command::EndRequest {
                bucket: self.address.bucket,
                key: self.address.key.clone(),
                ticket: self.ticket,
                range: self.span,
                end,
            };
            let proposed = self
                .app
                .cluster
                .propose(self.address.group, id, command, DEADLINE, None)
                .await;
            match proposed {
                Ok(_) => break,
                // The ticket has ended or the file is gone: it is settled.
                Err(ClusterError::Refused(_)) => break,
                Err(error) if report == MAX_REPORTS => {
                    tracing::warn!(ticket = %self.ticket, %error, "a download stays counted");
                }
                Err(_) => env.clock.sleep(pause).await,
            }
            pause *= 2;
        }
        self.app.settlements.end();
    }
}

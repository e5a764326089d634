//! When a connection of HTTP/2 has nothing to do: its clients may keep it open
//! with pings alone, and it holds a place that others wait for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use hyper::Response;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::sync::Notify;

/// Counts the requests of a connection that are under way.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Counts>);

#[derive(Default)]
struct Counts {
    busy: AtomicUsize,
    /// Woken whenever a request begins or ends.
    changed: Notify,
}

impl Watch {
    /// A request begins.
    pub(super) fn begin(&self) -> Busy {
        self.0.busy.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_one();
        Busy(self.0.clone())
    }

    /// Resolves when nothing has been under way for `limit`.
    pub(super) async fn silent_for(&self, limit: Duration) {
        loop {
            let changed = self.0.changed.notified();
            match self.0.busy.load(Ordering::SeqCst) {
                0 => {
                    if tokio::time::timeout(limit, changed).await.is_err() {
                        return;
                    }
                }
                _ => changed.await,
            }
        }
    }
}

/// A request that is under way.
pub(super) struct Busy(Arc<Counts>);

impl Busy {
    /// It is, until the last of its answer is taken.
    pub(super) fn until_sent(self, response: Response<Body>) -> Response<Body> {
        response.map(|body| Body::new(Sending { body, _busy: self }))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_one();
    }
}

struct Sending {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_time_without_any_request_counts() {
        let limit = Duration::from_secs(10);
        let watch = Watch::default();
        let (first, second) = (watch.begin(), watch.begin());
        let silent = watch.silent_for(limit);
        tokio::pin!(silent);
        let during = Duration::from_secs(100);
        assert!(tokio::time::timeout(during, &mut silent).await.is_err());
        drop(first);
        assert!(tokio::time::timeout(during, &mut silent).await.is_err());
        drop(second);
        let begun = tokio::time::Instant::now();
        silent.await;
        assert_eq!(begun.elapsed(), limit);
    }
}

//! The body of a download: what was asked for and no more, at the client's
//! pace, and in the end a report of what became of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{self, BoxStream, StreamExt};
use holdfast_client::ClusterError;
use holdfast_metadata::command::RequestEnd;
use holdfast_runtime::Clock;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::settle::Settlement;

/// Bytes of an object in pieces.
pub type Pieces = BoxStream<'static, Result<Bytes, ClusterError>>;

/// A client that took longer than this for a piece may itself be why reading
/// the next one failed: the nodes' streams do not wait for ever.
const CLIENT_STALL: Duration = Duration::from_secs(5);

/// Why a body was cut.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The cluster could not go on.
    #[error("the data could not be read further: {0}")]
    Read(#[from] ClusterError),
    /// The stored bytes are not as many as the record says.
    #[error("the object has other bytes than its record says")]
    WrongLength,
}

/// What is known of a request's bytes; decides whether they count.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Account {
    /// Bytes that are to be sent.
    pub total: u64,
    /// Bytes handed to the connection.
    pub sent: u64,
    /// Whether our side failed.
    pub failed: bool,
    /// Whether the client let us wait before that.
    pub stalled: bool,
}

impl Account {
    /// What became of the request.
    ///
    /// An empty file has no byte that could be sent: its answer counts.
    pub fn end(&self) -> RequestEnd {
        let nothing_sent = self.sent == 0 && self.total > 0;
        let our_fault = self.failed && (self.sent == 0 || !self.stalled);
        if nothing_sent || our_fault {
            RequestEnd::GivenBack
        } else {
            RequestEnd::Sent
        }
    }
}

/// A body that reports when it ends or is dropped.
pub struct Sending {
    first: Option<Bytes>,
    pieces: Pieces,
    account: Account,
    settlement: Option<Settlement>,
    clock: Arc<dyn Clock>,
    handed_over: Option<Duration>,
    _room: OwnedSemaphorePermit,
}

impl Sending {
    /// A body of `total` bytes that are still to be had.
    pub fn new(
        total: u64,
        settlement: Option<Settlement>,
        room: OwnedSemaphorePermit,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            first: None,
            pieces: stream::empty().boxed(),
            account: Account {
                total,
                ..Account::default()
            },
            settlement,
            clock,
            handed_over: None,
            _room: room,
        }
    }

    /// A body that counts for nothing: a thumbnail.
    pub fn of(
        total: u64,
        pieces: Pieces,
        room: OwnedSemaphorePermit,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut body = Self::new(total, None, room, clock);
        body.pieces = pieces;
        body
    }

    /// Gives it its bytes.
    pub fn fill(&mut self, first: Bytes, rest: Pieces) {
        self.first = Some(first);
        self.pieces = rest;
    }

    /// Says that our side failed before the first byte.
    pub fn fail(&mut self) {
        self.account.failed = true;
    }

    fn take(&mut self, piece: Bytes) -> Result<Frame<Bytes>, SendError> {
        let sent = self.account.sent + piece.len() as u64;
        if sent > self.account.total {
            self.account.failed = true;
            return Err(SendError::WrongLength);
        }
        self.account.sent = sent;
        self.handed_over = Some(self.clock.monotonic());
        Ok(Frame::data(piece))
    }

    fn note_stall(&mut self) {
        if let Some(at) = self.handed_over.take() {
            let waited = self.clock.monotonic().saturating_sub(at);
            self.account.stalled |= waited > CLIENT_STALL;
        }
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let this = &mut *self;
        this.note_stall();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(this.take(first)));
        }
        if this.account.sent == this.account.total || this.account.failed {
            return Poll::Ready(None);
        }
        let piece = match ready!(Pin::new(&mut this.pieces).poll_next(cx)) {
            Some(Ok(piece)) => this.take(piece),
            Some(Err(error)) => {
                this.account.failed = true;
                tracing::warn!(%error, sent = this.account.sent, "a download was cut");
                Err(error.into())
            }
            None => {
                this.account.failed = true;
                Err(SendError::WrongLength)
            }
        };
        Poll::Ready(Some(piece))
    }

    fn is_end_stream(&self) -> bool {
        self.account.sent == self.account.total
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.account.total - self.account.sent)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(settlement) = self.settlement.take() {
            settlement.report(self.account.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_runtime::host::system::SystemClock;
    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    use super::*;

    fn account(total: u64, sent: u64, failed: bool, stalled: bool) -> RequestEnd {
        Account {
            total,
            sent,
            failed,
            stalled,
        }
        .end()
    }

    #[test]
    fn what_was_sent_counts_however_it_ended() {
        assert_eq!(account(10, 10, false, false), RequestEnd::Sent);
        // The client hung up in the middle.
        assert_eq!(account(10, 1, false, false), RequestEnd::Sent);
        // An empty file was downloaded.
        assert_eq!(account(0, 0, false, false), RequestEnd::Sent);
    }

    #[test]
    fn what_was_not_sent_or_failed_here_is_given_back() {
        assert_eq!(account(10, 0, false, false), RequestEnd::GivenBack);
        assert_eq!(account(10, 0, true, false), RequestEnd::GivenBack);
        assert_eq!(account(10, 5, true, false), RequestEnd::GivenBack);
    }

    #[test]
    fn a_client_cannot_get_a_refund_by_stalling() {
        assert_eq!(account(10, 9, true, true), RequestEnd::Sent);
    }

    async fn body(total: u64, first: &str, rest: Vec<Result<Bytes, ClusterError>>) -> Sending {
        let room = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let mut sending = Sending::new(total, None, room, Arc::new(SystemClock::default()));
        sending.fill(
            Bytes::copy_from_slice(first.as_bytes()),
            stream::iter(rest).boxed(),
        );
        sending
    }

    #[tokio::test]
    async fn a_body_is_exactly_as_long_as_was_said() {
        let mut good = body(6, "abc", vec![Ok(Bytes::from("def"))]).await;
        assert_eq!(good.size_hint_exact(), Some(6));
        assert_eq!((&mut good).collect().await.unwrap().to_bytes(), "abcdef");
        assert_eq!(good.account.end(), RequestEnd::Sent);

        let mut short = body(6, "abc", vec![]).await;
        assert!((&mut short).collect().await.is_err());
        assert_eq!(short.account.end(), RequestEnd::GivenBack);

        let mut long = body(4, "abc", vec![Ok(Bytes::from("def"))]).await;
        assert!((&mut long).collect().await.is_err());
        assert_eq!(long.account.sent, 3, "no byte too many");
    }

    impl Sending {
        fn size_hint_exact(&self) -> Option<u64> {
            http_body::Body::size_hint(self).exact()
        }
    }
}

//! Bodies that keep their time and count their bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use holdfast_runtime::Clock;
use holdfast_runtime::host::pace::Pace;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// How long a client may send nothing in the middle of a body.
pub const BODY_IDLE: Duration = Duration::from_secs(30);

/// No byte came for [`BODY_IDLE`], or too few for longer.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body's bytes came too slowly, or none for {BODY_IDLE:?}")]
pub struct BodyIdle;

/// Whether an error of a body is [`BodyIdle`], however it is wrapped.
pub fn is_idle(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<BodyIdle>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// A request's body that ends with an error when its client is silent, or
/// slower than [`Pace`] allows. Time in which nobody asks for the body is ours.
///
/// It gives one frame a turn: the multipart reader takes all that it can get at
/// once, and would otherwise hold as much as the client can send.
pub struct IdleBody {
    inner: Body,
    clock: Arc<dyn Clock>,
    silence: Option<Silence>,
    pace: Pace,
    rested: bool,
}

/// The client is waited for.
struct Silence {
    since: Duration,
    deadline: BoxFuture<'static, ()>,
}

impl IdleBody {
    /// Watches a body.
    pub fn new(inner: Body, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            clock,
            silence: None,
            pace: Pace::default(),
            rested: true,
        }
    }
}

impl IdleBody {
    fn keeps_pace(&mut self, frame: &Option<Result<Frame<Bytes>, axum::Error>>) -> bool {
        let Some(silence) = self.silence.take() else {
            return true;
        };
        let waited = self.clock.monotonic().saturating_sub(silence.since);
        let bytes = match frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            _ => 0,
        };
        self.pace.moved(waited, bytes)
    }
}

impl http_body::Body for IdleBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if !this.rested {
            this.rested = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.rested = frame.is_none();
            let kept = this.keeps_pace(&frame);
            return Poll::Ready(match frame {
                Some(Ok(_)) if !kept => Some(Err(BodyIdle.into())),
                frame => frame.map(|frame| frame.map_err(Into::into)),
            });
        }
        let clock = &this.clock;
        let silence = this.silence.get_or_insert_with(|| Silence {
            since: clock.monotonic(),
            deadline: clock.sleep(BODY_IDLE),
        });
        ready!(silence.deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyIdle.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A request that is being served, for as long as this lives.
pub struct InFlight {
    _place: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    /// Counts one, which holds a place among the requests served at once,
    /// unless there was none left.
    pub fn begin(place: Option<OwnedSemaphorePermit>) -> Self {
        metrics::gauge!("holdfast_http_in_flight").increment(1.0);
        Self { _place: place }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("holdfast_http_in_flight").decrement(1.0);
    }
}

/// A body whose bytes are counted when it ends, however it ends.
pub struct CountedBody<B> {
    inner: B,
    direction: &'static str,
    bytes: u64,
    _in_flight: Option<InFlight>,
}

impl<B> CountedBody<B> {
    /// Counts `inner`'s bytes as `in` or `out`.
    pub fn new(inner: B, direction: &'static str, in_flight: Option<InFlight>) -> Self {
        Self {
            inner,
            direction,
            bytes: 0,
            _in_flight: in_flight,
        }
    }
}

impl<B> Drop for CountedBody<B> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            metrics::counter!("holdfast_http_bytes_total", "direction" => self.direction)
                .increment(self.bytes);
        }
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.bytes += data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use holdfast_model::Timestamp;
    use http_body_util::BodyExt;

    use super::*;

    /// A clock on which every sleep is over at once.
    struct Hurried;

    impl Clock for Hurried {
        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn a_silent_client_is_not_waited_for() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, BodyIdle>>());
        let error = IdleBody::new(silent, Arc::new(Hurried))
            .collect()
            .await
            .unwrap_err();
        assert!(is_idle(error.as_ref()));
    }

    #[tokio::test]
    async fn what_comes_in_time_comes_whole() {
        let pieces = ["a", "b", "c"].map(|text| Ok::<_, BodyIdle>(Bytes::from(text)));
        let body = Body::from_stream(stream::iter(pieces));
        let whole = IdleBody::new(body, Arc::new(Hurried))
            .collect()
            .await
            .unwrap();
        assert_eq!(whole.to_bytes(), "abc");
    }
}

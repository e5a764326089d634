//! The pace that a peer must keep: not a rate to be proud of, but one below
//! which it holds room that others wait for.
//!
//! Counted is only the time in which the peer was waited for. Over each
//! [`WINDOW`] of such time it must have moved [`MIN_BYTES`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Waiting time over which the pace is judged.
pub const WINDOW: Duration = Duration::from_secs(30);
/// Bytes that must have moved in it: about what a modem of 1991 did.
pub const MIN_BYTES: u64 = 32 << 10;
/// How long a peer may take no byte at all of what is sent to it.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// How long a client that was answered in the middle of its request may go on
/// sending, before its connection is closed for good.
const LINGER_DEADLINE: Duration = Duration::from_secs(2);
/// And how much: what the sockets' buffers on its way may hold.
const LINGER_BYTES: usize = 32 << 20;

/// Measures one direction of a connection.
#[derive(Clone, Copy, Default, Debug)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// The peer was waited for so long and then moved `bytes`. False when it
    /// is too slow.
    #[must_use]
    pub fn moved(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < WINDOW {
            return true;
        }
        let kept = self.bytes >= MIN_BYTES;
        *self = Self::default();
        kept
    }
}

/// A socket whose writes fail when the other side takes nothing for
/// [`WRITE_DEADLINE`], or less than the pace asks for.
pub struct PatientStream {
    inner: TcpStream,
    blocked: Option<Blocked>,
    pace: Pace,
    linger: Option<Linger>,
}

/// Our side has ended.
struct Linger {
    deadline: Pin<Box<Sleep>>,
    bytes: usize,
}

struct Blocked {
    since: Instant,
    deadline: Pin<Box<Sleep>>,
}

impl PatientStream {
    /// Watches a socket.
    pub fn new(inner: TcpStream) -> Self {
        Self {
            inner,
            blocked: None,
            pace: Pace::default(),
            linger: None,
        }
    }

    /// Lets a write pass, or watches how long it has been blocked.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let slow = || Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, TOO_SLOW)));
        if let Poll::Ready(result) = wrote {
            let waited = self.blocked.take().map(|blocked| blocked.since.elapsed());
            let bytes = result.as_ref().map_or(0, |bytes| *bytes as u64);
            return match self.pace.moved(waited.unwrap_or_default(), bytes) {
                true => Poll::Ready(result),
                false => slow(),
            };
        }
        let blocked = self.blocked.get_or_insert_with(|| Blocked {
            since: Instant::now(),
            deadline: Box::pin(tokio::time::sleep(WRITE_DEADLINE)),
        });
        ready!(blocked.deadline.as_mut().poll(cx));
        slow()
    }
}

const TOO_SLOW: &str = "the client takes its answer too slowly";

impl AsyncRead for PatientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write(cx, data);
        self.watch(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write_vectored(cx, data);
        self.watch(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Ends our side, and then reads on for a while what the client still
    /// sends: a socket that is closed with bytes unread is reset, and the
    /// answer that says why is lost on its way.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        let linger = this.linger.get_or_insert_with(|| Linger {
            deadline: Box::pin(tokio::time::sleep(LINGER_DEADLINE)),
            bytes: 0,
        });
        let mut scrap = [0; 8 << 10];
        while linger.bytes < LINGER_BYTES && linger.deadline.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => linger.bytes += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_waited_for_and_moves_little_is_too_slow() {
        let second = Duration::from_secs(1);
        let mut fast = Pace::default();
        assert!((0..100).all(|_| fast.moved(second, 4_000)));
        let mut never_waited_for = Pace::default();
        assert!((0..100).all(|_| never_waited_for.moved(Duration::ZERO, 1)));
        let mut slow = Pace::default();
        assert!((0..29).all(|_| slow.moved(second, 1)));
        assert!(!slow.moved(second, 1));
    }
}

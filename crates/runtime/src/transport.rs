//! Calls between the processes of a cluster: a typed head, and a stream of
//! bytes where there are many. In production HTTP carries them
//! ([`crate::host::http`]); in the simulation, memory does.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};

/// Where a process listens: `host:port`, resolved at every connection.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address(pub String);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes that come in pieces.
pub enum Body {
    /// None.
    Empty,
    /// All at once.
    Full(Bytes),
    /// In pieces, of which each may be an error that ends them.
    Stream(BoxStream<'static, Result<Bytes, TransportError>>),
}

impl Body {
    /// A body of the pieces of `stream`.
    pub fn stream(
        stream: impl Stream<Item = Result<Bytes, TransportError>> + Send + 'static,
    ) -> Self {
        Self::Stream(stream.boxed())
    }

    /// The pieces, whichever kind it is.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes, TransportError>> {
        match self {
            Self::Empty => stream::empty().boxed(),
            Self::Full(bytes) => stream::once(async { Ok(bytes) }).boxed(),
            Self::Stream(stream) => stream,
        }
    }

    /// All of it, if that is at most `limit` bytes.
    pub async fn collect(self, limit: usize) -> Result<Bytes, TransportError> {
        let mut stream = match self {
            Self::Empty => return Ok(Bytes::new()),
            Self::Full(bytes) if bytes.len() <= limit => return Ok(bytes),
            Self::Full(_) => return Err(TransportError::TooLarge { limit }),
            Self::Stream(stream) => stream,
        };
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            if all.len() + piece.len() > limit {
                return Err(TransportError::TooLarge { limit });
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }
}

/// A call.
pub struct Call {
    /// What is asked, as an HTTP path: `/v1/raft`, `/upload`.
    pub path: &'static str,
    /// The typed request, encoded.
    pub head: Bytes,
    /// What follows it.
    pub body: Body,
    /// How long the answer's head may take. A body has its own deadline a piece.
    pub deadline: Duration,
    /// The id of the client's request that led to this one, for traces.
    pub request_id: Option<String>,
}

/// An answer.
pub struct Reply {
    /// The typed answer, encoded.
    pub head: Bytes,
    /// What follows it.
    pub body: Body,
}

/// Why no answer came. Whatever was asked may have been done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// Nobody listens there: it has not been done.
    #[error("cannot connect to {to}: {reason}")]
    Connect {
        /// Who was called.
        to: Address,
        /// What the system says.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection broke: {reason}")]
    Broken {
        /// What the system says.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer within {limit:?}")]
    Deadline {
        /// The time it had.
        limit: Duration,
    },
    /// The other side does not know us, or is not of this cluster.
    #[error("refused by {to}: the cluster's credential is not the same on both sides")]
    Unauthorized {
        /// Who was called.
        to: Address,
    },
    /// More bytes than are allowed.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// How many are allowed.
        limit: usize,
    },
    /// Something that is no answer.
    #[error("an answer that cannot be read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

impl TransportError {
    /// Whether what was asked certainly was not done.
    pub fn not_sent(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Unauthorized { .. })
    }
}

/// Makes calls.
pub trait Transport: Send + Sync {
    /// Calls `to` and waits for the head of its answer.
    fn call(&self, to: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>>;
}

/// Answers calls: the server's side.
pub trait Handler: Send + Sync + 'static {
    /// The paths it knows; others are answered with 404 before it is asked.
    fn paths(&self) -> &'static [&'static str];

    /// Answers a call to one of its paths.
    fn handle(&self, call: Call) -> BoxFuture<'static, Reply>;
}

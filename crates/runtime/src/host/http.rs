//! [`Transport`] over HTTP/1.1.
//!
//! A call is `POST {path}` with the content type [`CALL_TYPE`] and the
//! cluster's credential as bearer token. Its body, and that of the answer, is
//! the head's length (4 bytes, big-endian), the head, then the stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::tls::{TlsError, Trust, http_client};
use crate::Credential;
use crate::transport::{Address, Body, Call, Handler, Reply, Transport, TransportError};

/// The content type of calls and their answers.
pub const CALL_TYPE: &str = "application/vnd.holdfast.call";
/// The header that carries a client's request id through all services.
pub const REQUEST_ID: &str = "x-request-id";
/// The longest head: a full metadata command with its inline data and chunk lists, and a batch of
/// Raft messages, stay well below.
pub const MAX_HEAD_BYTES: usize = 32 << 20;
/// Heads of at most so many bytes are read without asking for room: any command
/// of a client fits.
const SMALL_HEAD_BYTES: usize = 64 << 10;
/// What longer heads that are being read and answered may hold together, as a
/// number of the longest: they wait for each other in turn.
const LONG_HEADS: u32 = 4;
/// Idle connections kept to one process; a burst's others are closed.
const MAX_IDLE_CONNECTIONS: usize = 512;
/// How long a stream may give nothing before it counts as broken.
const PIECE_DEADLINE: Duration = Duration::from_secs(10);
/// A dead machine is silent; a connection attempt on a local network is not slow.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// A handshake takes both sides' processors, which may be busy.
const ENCRYPTED_CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Idle connections are closed before common middleboxes forget them.
const IDLE_DEADLINE: Duration = Duration::from_secs(30);

/// Calls storage nodes over HTTP.
#[derive(Clone)]
pub struct HttpTransport {
    client: reqwest::Client,
    scheme: &'static str,
    credential: Credential,
}

impl HttpTransport {
    /// A transport that shows `credential` with every call, unencrypted.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(credential: &str) -> Result<Self, TlsError> {
        Self::with(Credential::fixed(credential), None)
    }

    /// A transport that shows what is current of `credential`; with `trust`
    /// only over encrypted connections to whom it believes.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn with(credential: Credential, trust: Option<Trust>) -> Result<Self, TlsError> {
        let (scheme, connect_deadline) = match &trust {
            Some(_) => ("https", ENCRYPTED_CONNECT_DEADLINE),
            None => ("http", CONNECT_DEADLINE),
        };
        let client = http_client(&trust.unwrap_or(Trust::System(None)))?
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(connect_deadline)
            .pool_idle_timeout(IDLE_DEADLINE)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .tcp_keepalive(IDLE_DEADLINE / 2)
            .build()
            .map_err(|error| TlsError::Client {
                reason: error.to_string(),
            })?;
        Ok(Self {
            client,
            scheme,
            credential,
        })
    }

    async fn send(self, to: Address, call: Call) -> Result<Reply, TransportError> {
        let mut request = self
            .client
            .post(format!("{}://{to}{}", self.scheme, call.path))
            .bearer_auth(self.credential.current())
            .header(header::CONTENT_TYPE, CALL_TYPE);
        if let Some(id) = call.request_id {
            request = request.header(REQUEST_ID, id);
        }
        let request = match (framed_head(&call.head), call.body) {
            (head, Body::Empty) => request.body(head),
            (head, body) => {
                let pieces = stream::once(async { Ok(head) }).chain(body.into_stream());
                request.body(reqwest::Body::wrap_stream(pieces))
            }
        };
        let limit = call.deadline;
        let deadline = TransportError::Deadline { limit };
        let response = tokio::time::timeout(limit, request.send())
            .await
            .map_err(|_| deadline)?
            .map_err(|error| from_reqwest(&to, &error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(TransportError::Unauthorized { to }),
            status => {
                return Err(TransportError::Malformed {
                    reason: format!("{to} answers {status}"),
                });
            }
        }
        let pieces = response
            .bytes_stream()
            .map_err(move |error| from_reqwest(&to, &error))
            .boxed();
        // Answers are bounded by what was asked for: no room to wait for.
        let (head, body, _) = split_head(pieces, None).await?;
        Ok(Reply { head, body })
    }
}

impl Transport for HttpTransport {
    fn call(&self, to: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        self.clone().send(to.clone(), call).boxed()
    }
}

fn from_reqwest(to: &Address, error: &reqwest::Error) -> TransportError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    if error.is_connect() {
        TransportError::Connect {
            to: to.clone(),
            reason,
        }
    } else {
        TransportError::Broken { reason }
    }
}

fn framed_head(head: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(4 + head.len());
    framed.put_u32(head.len() as u32);
    framed.put_slice(head);
    framed.freeze()
}

type Pieces = BoxStream<'static, Result<Bytes, TransportError>>;

/// Room for long heads, which calls of a kind share: four of the longest. What
/// must not wait for others has one of its own.
#[derive(Clone, Debug)]
pub struct HeadRoom(Arc<Semaphore>);

impl HeadRoom {
    const KIB: u32 = LONG_HEADS * (MAX_HEAD_BYTES >> 10) as u32;
}

impl Default for HeadRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(Self::KIB as usize)))
    }
}

impl HeadRoom {
    /// Waits for room for a long head; none is needed for others.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= SMALL_HEAD_BYTES {
            return None;
        }
        let kib = bytes.div_ceil(1 << 10) as u32;
        // Fails only when the semaphore is closed, which it never is.
        let taken = self.0.clone().acquire_many_owned(kib.min(Self::KIB));
        taken.await.ok()
    }
}

/// Takes the head off the front of a stream.
async fn split_head(
    mut pieces: Pieces,
    room: Option<&HeadRoom>,
) -> Result<(Bytes, Body, Option<OwnedSemaphorePermit>), TransportError> {
    let mut held = None;
    let mut buffer = BytesMut::new();
    let malformed = |reason: &str| TransportError::Malformed {
        reason: reason.into(),
    };
    loop {
        if buffer.len() >= 4 {
            let len = buffer.as_ref().get_u32() as usize;
            if len > MAX_HEAD_BYTES {
                return Err(malformed("its head is too long"));
            }
            if held.is_none()
                && let Some(room) = room
            {
                held = room.take(len).await;
            }
            if buffer.len() >= 4 + len {
                buffer.advance(4);
                let head = buffer.split_to(len).freeze();
                let rest = buffer.freeze();
                let body = with_deadline(
                    stream::iter((!rest.is_empty()).then_some(Ok(rest)))
                        .chain(pieces)
                        .boxed(),
                );
                return Ok((head, Body::Stream(body), held));
            }
        }
        match tokio::time::timeout(PIECE_DEADLINE, pieces.next()).await {
            Ok(Some(piece)) => buffer.extend_from_slice(&piece?),
            Ok(None) => return Err(malformed("it ends before its head does")),
            Err(_) => {
                return Err(TransportError::Deadline {
                    limit: PIECE_DEADLINE,
                });
            }
        }
    }
}

/// Ends a stream with an error when it gives nothing for [`PIECE_DEADLINE`].
fn with_deadline(pieces: Pieces) -> Pieces {
    stream::unfold(Some(pieces), |state| async {
        let mut pieces = state?;
        match tokio::time::timeout(PIECE_DEADLINE, pieces.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(pieces))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((
                Err(TransportError::Deadline {
                    limit: PIECE_DEADLINE,
                }),
                None,
            )),
        }
    })
    .boxed()
}

/// A response body of this module.
pub type ResponseBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;
/// Any error that ends a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Answers one HTTP request that is a call; the caller has checked the
/// credential. `None` when `handler` does not know the path.
pub async fn answer_call<B>(
    handler: &dyn Handler,
    path: &str,
    headers: &HeaderMap,
    body: B,
    room: &HeadRoom,
) -> Option<Response<ResponseBody>>
where
    B: http_body_util::BodyExt<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Display,
{
    let path = handler
        .paths()
        .iter()
        .copied()
        .find(|known| *known == path)?;
    let request_id = headers
        .get(REQUEST_ID)
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    let pieces = body
        .into_data_stream()
        .map_err(|error| TransportError::Broken {
            reason: error.to_string(),
        })
        .boxed();
    let (head, body, held) = match split_head(pieces, Some(room)).await {
        Ok(parts) => parts,
        Err(error) => return Some(plain(StatusCode::BAD_REQUEST, &error.to_string())),
    };
    let deadline = Duration::MAX;
    let reply = handler
        .handle(Call {
            path,
            head,
            body,
            deadline,
            request_id,
        })
        .await;
    drop(held);
    Some(response_of(reply))
}

/// An answer, as [`Transport`] reads it: also for a call that was not read.
pub fn response_of(reply: Reply) -> Response<ResponseBody> {
    let head = framed_head(&reply.head);
    let body = match reply.body {
        Body::Empty => http_body_util::Full::new(head)
            .map_err(infallible)
            .boxed_unsync(),
        body => {
            let pieces = stream::once(async { Ok(head) })
                .chain(
                    body.into_stream()
                        .map_err(|error| BoxError::from(error.to_string())),
                )
                .map_ok(http_body::Frame::data);
            StreamBody::new(pieces).boxed_unsync()
        }
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(CALL_TYPE),
    );
    response
}

fn infallible(never: Infallible) -> BoxError {
    match never {}
}

fn plain(status: StatusCode, text: &str) -> Response<ResponseBody> {
    let body = http_body_util::Full::new(Bytes::copy_from_slice(text.as_bytes()));
    let mut response = Response::new(body.map_err(infallible).boxed_unsync());
    *response.status_mut() = status;
    response
}

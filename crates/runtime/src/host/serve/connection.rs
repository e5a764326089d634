//! One connection: its handshake, and the version of HTTP that comes of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower::{Service, ServiceExt};

use super::ServeLimits;
use super::idle::Watch;
use crate::host::pace::PatientStream;
use crate::host::tls::{Acceptor, server::chose_http_2};

/// Requests at a time on one connection of HTTP/2: browsers open no more on a page.
const MAX_STREAMS: u32 = 100;
/// What a request may send ahead of being read, in bytes; each stream of a
/// connection may hold as much.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// And all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Marks a request that came over an encrypted connection.
#[derive(Clone, Copy, Debug)]
pub struct Encrypted;

/// What ends a connection early.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs connections.
pub(super) struct Connections<S> {
    service: S,
    acceptor: Option<Acceptor>,
    one: Builder<TokioExecutor>,
    two: Builder<TokioExecutor>,
    limits: ServeLimits,
}

impl<S> Connections<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    pub(super) fn new(service: S, acceptor: Option<Acceptor>, limits: ServeLimits) -> Self {
        Self {
            service,
            acceptor,
            one: http_1(&limits),
            two: http_2(&limits),
            limits,
        }
    }

    /// Serves one connection until it ends.
    pub(super) async fn run(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
    ) -> Result<(), Failure> {
        let stream = PatientStream::new(stream);
        let Some(acceptor) = &self.acceptor else {
            return self.serve_1(stream, peer, false, watcher).await;
        };
        let stream = acceptor.accept(stream).await?;
        match chose_http_2(&stream) {
            true => self.serve_2(stream, peer, watcher).await,
            false => self.serve_1(stream, peer, true, watcher).await,
        }
    }

    async fn serve_1<I>(
        &self,
        io: I,
        peer: SocketAddr,
        encrypted: bool,
        watcher: Watcher,
    ) -> Result<(), Failure>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = self.service.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            service.clone().oneshot(told(request, peer, encrypted))
        });
        let connection = self.one.serve_connection(TokioIo::new(io), service);
        watcher.watch(connection.into_owned()).await
    }

    async fn serve_2<I>(&self, io: I, peer: SocketAddr, watcher: Watcher) -> Result<(), Failure>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let watch = Watch::default();
        let (service, counted) = (self.service.clone(), watch.clone());
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let busy = counted.begin();
            let answer = service.clone().oneshot(told(request, peer, true));
            async move { answer.await.map(|response| busy.until_sent(response)) }
        });
        let connection = self.two.serve_connection(TokioIo::new(io), service);
        let connection = watcher.watch(connection.into_owned());
        tokio::select! {
            ended = connection => ended,
            // Without a word: nothing of it is under way.
            () = watch.silent_for(self.limits.head_deadline) => Ok(()),
        }
    }
}

/// A request with what the connection tells of it.
fn told(request: Request<Incoming>, peer: SocketAddr, encrypted: bool) -> Request<Body> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    if encrypted {
        request.extensions_mut().insert(Encrypted);
    }
    // HTTP/2 has the name in the address (RFC 9113, 8.3.1); who reads it looks
    // in one place.
    let authority = request.uri().authority().map(|name| name.as_str());
    let host = authority.and_then(|name| HeaderValue::from_str(name).ok());
    if let Some(host) = host
        && !request.headers().contains_key(HOST)
    {
        request.headers_mut().insert(HOST, host);
    }
    request
}

fn http_1(limits: &ServeLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_deadline)
        .max_buf_size(limits.buffer_bytes)
        .max_headers(limits.headers)
        .keep_alive(true);
    builder
}

fn http_2(limits: &ServeLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    let head = u32::try_from(limits.buffer_bytes).unwrap_or(u32::MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head_deadline)
        .keep_alive_timeout(limits.head_deadline)
        .max_header_list_size(head)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(limits.buffer_bytes);
    builder
}

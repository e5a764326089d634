//! Serving HTTP: a limit on connections, deadlines on every side, and an
//! orderly end. Gateway, storage node and the port of operations all listen
//! through this, so that none of them can be held up by silent, slow or too
//! many clients.
//!
//! Who comes past the limit of connections is told so, 503 with `Retry-After`,
//! and not left to wait in the system's queue. A head that does not come in
//! time, and a client that takes its answer too slowly ([`super::pace`]), end
//! their connection.
//!
//! With certificates ([`super::tls`]) every connection begins with a
//! handshake, in a task of its own, so that a slow one holds nobody up; what
//! is not encrypted is not answered. Who comes past the limit then is closed
//! without a word, since a handshake is the dearest part. HTTP/2 is there only
//! with certificates, for who asks for it.

mod connection;
mod gate;
mod idle;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::{Request, Response};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tower::Service;

use super::descriptors::descriptor_limit;
use super::tls::Acceptor;
use connection::Connections;
use gate::Gate;

pub use connection::Encrypted;

/// How long to wait when the system gives no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Its name, a label of metrics.
    pub name: &'static str,
    /// Connections at a time; half of the process's descriptors where that is less.
    pub connections: usize,
    /// How long a request's head may take, and a kept connection may be silent.
    pub head_deadline: Duration,
    /// What a connection buffers at most, which also bounds the head of a request.
    pub buffer_bytes: usize,
    /// Lines of a request's head.
    pub headers: usize,
    /// How long what runs may take to finish at the end.
    pub drain: Duration,
}

impl ServeLimits {
    /// How many connections it really takes: the other descriptors are for
    /// files and for calls to other processes.
    pub fn connections_at_most(&self) -> usize {
        let descriptors = descriptor_limit().map_or(usize::MAX, |limit| limit as usize);
        self.connections.min(descriptors / 2).max(1)
    }
}

/// Serves until `end` resolves, then finishes what runs.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    limits: ServeLimits,
    end: impl Future<Output = ()>,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    serve_encrypted(listener, None, service, limits, end).await;
}

/// The same, to those alone who shake hands where there is an `acceptor`.
pub async fn serve_encrypted<S>(
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    service: S,
    limits: ServeLimits,
    end: impl Future<Output = ()>,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let most = limits.connections_at_most();
    let gate = Gate::new(limits.name, most);
    let graceful = GracefulShutdown::new();
    let encrypted = acceptor.is_some();
    let connections = Arc::new(Connections::new(service, acceptor, limits));
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut end => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors: what is open goes on, and ends some time.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = gate.enter() else {
            gate.refuse(stream, encrypted);
            continue;
        };
        // Small answers must not wait for more.
        let _ = stream.set_nodelay(true);
        let (connections, watcher) = (connections.clone(), graceful.watcher());
        tokio::spawn(async move {
            if let Err(error) = connections.run(stream, peer, watcher).await {
                tracing::debug!(%peer, %error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    let drain = limits.drain;
    if tokio::time::timeout(drain, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were cut, since they did not end within {drain:?}");
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;

    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::Shutdown;

    fn limits(connections: usize) -> ServeLimits {
        ServeLimits {
            name: "test",
            connections,
            head_deadline: Duration::from_secs(1),
            buffer_bytes: 64 << 10,
            headers: 100,
            drain: Duration::from_secs(10),
        }
    }

    async fn start(
        router: Router,
        connections: usize,
        shutdown: &Shutdown,
    ) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let end = shutdown.clone();
        let server = serve(listener, router, limits(connections), async move {
            end.begun().await;
        });
        (address, tokio::spawn(server))
    }

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    #[tokio::test]
    async fn what_runs_is_finished_and_nothing_new_is_taken() {
        let shutdown = Shutdown::default();
        let begun = shutdown.clone();
        // The handler itself begins the end, so it surely runs then.
        let router = Router::new().route(
            "/",
            get(move || async move {
                begun.begin();
                tokio::task::yield_now().await;
                "done"
            }),
        );
        let (address, server) = start(router, 10, &shutdown).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(ASK).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn who_comes_past_the_limit_is_told_to_come_again() {
        let shutdown = Shutdown::default();
        let router = Router::new().route("/", get(|| async { "served" }));
        let (address, _) = start(router, 1, &shutdown).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(ASK).await.unwrap();
        let mut head = [0; 15];
        first.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");

        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(ASK).await.unwrap();
        let mut answer = String::new();
        second.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("retry-after: 1"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = format!("content-length: {}", body.len());
        assert!(head.contains(&length), "{answer}");
        serde_json::from_str::<serde_json::Value>(body).unwrap();
        shutdown.begin();
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_ends_its_connection() {
        let shutdown = Shutdown::default();
        let router = Router::new().route("/", get(|| async { "served" }));
        let (address, _) = start(router, 10, &shutdown).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        let mut answer = Vec::new();
        // Ends with the connection, whether it is told or reset.
        let _ = client.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        shutdown.begin();
    }
}

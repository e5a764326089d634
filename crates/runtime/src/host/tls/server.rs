//! The server's side: certificates by what is loaded when a client comes, and
//! handshakes that hold nobody up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificates::Pair;
use super::watched::Watched;
use super::{TlsError, provider, unusable};

/// How long a handshake may take, waiting for its turn included.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes at a time: each costs about a millisecond of a core, and a
/// silent one holds its place until its deadline.
const MAX_HANDSHAKES: usize = 1_024;

/// The name of HTTP/1.1 in a handshake (RFC 7301).
const HTTP_1: &[u8] = b"http/1.1";
/// The name of HTTP/2.
const HTTP_2: &[u8] = b"h2";

/// Which versions of HTTP are offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Versions {
    /// HTTP/1.1.
    One,
    /// HTTP/2, and HTTP/1.1 for who does not know it.
    OneAndTwo,
}

/// Makes connections encrypted.
#[derive(Clone)]
pub struct Acceptor {
    acceptor: TlsAcceptor,
    turns: Arc<Semaphore>,
}

impl Acceptor {
    /// Shows the certificate that `pair` holds at the time.
    ///
    /// # Errors
    /// When the versions of TLS are not to be had.
    pub fn new(pair: Arc<Watched<Pair>>, versions: Versions) -> Result<Self, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("TLS", error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Newest(pair)));
        config.alpn_protocols = match versions {
            Versions::One => vec![HTTP_1.into()],
            Versions::OneAndTwo => vec![HTTP_2.into(), HTTP_1.into()],
        };
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            turns: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
        })
    }

    /// Shakes hands, within [`HANDSHAKE_DEADLINE`].
    ///
    /// # Errors
    /// When the client does not, or speaks something else.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = async {
            let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
            self.acceptor.accept(stream).await
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the handshake takes too long");
        tokio::time::timeout(HANDSHAKE_DEADLINE, handshake)
            .await
            .unwrap_or_else(|_| Err(late()))
    }
}

/// Whether the handshake has ended in HTTP/2.
pub fn chose_http_2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP_2)
}

#[derive(Debug)]
struct Newest(Arc<Watched<Pair>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.now().key())
    }
}

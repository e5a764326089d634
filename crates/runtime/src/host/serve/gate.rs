//! The limit on connections, and what is said past it.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections that are told at once that there are too many; what comes
/// beyond is closed without a word.
const MAX_REFUSALS: usize = 256;
/// How long one of them may take to read it.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);
/// What of its request is read meanwhile, in bytes: a connection that is closed
/// with bytes unread is reset, and the answer with it.
const REFUSAL_READ_BYTES: usize = 16 << 10;
/// The answer past the limit of connections.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\n\
content-length: 116\r\n\r\n\
{\"type\":\"about:blank\",\"title\":\"Busy\",\"status\":503,\"detail\":\"too many connections\",\
\"code\":\"busy\",\"request_id\":\"none\"}";

/// Counts connections.
pub(super) struct Gate {
    name: &'static str,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

/// A connection's place.
pub(super) struct Place {
    name: &'static str,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::gauge!("holdfast_connections", "server" => self.name).decrement(1.0);
    }
}

impl Gate {
    pub(super) fn new(name: &'static str, most: usize) -> Self {
        metrics::gauge!("holdfast_limit", "of" => format!("{name}_connections")).set(most as f64);
        Self {
            name,
            places: Arc::new(Semaphore::new(most)),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        }
    }

    pub(super) fn enter(&self) -> Option<Place> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        metrics::gauge!("holdfast_connections", "server" => self.name).increment(1.0);
        Some(Place {
            name: self.name,
            _permit: permit,
        })
    }

    pub(super) fn refuse(&self, stream: TcpStream, encrypted: bool) {
        let limit = format!("{}_connections", self.name);
        metrics::counter!("holdfast_refused_total", "limit" => limit).increment(1);
        if encrypted {
            return;
        }
        let Ok(permit) = self.refusals.clone().try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            // Whoever does not read it in time does not get it.
            let _ = tokio::time::timeout(REFUSAL_DEADLINE, tell(stream)).await;
            drop(permit);
        });
    }
}

async fn tell(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(REFUSAL).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(REFUSAL_READ_BYTES as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

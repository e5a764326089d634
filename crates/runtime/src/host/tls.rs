//! Encryption between processes, and towards clients: certificates and
//! authorities from files, taken again when the files change.
//!
//! - [`certificates`]: what PEM files hold, checked. [`watched`]: values made of
//!   files. [`server`]: handshakes. [`client`]: whom a client believes.
//! - [`security`]: all of it together, as one process has it.
//!
//! Promises: what cannot be used is never taken, and what was in use stays so;
//! an open connection keeps what it began with, and a new one gets what is
//! loaded by then, since no session is resumed. All cryptography is rustls on
//! ring.

pub mod certificates;
pub mod client;
pub mod security;
pub mod server;
pub mod watched;

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

pub use certificates::{Authorities, Pair};
pub use client::{Trust, http_client};
pub use security::{Places, Security};
pub use server::Acceptor;
pub use watched::Watched;

/// Why certificates cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// They are not what they should be.
    #[error("{what}: {reason}")]
    Unusable {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// No HTTP client can be made.
    #[error("the HTTP client: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
}

fn unusable(what: &'static str, reason: impl ToString) -> TlsError {
    let reason = reason.to_string();
    TlsError::Unusable { what, reason }
}

/// The one implementation of cryptography, whatever else is linked in.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
        .clone()
}

#[cfg(test)]
mod tests;

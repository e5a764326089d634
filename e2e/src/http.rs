//! Clients for HTTP, and whom they believe.

use anyhow::Result;
use holdfast_runtime::host::tls::{Trust, http_client};
use reqwest::ClientBuilder;

/// A client of what is not encrypted.
pub fn client() -> Result<ClientBuilder> {
    client_of(&Trust::System(None))
}

/// A client that believes `trust`.
pub fn client_of(trust: &Trust) -> Result<ClientBuilder> {
    Ok(http_client(trust)?)
}

//! The HTTP API as the cases use it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use holdfast_runtime::host::tls::Trust;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::http::{client, client_of};

/// Longer than any single request here may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One gateway, and the admin key.
#[derive(Clone)]
pub struct Gateway {
    client: Client,
    url: String,
    key: String,
}

impl Gateway {
    /// The gateway at `url`.
    pub fn new(url: String, key: String) -> Result<Self> {
        Self::with_limit(url, key, LIMIT)
    }

    /// The same, for requests that take at most `limit`.
    pub fn with_limit(url: String, key: String, limit: Duration) -> Result<Self> {
        Self::made(client()?.timeout(limit).build()?, url, key)
    }

    /// The same, behind a certificate that `trust` believes.
    pub fn trusting(url: String, key: String, trust: &Trust) -> Result<Self> {
        Self::made(client_of(trust)?.timeout(LIMIT).build()?, url, key)
    }

    /// The gateway at `address`, which shows a certificate for `host` that `trust`
    /// believes.
    pub fn named(
        host: &str,
        address: SocketAddr,
        key: String,
        trust: &Trust,
        limit: Duration,
    ) -> Result<Self> {
        let client = client_of(trust)?.resolve(host, address).timeout(limit);
        let url = format!("https://{host}:{}", address.port());
        Self::made(client.build()?, url, key)
    }

    fn made(client: Client, url: String, key: String) -> Result<Self> {
        Ok(Self { client, url, key })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A request with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.key)
    }

    /// A request without it.
    pub fn open(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Uploads bytes that may be downloaded `limit` times (0: any number); the file's id.
    pub async fn upload(&self, name: &str, bytes: Vec<u8>, limit: u32) -> Result<String> {
        let response = self
            .request(Method::PUT, &format!("/api/upload/{name}"))
            .query(&[("download_limit", limit)])
            .body(bytes)
            .send()
            .await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status == StatusCode::CREATED, "upload: {status}: {text}");
        let file: Value = serde_json::from_str(&text)?;
        file.get("file_id")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .with_context(|| format!("no file_id in {text}"))
    }

    /// Downloads without a key, as whoever has the id.
    pub async fn download(&self, id: &str) -> Result<Response> {
        Ok(self
            .open(Method::GET, &format!("/api/download/{id}"))
            .send()
            .await?)
    }

    /// Downloads and compares.
    pub async fn expect(&self, id: &str, bytes: &[u8]) -> Result<()> {
        let response = self.download(id).await?;
        let status = response.status();
        if status != StatusCode::OK {
            bail!("download of {id}: {status}: {}", response.text().await?);
        }
        let came = response.bytes().await?;
        ensure!(
            came.len() == bytes.len(),
            "{} of {} bytes of {id}",
            came.len(),
            bytes.len()
        );
        ensure!(came == bytes, "{id} came back with other bytes");
        Ok(())
    }

    /// Reads JSON.
    pub async fn json(&self, path: &str) -> Result<Value> {
        let response = self.request(Method::GET, path).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// The thumbnail's bytes, once it is made.
    pub async fn thumbnail(&self, id: &str) -> Result<Vec<u8>> {
        let path = format!("/api/files/{id}/thumbnail");
        let response = self.request(Method::GET, &path).send().await?;
        let status = response.status();
        ensure!(status == StatusCode::OK, "{path}: {status}");
        Ok(response.bytes().await?.to_vec())
    }
}

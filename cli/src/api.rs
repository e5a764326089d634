//! The gateway's HTTP API, as the command uses it.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::Value;

use crate::access::Access;
use crate::failure::Failure;

/// A dead machine is silent.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Between two pieces of a body; a repair on the way takes seconds.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// A gateway, and the key it is spoken to with.
pub struct Api {
    client: reqwest::Client,
    url: String,
    key: Result<String, Failure>,
}

/// A problem document (RFC 9457).
#[derive(Deserialize, Default)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: Option<String>,
}

impl Api {
    /// The gateway that `access` names.
    pub fn new(access: &Access) -> Result<Self, Failure> {
        let url = access.url.trim_end_matches('/').to_owned();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Failure::Usage(format!(
                "{url} is no address of a gateway: write http://host:port or https://host:port"
            )));
        }
        let client = access
            .client()?
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(READ_LIMIT)
            .build()
            .map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Self {
            client,
            url,
            key: access.key(),
        })
    }

    /// A request without a credential.
    pub fn open(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A request that shows the key.
    pub fn keyed(&self, method: Method, path: &str) -> Result<RequestBuilder, Failure> {
        match &self.key {
            Ok(key) => Ok(self.open(method, path).bearer_auth(key)),
            Err(Failure::NoKey { tried }) => Err(Failure::NoKey {
                tried: tried.clone(),
            }),
            Err(other) => Err(Failure::Usage(other.to_string())),
        }
    }

    /// Sends it; a problem document becomes a failure.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unsent(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
        let detail = match problem.detail {
            Some(detail) => detail,
            None if !problem.title.is_empty() => problem.title,
            None => format!("{} answers {status}", self.url),
        };
        Err(Failure::Refused {
            status: status.as_u16(),
            code: problem.code,
            detail,
        })
    }

    /// Sends it and reads the JSON that comes back.
    pub async fn json(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let text = self
            .send(request)
            .await?
            .text()
            .await
            .map_err(|error| self.unsent(&error))?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| Failure::Malformed {
            url: self.url.clone(),
            reason: error.to_string(),
        })
    }

    fn unsent(&self, error: &reqwest::Error) -> Failure {
        let reason = innermost(error);
        if error.is_connect() || error.is_timeout() {
            Failure::Unreachable {
                url: self.url.clone(),
                reason,
            }
        } else {
            Failure::Broken(reason)
        }
    }
}

/// What the system says at the bottom of an error.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    reason
}

/// A name as one component of a path (RFC 3986: all but unreserved characters escaped).
pub fn path_component(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_component_of_a_path() {
        assert_eq!(path_component("a/b ü?.txt"), "a%2Fb%20%C3%BC%3F.txt");
    }
}

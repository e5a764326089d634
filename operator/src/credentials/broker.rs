//! The users of RabbitMQ, by its management API.

use std::time::Duration;

use holdfast_plan::names;
use holdfast_runtime::host::tls::{Trust, http_client};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::Login;
use crate::certificates::settle::trusting;
use crate::observe::Observed;

/// Why the brokers did not do something: they are asked again.
#[derive(Debug, thiserror::Error)]
#[error("RabbitMQ: {0}")]
pub struct BrokerError(String);

/// How long each request may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The brokers of a cluster, which have their users in common.
pub struct Broker {
    client: reqwest::Client,
    base: String,
}

/// Of `GET /api/connections`.
#[derive(Deserialize)]
struct Connection {
    #[serde(default)]
    user: Option<String>,
}

impl Broker {
    /// Where they are called.
    ///
    /// # Errors
    /// When there is nothing to trust yet.
    pub fn of(observed: &Observed) -> Result<Self, BrokerError> {
        let failed = BrokerError;
        let encrypted = observed.encrypts();
        let trust = match encrypted {
            true => trusting(&observed.certificates.authorities())
                .ok_or_else(|| failed("there is no authority to trust yet".into()))?,
            false => Trust::System(None),
        };
        let client = http_client(&trust).map_err(|error| failed(error.to_string()))?;
        let client = client.timeout(DEADLINE).build();
        Ok(Self {
            client: client.map_err(|error| failed(error.to_string()))?,
            base: format!(
                "{}://{}/api",
                if encrypted { "https" } else { "http" },
                names::rabbitmq_management_address(&observed.name, &observed.namespace, encrypted),
            ),
        })
    }

    fn request(&self, method: Method, path: &str, by: &Login) -> RequestBuilder {
        self.client
            .request(method, format!("{}/{path}", self.base))
            .basic_auth(by.user.trim(), Some(by.password.trim()))
    }

    /// Makes a user that may do what ours may, or gives it this password.
    ///
    /// # Errors
    /// What the broker said.
    pub async fn admit(&self, by: &Login, new: &Login) -> Result<(), BrokerError> {
        let user = format!("users/{}", new.user);
        let body = json!({"password": new.password.trim(), "tags": "administrator"});
        succeeded(&user, self.request(Method::PUT, &user, by).json(&body)).await?;
        // The virtual host is called `/`.
        let rights = format!("permissions/%2F/{}", new.user);
        let body = json!({"configure": ".*", "write": ".*", "read": ".*"});
        succeeded(&rights, self.request(Method::PUT, &rights, by).json(&body)).await?;
        Ok(())
    }

    /// Whether it takes a login.
    pub async fn takes(&self, login: &Login) -> bool {
        let request = self.request(Method::GET, "whoami", login);
        succeeded("whoami", request).await.is_ok()
    }

    /// How many connections a user has, as far as the broker has counted them;
    /// `None` where it does not say.
    pub async fn connected(&self, by: &Login, user: &str) -> Option<usize> {
        let path = "connections?columns=user";
        let answer = succeeded(path, self.request(Method::GET, path, by)).await;
        let all: Vec<Connection> = answer.ok()?.json().await.ok()?;
        let of_user = |one: &&Connection| one.user.as_deref() == Some(user);
        Some(all.iter().filter(of_user).count())
    }

    /// Takes a user away; one that is not there is gone.
    ///
    /// # Errors
    /// What the broker said.
    pub async fn dismiss(&self, by: &Login, user: &str) -> Result<(), BrokerError> {
        let path = format!("users/{user}");
        let answer = sent(&path, self.request(Method::DELETE, &path, by)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            status => Err(refused(&path, status)),
        }
    }
}

async fn sent(what: &str, request: RequestBuilder) -> Result<Response, BrokerError> {
    let failed = |error: reqwest::Error| {
        let why = error.without_url();
        BrokerError(format!("{what}: {why}"))
    };
    request.send().await.map_err(failed)
}

async fn succeeded(what: &str, request: RequestBuilder) -> Result<Response, BrokerError> {
    let answer = sent(what, request).await?;
    match answer.status() {
        status if status.is_success() => Ok(answer),
        status => Err(refused(what, status)),
    }
}

fn refused(what: &str, status: StatusCode) -> BrokerError {
    BrokerError(format!("{what} is answered with {status}"))
}

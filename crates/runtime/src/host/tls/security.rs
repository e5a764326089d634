//! What a process shows to others and accepts from them: its certificates, the
//! authorities that it believes, the cluster's credential, and its logins to
//! RabbitMQ and Redis; each followed while it runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::TlsError;
use super::certificates::{Authorities, Pair};
use super::client::Trust;
use super::server::{Acceptor, Versions};
use super::watched::{Contents, Source, Watched};
use crate::credential::Credential;
use crate::host::http::HttpTransport;
use crate::server_url::ServerUrl;
use crate::settings::SettingsError;

/// How often files are looked at: twice that, and what is new is in use
/// within the 10 s that are promised.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// Where a process finds its certificates.
#[derive(Clone, Copy, Default, Debug)]
pub struct Places<'a> {
    /// `HOLDFAST_TLS_DIR`.
    pub tls_dir: Option<&'a Path>,
    /// `HOLDFAST_PUBLIC_TLS_DIR`.
    pub public_tls_dir: Option<&'a Path>,
    /// Whether other processes of the cluster call this one, which then needs
    /// a certificate of its own.
    pub is_called: bool,
}

/// All of it. Copies are the same.
#[derive(Clone, Debug)]
pub struct Security {
    /// The cluster's credential.
    pub credential: Credential,
    internal: Option<Arc<Watched<Pair>>>,
    public: Option<Arc<Watched<Pair>>>,
    authorities: Option<Arc<Watched<Authorities>>>,
    /// The servers of others, by what they are.
    servers: Vec<(&'static str, ServerUrl)>,
}

impl Security {
    /// Without encryption, and with a credential that does not change.
    pub fn plain(credential: &str) -> Self {
        Self {
            credential: Credential::fixed(credential),
            internal: None,
            public: None,
            authorities: None,
            servers: Vec::new(),
        }
    }

    /// Reads it all.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn open(credential: Credential, places: Places<'_>) -> Result<Self, SettingsError> {
        let refuse = |setting: &str, dir: &Path, error: String| {
            SettingsError(format!("{setting} {}: {error}", dir.display()))
        };
        let mut security = Self {
            credential,
            internal: None,
            public: None,
            authorities: None,
            servers: Vec::new(),
        };
        if let Some(dir) = places.tls_dir {
            let refuse = |error| refuse("HOLDFAST_TLS_DIR", dir, error);
            security.authorities = Some(authorities(dir).map_err(refuse)?);
            if places.is_called || dir.join("tls.crt").exists() {
                security.internal = Some(pair("internal", dir).map_err(refuse)?);
            }
        }
        if let Some(dir) = places.public_tls_dir {
            let refuse = |error| refuse("HOLDFAST_PUBLIC_TLS_DIR", dir, error);
            security.public = Some(pair("public", dir).map_err(refuse)?);
        }
        security.show();
        Ok(security)
    }

    /// The same, with the login to a server of others (`rabbitmq`, `redis`), which
    /// is followed as well.
    pub fn with_server(mut self, what: &'static str, url: &ServerUrl) -> Self {
        self.servers.push((what, url.clone()));
        self
    }

    /// Follows the files until the process ends.
    pub fn follow(&self) {
        let followed = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                let looking = followed.clone();
                // It fails only when the runtime ends.
                if tokio::task::spawn_blocking(move || looking.look())
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
    }

    /// Looks once whether something has changed. Blocks on the disk.
    pub fn look(&self) {
        self.credential.look();
        self.servers.iter().for_each(|(_, url)| url.look());
        self.internal.iter().for_each(|pair| pair.look());
        self.public.iter().for_each(|pair| pair.look());
        self.authorities.iter().for_each(|all| all.look());
        self.show();
    }

    fn show(&self) {
        let gauge = |of: &'static str, not_after: i64| {
            metrics::gauge!("holdfast_tls_certificate_not_after_seconds", "use" => of)
                .set(not_after as f64);
        };
        if let Some(pair) = &self.internal {
            gauge("internal", pair.now().not_after());
        }
        if let Some(pair) = &self.public {
            gauge("public", pair.now().not_after());
        }
        if let Some(authorities) = &self.authorities {
            gauge("authority", authorities.now().not_after());
        }
    }

    /// What is loaded, by fingerprints.
    pub fn loaded(&self) -> serde_json::Value {
        let leaf = |pair: &Option<Arc<Watched<Pair>>>| {
            pair.as_ref()
                .map(|pair| pair.now().fingerprint().to_owned())
        };
        let authorities = self.authorities.as_ref();
        let mut credentials = json!({ "cluster": self.credential.fingerprints() });
        for (what, url) in &self.servers {
            if let (Some(all), Some(shown)) = (credentials.as_object_mut(), url.fingerprint()) {
                all.insert((*what).to_owned(), shown.into());
            }
        }
        json!({
            "tls": {
                "internal": leaf(&self.internal),
                "public": leaf(&self.public),
                "authorities": authorities
                    .map(|all| all.now().fingerprints().to_vec())
                    .unwrap_or_default(),
            },
            "credentials": credentials,
        })
    }

    /// Calls storage nodes, encrypted where there are authorities to believe.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn transport(&self) -> Result<HttpTransport, TlsError> {
        let trust = self.authorities.clone().map(Trust::Only);
        HttpTransport::with(self.credential.clone(), trust)
    }

    /// Whom callers of storage nodes believe.
    #[cfg(test)]
    pub(super) fn authorities(&self) -> Arc<Watched<Authorities>> {
        self.authorities.clone().unwrap()
    }

    /// Whom clients of RabbitMQ and Redis believe.
    pub fn carriers(&self) -> Trust {
        Trust::System(self.authorities.clone())
    }

    /// How the cluster's own processes are answered: encrypted, or not at all.
    ///
    /// # Errors
    /// As [`Acceptor::new`].
    pub fn internal(&self) -> Result<Option<Acceptor>, TlsError> {
        let pair = self.internal.clone();
        pair.map(|pair| Acceptor::new(pair, Versions::One))
            .transpose()
    }

    /// How clients are answered.
    ///
    /// # Errors
    /// As [`Acceptor::new`].
    pub fn public(&self) -> Result<Option<Acceptor>, TlsError> {
        let pair = self.public.clone();
        pair.map(|pair| Acceptor::new(pair, Versions::OneAndTwo))
            .transpose()
    }
}

impl Trust {
    /// Believes the system's authorities, and those of `ca.crt` in a directory
    /// that is given: for a command that ends soon.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn system_and(tls_dir: Option<&Path>) -> Result<Self, SettingsError> {
        let own = tls_dir.map(|dir| {
            let told =
                |error| SettingsError(format!("HOLDFAST_TLS_DIR {}: {error}", dir.display()));
            authorities(dir).map_err(told)
        });
        Ok(Self::System(own.transpose()?))
    }
}

fn pair(what: &'static str, dir: &Path) -> Result<Arc<Watched<Pair>>, String> {
    let file = |name: &str| Source::File(dir.join(name));
    let make = |contents: &Contents| match contents.as_slice() {
        [Some(chain), Some(key)] => Pair::from_pem(chain, key).map_err(|error| error.to_string()),
        _ => Err("a file is missing".to_owned()),
    };
    let sources = vec![file("tls.crt"), file("tls.key")];
    Watched::open(what, sources, make).map(Arc::new)
}

fn authorities(dir: &Path) -> Result<Arc<Watched<Authorities>>, String> {
    let make = |contents: &Contents| match contents.as_slice() {
        [Some(pem)] => Authorities::from_pem(pem).map_err(|error| error.to_string()),
        _ => Err("a file is missing".to_owned()),
    };
    let sources = vec![Source::File(dir.join("ca.crt"))];
    Watched::open("authority", sources, make).map(Arc::new)
}

//! Which gateway, and with which key.

use std::path::{Path, PathBuf};

use holdfast_runtime::host::tls::{Trust, http_client};
use holdfast_runtime::secrets::Secrets;

use crate::failure::Failure;
use crate::show::{Output, say};

/// Names the directory of a cluster's shared secrets.
const SECRETS_VARIABLE: &str = "HOLDFAST_SECRETS_DIR";
/// Where the data directory of `holdfast dev` keeps its secrets.
pub const SECRETS_OF_DATA: &str = "secrets";

/// What the arguments say of it.
pub struct Access {
    /// The gateway.
    pub url: String,
    /// The key, if one was given.
    pub key: Option<String>,
    /// The data directory of `holdfast dev`.
    pub data: PathBuf,
    /// Where the authorities are that are believed beside the system's.
    pub tls_dir: Option<PathBuf>,
}

impl Access {
    /// A client for HTTP that believes whom it should.
    pub fn client(&self) -> Result<reqwest::ClientBuilder, Failure> {
        let trust = Trust::system_and(self.tls_dir.as_deref());
        let trust = trust.map_err(|error| Failure::Usage(error.0))?;
        http_client(&trust).map_err(|error| Failure::Usage(error.to_string()))
    }

    /// The key: the given one, or the cluster's own where its secrets can be read.
    pub fn key(&self) -> Result<String, Failure> {
        if let Some(key) = self.key.as_ref().filter(|key| !key.is_empty()) {
            return Ok(key.clone());
        }
        self.made_key()
    }

    /// The admin key that the cluster made for itself.
    fn made_key(&self) -> Result<String, Failure> {
        let shared = std::env::var_os(SECRETS_VARIABLE).map(PathBuf::from);
        let places: Vec<PathBuf> = shared
            .into_iter()
            .chain([self.data.join(SECRETS_OF_DATA)])
            .collect();
        for place in &places {
            if let Some(secrets) = read(place)? {
                return Ok(secrets.admin_token);
            }
        }
        Err(Failure::NoKey {
            tried: places
                .iter()
                .map(|place| place.display().to_string())
                .collect(),
        })
    }

    /// Prints the admin key.
    pub fn print_key(&self, output: Output) -> Result<(), Failure> {
        let key = self.made_key()?;
        if output.json {
            output.value(&serde_json::json!({ "key": key }));
        } else {
            say!("{key}");
        }
        Ok(())
    }
}

fn read(place: &Path) -> Result<Option<Secrets>, Failure> {
    Secrets::read(place).map_err(Failure::file(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(data: &Path, key: Option<&str>) -> Access {
        Access {
            url: "http://127.0.0.1:5000".into(),
            key: key.map(str::to_owned),
            data: data.to_owned(),
            tls_dir: None,
        }
    }

    #[test]
    fn the_key_given_comes_before_the_key_found() {
        let data = tempfile::tempdir().unwrap();
        let none = access(data.path(), None).key().unwrap_err();
        assert_eq!(none.exit_code(), 4);
        let made = Secrets::ensure(&data.path().join(SECRETS_OF_DATA), None).unwrap();
        assert_eq!(access(data.path(), None).key().unwrap(), made.admin_token);
        assert_eq!(
            access(data.path(), Some("")).key().unwrap(),
            made.admin_token
        );
        assert_eq!(access(data.path(), Some("mine")).key().unwrap(), "mine");
    }
}

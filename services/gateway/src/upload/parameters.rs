//! What an uploader may wish for a file: expiry, download limit, password.

use std::time::Duration;

use axum::extract::Query;
use axum::http::{HeaderMap, Uri};
use holdfast_model::DownloadLimit;
use holdfast_model::duration::parse_duration;

use super::PASSWORD_HEADER;
use crate::error::ApiError;
use crate::password::MAX_PASSWORD_BYTES;
use crate::settings::{DEFAULT_DOWNLOAD_LIMIT, GatewaySettings};

/// The highest download limit.
const MAX_DOWNLOAD_LIMIT: u32 = 1_000_000;

/// Wishes as they were written.
#[derive(Clone, Default, Debug)]
pub struct Wishes {
    expires_in: Option<String>,
    download_limit: Option<String>,
    password: Option<String>,
}

/// Wishes as they were understood.
#[derive(Clone, PartialEq, Debug)]
pub struct Parameters {
    /// How long the file lives.
    pub lifetime: Option<Duration>,
    /// How often it may be downloaded.
    pub downloads: Option<DownloadLimit>,
    /// Its password.
    pub password: Option<String>,
}

impl Wishes {
    /// Takes a field of the form.
    pub fn set(&mut self, name: &str, text: String) -> Result<(), ApiError> {
        let (slot, name) = match name {
            "expires_in" => (&mut self.expires_in, "expires_in"),
            "download_limit" => (&mut self.download_limit, "download_limit"),
            "password" => (&mut self.password, "password"),
            other => {
                let shown: String = other.chars().take(40).collect();
                return Err(ApiError::BadParameter(format!(
                    "{shown:?} is not known: use expires_in, download_limit, password and file"
                )));
            }
        };
        if slot.replace(text).is_some() {
            return Err(ApiError::PartRepeated(name));
        }
        Ok(())
    }

    /// Wishes for a raw body: in the query, the password in its header.
    pub fn from_query(query: Option<&str>, headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut wishes = Self::default();
        for (name, value) in query_pairs(query)? {
            if name == "password" {
                return Err(ApiError::PasswordInUrl);
            }
            wishes.set(&name, value)?;
        }
        wishes.password = password_header(headers)?;
        Ok(wishes)
    }

    /// Understands them.
    pub fn resolve(&self, settings: &GatewaySettings) -> Result<Parameters, ApiError> {
        // An empty field is what a form sends for one that was left alone.
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let lifetime = match given(&self.expires_in) {
            Some(text) => Some(parse_duration(&text, settings.max_expiry)?),
            None => settings.default_expiry,
        };
        let limit = match given(&self.download_limit) {
            Some(text) => text
                .parse::<u32>()
                .ok()
                .filter(|limit| *limit <= MAX_DOWNLOAD_LIMIT && !text.starts_with('+'))
                .ok_or_else(|| {
                    ApiError::BadParameter(format!(
                        "download_limit is a whole number from 0 (no limit) to {MAX_DOWNLOAD_LIMIT}"
                    ))
                })?,
            None => DEFAULT_DOWNLOAD_LIMIT,
        };
        let password = given(&self.password);
        if password
            .as_ref()
            .is_some_and(|p| p.len() > MAX_PASSWORD_BYTES)
        {
            return Err(ApiError::BadParameter(format!(
                "a password has at most {MAX_PASSWORD_BYTES} bytes"
            )));
        }
        Ok(Parameters {
            lifetime,
            downloads: (limit > 0).then_some(DownloadLimit { limit, left: limit }),
            password,
        })
    }
}

/// The password that a request shows.
pub fn password_header(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(PASSWORD_HEADER) else {
        return Ok(None);
    };
    // Not `to_str`: a password may hold letters beyond ASCII.
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| ApiError::BadParameter("Holdfast-Password is no UTF-8".into()))?;
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

fn query_pairs(query: Option<&str>) -> Result<Vec<(String, String)>, ApiError> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(Vec::new());
    };
    let bad = || ApiError::BadParameter("the query cannot be read".into());
    let uri: Uri = format!("/?{query}").parse().map_err(|_| bad())?;
    Query::<Vec<(String, String)>>::try_from_uri(&uri)
        .map(|Query(pairs)| pairs)
        .map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use holdfast_runtime::host::tls::Security;

    use super::*;

    fn settings() -> GatewaySettings {
        GatewaySettings::new(
            ([127, 0, 0, 1], 0).into(),
            Security::plain("0123456789abcdef"),
        )
    }

    fn from_query(query: &str) -> Result<Parameters, &'static str> {
        Wishes::from_query(Some(query), &HeaderMap::new())
            .and_then(|wishes| wishes.resolve(&settings()))
            .map_err(|error| error.row().code)
    }

    #[test]
    fn three_downloads_unless_the_uploader_says_otherwise() {
        let limit = |query: &str| from_query(query).unwrap().downloads.map(|d| d.limit);
        assert_eq!(limit(""), Some(3));
        assert_eq!(limit("download_limit=0"), None);
        assert_eq!(limit("download_limit=7"), Some(7));
        for bad in ["-1", "x", "1.5", "99999999999", "%2B3"] {
            assert_eq!(
                from_query(&format!("download_limit={bad}")),
                Err("bad_parameter")
            );
        }
    }

    #[test]
    fn an_expiry_is_a_duration_below_the_maximum() {
        let lifetime = from_query("expires_in=90s").unwrap().lifetime;
        assert_eq!(lifetime, Some(Duration::from_secs(90)));
        for bad in ["10y", "banana", "0s", "99999d"] {
            assert_eq!(
                from_query(&format!("expires_in={bad}")),
                Err("bad_duration")
            );
        }
    }

    #[test]
    fn a_password_never_goes_into_the_url() {
        assert_eq!(from_query("password=x"), Err("password_in_url"));
        assert_eq!(from_query("expires=1d"), Err("bad_parameter"));
        assert_eq!(
            from_query("expires_in=1d&expires_in=2d"),
            Err("part_repeated")
        );
    }
}

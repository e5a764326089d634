//! A file as the API shows it.

use holdfast_model::{DerivedKind, ObjectRecord, Timestamp};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A file.
#[derive(Clone, Serialize, Debug)]
pub struct FileView {
    /// Its id.
    pub file_id: String,
    /// The name it was uploaded under.
    pub filename: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Its media type.
    pub mime_type: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// When it was stored.
    pub created_at: String,
    /// When it expires; null for never.
    pub expires_at: Option<String>,
    /// How often it may be downloaded; null for without limit.
    pub download_limit: Option<u32>,
    /// How often still.
    pub downloads_left: Option<u32>,
    /// Whether downloading needs a password.
    pub password_protected: bool,
    /// Whether its thumbnail is there.
    pub has_thumbnail: bool,
    /// Where programs download it; each GET counts.
    pub download_url: String,
    /// Who holds it may delete the file. Told once, to the uploader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_token: Option<String>,
}

impl FileView {
    /// Shows a record; `base` is where clients reach the API.
    pub fn new(record: &ObjectRecord, base: &str) -> Self {
        let filename = record.content.filename.as_ref();
        let thumbnail = |kind| kind == DerivedKind::Thumbnail;
        Self {
            file_id: record.key.to_string(),
            filename: filename.map(|name| name.to_string()),
            size: record.content.size,
            mime_type: record.content.mime.clone(),
            sha256: hex::encode(record.content.sha256),
            created_at: rfc3339(record.created),
            expires_at: record.expires.map(rfc3339),
            download_limit: record.downloads.map(|downloads| downloads.limit),
            downloads_left: record.downloads.map(|downloads| downloads.left),
            password_protected: record.password.is_some(),
            has_thumbnail: record.derived.iter().any(|derived| thumbnail(derived.kind)),
            download_url: format!("{base}/api/download/{}", record.key),
            delete_token: None,
        }
    }

    /// Adds the token, for the uploader.
    pub fn with_delete_token(mut self, token: String) -> Self {
        self.delete_token = Some(token);
        self
    }
}

/// A time as RFC 3339 writes it, in UTC with milliseconds.
pub fn rfc3339(time: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.0) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        // Beyond the year 9999 there is no such text.
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(
            rfc3339(Timestamp(784_111_777_123)),
            "1994-11-06T08:49:37.123Z"
        );
        assert_eq!(rfc3339(Timestamp(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}

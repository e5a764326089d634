//! Conditional requests (RFC 9110, section 13), decided before anything is
//! reserved.

use axum::http::{HeaderMap, HeaderName, header};
use holdfast_model::{ObjectRecord, Timestamp};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// What conditions compare with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Validators {
    /// The entity tag, with its quotes. It is strong.
    pub etag: String,
    /// When the file was made, in whole seconds.
    pub modified: i64,
}

impl Validators {
    /// Those of an object.
    pub fn of(record: &ObjectRecord) -> Self {
        Self {
            etag: format!("\"{}\"", record.content.etag),
            modified: (record.created.0 / 1_000) as i64,
        }
    }
}

/// What the conditions say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Serve it.
    Proceed,
    /// The client has it already.
    NotModified,
    /// The client wants another one.
    Failed,
}

/// Decides in the order of RFC 9110, section 13.2.2.
pub fn evaluate(headers: &HeaderMap, validators: &Validators) -> Verdict {
    if headers.contains_key(header::IF_MATCH) {
        if !lists(headers, header::IF_MATCH, &validators.etag, false) {
            return Verdict::Failed;
        }
    } else if let Some(since) = date(headers, header::IF_UNMODIFIED_SINCE)
        && validators.modified > since
    {
        return Verdict::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if lists(headers, header::IF_NONE_MATCH, &validators.etag, true) {
            return Verdict::NotModified;
        }
    } else if let Some(since) = date(headers, header::IF_MODIFIED_SINCE)
        && validators.modified <= since
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether `If-Range` lets the range count.
pub fn range_applies(headers: &HeaderMap, validators: &Validators) -> bool {
    let Some(condition) = headers.get(header::IF_RANGE) else {
        return true;
    };
    if condition.as_bytes().starts_with(b"\"") {
        return condition.as_bytes() == validators.etag.as_bytes();
    }
    // A date has to be the very one that was given out.
    date(headers, header::IF_RANGE) == Some(validators.modified)
}

/// Whether a header lists the tag, or is `*`.
fn lists(headers: &HeaderMap, name: HeaderName, etag: &str, weak_too: bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        // Our tags hold no comma, so splitting at one cannot make a match.
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| match tag.strip_prefix("W/") {
            Some(weak) => weak_too && weak == etag,
            None => tag == "*" || tag == etag,
        })
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<i64> {
    let text = headers.get(name)?.to_str().ok()?;
    OffsetDateTime::parse(text, &Rfc2822)
        .ok()
        .map(OffsetDateTime::unix_timestamp)
}

/// A time as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(time: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp((time.0 / 1_000) as i64)
        .ok()
        .and_then(|time| time.format(&Rfc2822).ok())
        .map(|text| text.replace("+0000", "GMT"))
        .unwrap_or_else(|| "Thu, 01 Jan 1970 00:00:00 GMT".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: Timestamp = Timestamp(784_111_777_123);

    fn ask(pairs: &[(&'static str, &str)]) -> (Verdict, bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let validators = Validators {
            etag: "\"abc\"".into(),
            modified: 784_111_777,
        };
        (
            evaluate(&headers, &validators),
            range_applies(&headers, &validators),
        )
    }

    #[test]
    fn dates_are_written_and_read_as_http_has_them() {
        assert_eq!(http_date(MADE), "Sun, 06 Nov 1994 08:49:37 GMT");
        let same = ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(ask(&[same]).0, Verdict::NotModified);
        let before = ("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT");
        assert_eq!(ask(&[before]).0, Verdict::Proceed);
        assert_eq!(
            ask(&[("if-modified-since", "yesterday")]).0,
            Verdict::Proceed
        );
        assert_eq!(
            ask(&[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT")]).0,
            Verdict::Failed
        );
    }

    #[test]
    fn tags_are_compared_as_the_header_asks() {
        assert_eq!(
            ask(&[("if-none-match", "\"x\", W/\"abc\"")]).0,
            Verdict::NotModified
        );
        assert_eq!(ask(&[("if-none-match", "*")]).0, Verdict::NotModified);
        assert_eq!(ask(&[("if-none-match", "\"x\"")]).0, Verdict::Proceed);
        assert_eq!(ask(&[("if-match", "\"abc\"")]).0, Verdict::Proceed);
        assert_eq!(ask(&[("if-match", "W/\"abc\"")]).0, Verdict::Failed);
        assert_eq!(ask(&[("if-match", "\"x\"")]).0, Verdict::Failed);
        // A tag outweighs a date.
        assert_eq!(
            ask(&[
                ("if-none-match", "\"x\""),
                ("if-modified-since", "Sun, 06 Nov 2050 08:49:37 GMT")
            ])
            .0,
            Verdict::Proceed
        );
    }

    #[test]
    fn a_range_of_another_version_is_not_mixed_in() {
        assert!(ask(&[]).1);
        assert!(ask(&[("if-range", "\"abc\"")]).1);
        assert!(!ask(&[("if-range", "\"old\"")]).1);
        assert!(!ask(&[("if-range", "W/\"abc\"")]).1);
        assert!(ask(&[("if-range", "Sun, 06 Nov 1994 08:49:37 GMT")]).1);
        assert!(!ask(&[("if-range", "Sun, 06 Nov 1994 08:49:38 GMT")]).1);
    }
}

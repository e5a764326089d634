//! Media types: which one a file gets, and what may be done with it.
//!
//! What the client declares is taken when it is well formed and says more than
//! "bytes". Otherwise the first bytes decide, then the name. Nothing is guessed
//! to be active content from its bytes alone.

use axum::http::HeaderValue;

/// What is not known.
pub const UNKNOWN: &str = "application/octet-stream";
/// The longest media type taken, in bytes: the longest registered one has 127.
const MAX_MIME_BYTES: usize = 127;
/// How many first bytes are looked at.
pub const SNIFF_BYTES: usize = 16;

/// Checks a declared media type and writes it in lower case.
pub fn parse(declared: &str) -> Option<String> {
    let declared = declared.trim();
    if declared.len() > MAX_MIME_BYTES || HeaderValue::from_str(declared).is_err() {
        return None;
    }
    let (essence, parameters) = match declared.split_once(';') {
        Some((essence, parameters)) => (essence.trim_end(), Some(parameters)),
        None => (declared, None),
    };
    let (kind, sub) = essence.split_once('/')?;
    if !is_token(kind) || !is_token(sub) {
        return None;
    }
    let essence = essence.to_ascii_lowercase();
    // Of the parameters only the charset matters to who downloads.
    let charset = parameters.and_then(|all| {
        all.split(';').find_map(|one| {
            let (name, value) = one.trim().split_once('=')?;
            let value = value.trim_matches('"');
            (name.eq_ignore_ascii_case("charset") && is_token(value))
                .then(|| value.to_ascii_lowercase())
        })
    });
    Some(match charset {
        Some(charset) => format!("{essence}; charset={charset}"),
        None => essence,
    })
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The media type of a file.
pub fn decide(declared: Option<&str>, filename: &str, first: &[u8]) -> String {
    match declared {
        Some(declared) if essence(declared) != UNKNOWN => declared.to_owned(),
        _ => from_bytes(first)
            .or_else(|| from_name(filename))
            .unwrap_or(UNKNOWN)
            .to_owned(),
    }
}

/// A media type without its parameters.
pub fn essence(mime: &str) -> &str {
    mime.split(';').next().unwrap_or(mime).trim()
}

fn from_bytes(first: &[u8]) -> Option<&'static str> {
    const MAGIC: &[(&[u8], &str)] = &[
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"%PDF-", "application/pdf"),
        (b"\x1f\x8b\x08", "application/gzip"),
        (b"\x28\xb5\x2f\xfd", "application/zstd"),
    ];
    if first.starts_with(b"RIFF") && first.get(8..12) == Some(b"WEBP") {
        return Some("image/webp");
    }
    MAGIC
        .iter()
        .find(|(magic, _)| first.starts_with(magic))
        .map(|(_, mime)| *mime)
}

fn from_name(filename: &str) -> Option<&'static str> {
    let (_, extension) = filename.rsplit_once('.')?;
    let mime = match extension.to_ascii_lowercase().as_str() {
        "txt" | "log" | "md" => "text/plain",
        "csv" => "text/csv",
        "json" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "js" | "mjs" => "text/javascript",
        "wasm" => "application/wasm",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "tar" => "application/x-tar",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => return None,
    };
    Some(mime)
}

/// Whether a browser may show it in the page's origin without running anything.
pub fn is_safe_inline(mime: &str) -> bool {
    let essence = essence(mime);
    matches!(
        essence,
        "image/jpeg" | "image/png" | "image/gif" | "image/webp" | "image/avif" | "text/plain"
    ) || essence.starts_with("audio/")
        || essence.starts_with("video/")
}

/// Whether a worker can make a small picture of it.
pub fn is_picture(mime: &str) -> bool {
    matches!(
        essence(mime),
        "image/jpeg" | "image/png" | "image/gif" | "image/webp"
    )
}

/// Whether trying to compress it is worth while.
pub fn is_compressible(mime: &str) -> bool {
    let essence = essence(mime);
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence,
            "application/json"
                | "application/xml"
                | "application/javascript"
                | "application/wasm"
                | "application/x-tar"
                | "application/x-ndjson"
                | "image/bmp"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_type_is_checked() {
        assert_eq!(parse("Image/PNG").as_deref(), Some("image/png"));
        assert_eq!(
            parse("text/plain; charset=\"UTF-8\"; x=y").as_deref(),
            Some("text/plain; charset=utf-8")
        );
        for bad in [
            "",
            "text",
            "text/",
            "/plain",
            "a b/c",
            "text/html\r\nx: y",
            "text/é",
        ] {
            assert_eq!(parse(bad), None, "{bad:?} was taken");
        }
        assert_eq!(parse(&format!("text/{}", "x".repeat(200))), None);
    }

    #[test]
    fn the_declared_type_wins_unless_it_says_nothing() {
        assert_eq!(
            decide(Some("text/csv"), "a.png", b"\xff\xd8\xff"),
            "text/csv"
        );
        assert_eq!(
            decide(Some(UNKNOWN), "a.txt", b"\xff\xd8\xff"),
            "image/jpeg"
        );
        assert_eq!(decide(None, "a.JSON", b"{}"), "application/json");
        assert_eq!(decide(None, "README", b"<html>"), UNKNOWN);
        assert_eq!(decide(None, "x", b"RIFF\0\0\0\0WEBPVP8 "), "image/webp");
    }

    #[test]
    fn active_content_is_never_shown_inline() {
        for active in [
            "text/html",
            "image/svg+xml",
            "application/xml",
            "text/xml",
            "application/pdf",
        ] {
            assert!(!is_safe_inline(active), "{active}");
        }
        assert!(is_safe_inline("text/plain; charset=utf-8"));
        assert!(is_safe_inline("image/png"));
    }

    #[test]
    fn compression_is_tried_where_it_may_gain() {
        for yes in [
            "text/csv",
            "application/json",
            "image/svg+xml",
            "application/wasm",
        ] {
            assert!(is_compressible(yes), "{yes}");
        }
        for no in ["image/png", "application/zip", "application/pdf", UNKNOWN] {
            assert!(!is_compressible(no), "{no}");
        }
    }
}

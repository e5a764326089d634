//! Cursors of lists: a place in the order of all groups, opaque to clients.
//!
//! Base64 (URL, unpadded) of a format byte, the time (8 bytes, big-endian) and
//! the object key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_metadata::query::ListPosition;
use holdfast_model::{ObjectKey, Timestamp};

use crate::error::ApiError;

const FORMAT: u8 = 1;
/// The longest cursor, in characters: an object key of 1,024 bytes and its head.
const MAX_CURSOR_CHARS: usize = 1_400;

/// Writes a cursor.
pub fn write(position: &ListPosition) -> String {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&position.created.0.to_be_bytes());
    bytes.extend_from_slice(position.key.as_str().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads one.
pub fn read(text: &str) -> Result<ListPosition, ApiError> {
    if text.len() > MAX_CURSOR_CHARS {
        return Err(ApiError::BadCursor);
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| ApiError::BadCursor)?;
    parse(&bytes).ok_or(ApiError::BadCursor)
}

fn parse(bytes: &[u8]) -> Option<ListPosition> {
    let (format, rest) = bytes.split_first()?;
    let (time, key) = rest.split_first_chunk::<8>()?;
    if *format != FORMAT {
        return None;
    }
    let key = std::str::from_utf8(key).ok()?;
    Some(ListPosition {
        created: Timestamp(u64::from_be_bytes(*time)),
        key: ObjectKey::new(key).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let position = ListPosition {
            created: Timestamp(1_234_567_890_123),
            key: ObjectKey::new("é/x".repeat(30)).unwrap(),
        };
        assert_eq!(read(&write(&position)).unwrap(), position);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for bad in [
            "",
            "x",
            "AA",
            "!!",
            &"A".repeat(2_000),
            &URL_SAFE_NO_PAD.encode([2; 20]),
        ] {
            assert!(read(bad).is_err(), "{bad:?} was taken");
        }
    }
}

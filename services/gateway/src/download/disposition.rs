//! `Content-Disposition` (RFC 6266), with the name in the encoding of RFC 8187
//! (once 5987) and a plain one for who cannot read that.

use std::fmt::Write;

/// The header's value.
pub fn content_disposition(inline: bool, filename: Option<&str>) -> String {
    let mut value = String::from(if inline { "inline" } else { "attachment" });
    let Some(name) = filename else {
        return value;
    };
    let plain: String = name
        .chars()
        .map(|c| match c {
            // Some browsers decode per cent signs even here.
            '"' | '\\' | '%' => '_',
            c if c.is_ascii_graphic() || c == ' ' => c,
            _ => '_',
        })
        .collect();
    // Writing to a string cannot fail.
    let _ = write!(value, "; filename=\"{plain}\"");
    if plain != name {
        value.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            // attr-char of RFC 8187, section 3.2.1.
            if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
                value.push(char::from(byte));
            } else {
                let _ = write!(value, "%{byte:02X}");
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay_plain() {
        assert_eq!(
            content_disposition(false, Some("photo 1.jpg")),
            "attachment; filename=\"photo 1.jpg\""
        );
        assert_eq!(content_disposition(true, None), "inline");
    }

    #[test]
    fn other_names_are_encoded_and_cannot_break_out() {
        assert_eq!(
            content_disposition(true, Some("é\"; x=\"%.txt")),
            "inline; filename=\"__; x=__.txt\"; filename*=UTF-8''%C3%A9%22%3B%20x%3D%22%25.txt"
        );
    }

    #[test]
    fn every_value_can_stand_in_a_header() {
        for name in ["🎁", "a\u{202e}b", "\u{7f}", "日本語.pdf"] {
            let value = content_disposition(false, Some(name));
            assert!(
                value.bytes().all(|b| (0x20..0x7f).contains(&b)),
                "{value:?}"
            );
        }
    }
}

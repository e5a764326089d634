//! The `Range` header (RFC 9110, section 14). One range is served; several are
//! answered with the whole file, as the RFC allows.

use axum::http::{HeaderMap, header};
use holdfast_metadata::command::ByteSpan;

/// What of a file is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// A part.
    Part(ByteSpan),
    /// Nothing that exists.
    Nothing,
}

/// Reads the header for a file of `size` bytes.
pub fn wanted(headers: &HeaderMap, size: u64) -> Wanted {
    let mut values = headers.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Wanted::Whole;
    };
    // What cannot be read is ignored, says the RFC.
    value
        .to_str()
        .ok()
        .and_then(|text| parse(text, size))
        .unwrap_or(Wanted::Whole)
}

fn parse(text: &str, size: u64) -> Option<Wanted> {
    let (unit, range) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    let span = match (first.is_empty(), last.is_empty()) {
        (true, true) => return None,
        (true, false) => match number(last)? {
            0 => return Some(Wanted::Nothing),
            // The last bytes of nothing are nothing, and that is all of it.
            _ if size == 0 => return Some(Wanted::Whole),
            suffix => ByteSpan {
                first: size.saturating_sub(suffix),
                end: size,
            },
        },
        (false, _) => {
            let first = number(first)?;
            let last = match last.is_empty() {
                true => u64::MAX,
                false => number(last)?,
            };
            if last < first {
                return None;
            }
            ByteSpan {
                first,
                end: last.saturating_add(1).min(size),
            }
        }
    };
    Some(match span.first < size {
        true => Wanted::Part(span),
        false => Wanted::Nothing,
    })
}

/// Digits; a number beyond all files is the largest one.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str, size: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, text.parse().unwrap());
        wanted(&headers, size)
    }

    fn part(first: u64, end: u64) -> Wanted {
        Wanted::Part(ByteSpan { first, end })
    }

    #[test]
    fn one_range_is_cut_to_the_file() {
        assert_eq!(ask("bytes=0-0", 10), part(0, 1));
        assert_eq!(ask("bytes=3-", 10), part(3, 10));
        assert_eq!(ask("bytes=3-99999999999999999999999", 10), part(3, 10));
        assert_eq!(ask("bytes=-4", 10), part(6, 10));
        assert_eq!(ask("bytes=-40", 10), part(0, 10));
        assert_eq!(ask("Bytes = 1-2", 10), part(1, 3));
    }

    #[test]
    fn a_range_beyond_the_file_is_nothing() {
        assert_eq!(ask("bytes=10-", 10), Wanted::Nothing);
        assert_eq!(ask("bytes=99999999999999999999-", 10), Wanted::Nothing);
        assert_eq!(ask("bytes=-0", 10), Wanted::Nothing);
        assert_eq!(ask("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(ask("bytes=-1", 0), Wanted::Whole);
    }

    #[test]
    fn what_is_no_single_range_means_the_whole() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "lines=1-2",
            "bytes=0-1,3-4",
            "bytes=+1-2",
        ] {
            assert_eq!(ask(text, 10), Wanted::Whole, "{text:?}");
        }
    }
}

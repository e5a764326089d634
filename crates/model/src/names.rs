//! Names that people choose, checked when they are made.

use std::fmt;

use minicbor::{Decode, Encode};

/// The longest object key, in bytes of UTF-8: the limit of S3.
pub const MAX_OBJECT_KEY_BYTES: usize = 1024;
/// The longest file name, in bytes of UTF-8: what common file systems hold.
pub const MAX_FILE_NAME_BYTES: usize = 255;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was left of it.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// Too many bytes.
    #[error("the {noun} has {bytes} bytes; at most {max} are allowed")]
    TooLong {
        /// What was named.
        noun: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// A NUL or another control character.
    #[error("the {0} contains a control character")]
    ControlCharacter(&'static str),
    /// `.`, `..`, or a path separator where a plain name is needed.
    #[error("the {0} must be a plain name, without '/', '\\', '.' or '..' as a component")]
    Path(&'static str),
    /// Outside the letters that bucket names may use.
    #[error(
        "a bucket name has 3 to 63 of a-z, 0-9, '-' and '.', and begins and ends with a letter or digit"
    )]
    Bucket,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, serde::Serialize)]
        #[cbor(transparent)]
        #[serde(transparent)]
        pub struct $name(#[n(0)] String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                Self::new(d.str()?).map_err(minicbor::decode::Error::message)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    };
}

name!(
    /// An object's name in its bucket: 1 to 1,024 bytes of UTF-8 without NUL.
    ObjectKey
);
name!(
    /// The name a file was uploaded under: 1 to 255 bytes of UTF-8, one
    /// component of a path, no control characters.
    FileName
);
name!(
    /// A bucket's name, by the rules of S3.
    BucketName
);

impl ObjectKey {
    /// Checks an object key.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = checked("object key", text.into(), MAX_OBJECT_KEY_BYTES)?;
        if text.contains('\0') {
            return Err(NameError::ControlCharacter("object key"));
        }
        Ok(Self(text))
    }
}

impl FileName {
    /// Checks a file name.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = checked("file name", text.into(), MAX_FILE_NAME_BYTES)?;
        if text.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter("file name"));
        }
        if text == "." || text == ".." || text.contains(['/', '\\']) {
            return Err(NameError::Path("file name"));
        }
        Ok(Self(text))
    }
}

impl BucketName {
    /// Checks a bucket name.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
        let bounded = (3..=63).contains(&text.len()) && !text.contains("..");
        if !(plain && bounded && edge(text.bytes().next()) && edge(text.bytes().last())) {
            return Err(NameError::Bucket);
        }
        Ok(Self(text))
    }
}

fn checked(noun: &'static str, text: String, max: usize) -> Result<String, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty(noun));
    }
    if text.len() > max {
        return Err(NameError::TooLong {
            noun,
            bytes: text.len(),
            max,
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_one_component_of_a_path() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "..\\x",
            "a\0b",
            "line\nbreak",
            &"x".repeat(256),
        ] {
            assert!(FileName::new(bad).is_err(), "{bad:?} was taken");
        }
        for good in [
            "a",
            "...",
            "Überraschung 🎁.txt",
            ".hidden",
            &"x".repeat(255),
        ] {
            assert!(FileName::new(good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn an_object_key_has_at_most_1024_bytes() {
        assert!(ObjectKey::new("é".repeat(512)).is_ok());
        assert!(ObjectKey::new("x".repeat(1025)).is_err());
        assert!(ObjectKey::new("a\0b").is_err());
    }

    #[test]
    fn a_name_is_checked_when_it_is_decoded() {
        let bytes = minicbor::to_vec("../etc/passwd").unwrap();
        assert!(minicbor::decode::<FileName>(&bytes).is_err());
    }

    #[test]
    fn bucket_names_follow_s3() {
        for bad in ["ab", "-abc", "abc-", "Abc", "a..b", "a_b", &"x".repeat(64)] {
            assert!(BucketName::new(bad).is_err(), "{bad:?} was taken");
        }
        assert!(BucketName::new("files").is_ok());
    }
}

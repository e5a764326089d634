//! Identities: one type for each noun, so that two cannot be swapped.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

/// An identity that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{noun} must be 32 hexadecimal digits, but is {found:?}")]
pub struct ParseIdError {
    noun: &'static str,
    found: String,
}

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

        impl $name {
            /// Makes an identity of 16 bytes: random ones, or read from a record.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes, in the order in which identities sort.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Reads 32 hexadecimal digits, lower case alone: an identity has
            /// one spelling, so that it can be compared as text.
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let refuse = || ParseIdError { noun: $noun, found: text.chars().take(64).collect() };
                if text.len() != 32 || text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(refuse());
                }
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| refuse())?;
                Ok(Self(bytes))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id128!(
    /// A cluster, named at its birth and held on every volume of it.
    ClusterId, "a cluster id"
);
id128!(
    /// A storage node's identity, made with its data directory. Its address
    /// and its pod's ordinal may change; this may not.
    NodeId, "a node id"
);
id128!(
    /// A disk's identity, made with its directory and never reused: a disk that
    /// comes back empty is another disk.
    DiskId, "a disk id"
);
id128!(
    /// A bucket's identity; its name may be given to another bucket later.
    BucketId, "a bucket id"
);
id128!(
    /// One version of one object.
    VersionId, "a version id"
);
id128!(
    /// One upload: the unit that owns chunks, before and after its commit.
    UploadId, "an upload id"
);
id128!(
    /// One command, the same on every retry of it. Its first six bytes are the
    /// sender's wall clock in milliseconds, so that remembered outcomes are
    /// stored, and forgotten, in order of age.
    RequestId, "a request id"
);
id128!(
    /// A task of the outbox.
    TaskId, "a task id"
);
id128!(
    /// A download that has been reserved.
    TicketId, "a ticket"
);
id128!(
    /// A credential's public half.
    AccessKeyId, "an access key id"
);

impl DiskId {
    /// The number under which this disk is a member of Raft groups: the first
    /// eight bytes. Disk ids are random, so two of a cluster share a number
    /// with a chance of about 2^-50; group 0 refuses to join the second.
    pub fn raft_id(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode,
            serde::Serialize, serde::Deserialize,
        )]
        #[cbor(transparent)]
        #[serde(transparent)]
        pub struct $name(#[n(0)] pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A metadata group. Group 0 keeps the cluster's own state and owns no slot.
    GroupId, u16
);
number!(
    /// One of the 4,096 classes into which object keys are hashed.
    Slot, u16
);
number!(
    /// The number of a state of the cluster; an order of an older one is refused.
    Epoch, u64
);
number!(
    /// A group's clean-up generation: fragments written under one that lies
    /// below the group's floor, and not referred to, may be deleted.
    Generation, u64
);
number!(
    /// Milliseconds since 1970-01-01T00:00:00Z.
    Timestamp, u64
);

impl GroupId {
    /// The group that keeps the cluster's own state.
    pub const CLUSTER: Self = Self(0);
}

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Timestamp {
    /// The time `millis` later, at most the end of time.
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this time, or zero if it lies later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl VersionId {
    /// Names the null version of an object, whatever its id.
    pub const NULL: Self = Self::from_bytes([0; 16]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_its_text() {
        let id = NodeId::from_bytes(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
    }

    #[test]
    fn an_id_has_one_spelling() {
        assert!(
            "0123456789ABCDEF0123456789ABCDEF"
                .parse::<NodeId>()
                .is_err()
        );
        assert!("0123".parse::<NodeId>().is_err());
        assert!(
            "zz23456789abcdef0123456789abcdef"
                .parse::<NodeId>()
                .is_err()
        );
    }

    #[test]
    fn an_id_is_sixteen_bytes_on_the_wire() {
        let id = NodeId::from_bytes([7; 16]);
        let bytes = minicbor::to_vec(id).unwrap();
        assert_eq!(bytes.len(), 17);
        assert_eq!(minicbor::decode::<NodeId>(&bytes).unwrap(), id);
    }
}

//! Releases: which formats a program can read and write, and which ones a
//! cluster writes.
//!
//! There are two formats, each with a number that only grows: the *wire*, which
//! is what services say to each other and what stands in the logs of metadata
//! groups, and the *disk*, which is what stands on volumes. A program reads and
//! writes a range of each ([`Supported`]). A cluster writes one of each
//! ([`ActiveRelease`]): group 0 holds it, and raises it by one when every node
//! supports that and somebody has finalised it. Until then an older program may
//! come back; after it, it is refused.
//!
//! Every minor release raises at least one of the two and reads that of the
//! release before, no more: so ranges that do not contain what is active tell a
//! release that is too old, and one that would skip a release, alike.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::ids::NodeId;
use crate::layout::{LayoutNode, NodeState};

/// The wire formats of this release.
const WIRE: VersionRange = VersionRange { min: 1, max: 1 };
/// The disk formats of this release.
const DISK: VersionRange = VersionRange { min: 1, max: 1 };

/// The version of this release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a program says of itself that claims other formats than its release has.
const CLAIMS: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " WITH FORMATS OF ANOTHER RELEASE, FOR TESTS ALONE: never run it on data that is to be kept"
);

/// A release, as `0.2.0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Release {
    /// Grows with what breaks users.
    #[n(0)]
    pub major: u32,
    /// Grows with formats.
    #[n(1)]
    pub minor: u32,
    /// Grows with corrections, which change no format.
    #[n(2)]
    pub patch: u32,
}

/// A text that names no release.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no release: write it as 0.2.0")]
pub struct ParseReleaseError(String);

/// Versions of one format, from the oldest to the newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct VersionRange {
    /// The oldest.
    #[n(0)]
    pub min: u32,
    /// The newest.
    #[n(1)]
    pub max: u32,
}

/// What a program can read and write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Supported {
    /// Its release.
    #[n(0)]
    pub release: Release,
    /// Between services.
    #[n(1)]
    pub wire: VersionRange,
    /// On volumes.
    #[n(2)]
    pub disk: VersionRange,
}

/// What a cluster writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct ActiveRelease {
    /// The first release that does: one older than it is refused.
    #[n(0)]
    pub release: Release,
    /// Between services.
    #[n(1)]
    pub wire: u32,
    /// On volumes.
    #[n(2)]
    pub disk: u32,
}

impl Release {
    /// The first release with the same formats.
    pub const fn first_of_minor(self) -> Self {
        Self { patch: 0, ..self }
    }

    /// Whether it is the next minor release after `other`, as far as that can be
    /// told: after the last one of a major release any first one may follow.
    pub fn follows(self, other: Self) -> bool {
        match self.major.checked_sub(other.major) {
            Some(0) => self.minor == other.minor + 1,
            Some(1) => self.minor == 0,
            _ => false,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Release {
    type Err = ParseReleaseError;

    /// Reads `0.2.0`, `v0.2.0`, or `0.2.0-rc.1`, which has the formats of 0.2.0.
    fn from_str(text: &str) -> Result<Self, ParseReleaseError> {
        let refuse = || ParseReleaseError(text.chars().take(64).collect());
        let plain = text.strip_prefix('v').unwrap_or(text);
        let numbers = plain.split(['-', '+']).next().unwrap_or(plain);
        let mut parts = numbers.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse().ok() } else { None }
        });
        let mut next = || parts.next().flatten().ok_or_else(refuse);
        let (major, minor, patch) = (next()?, next()?, next()?);
        match parts.next() {
            None => Ok(Self {
                major,
                minor,
                patch,
            }),
            Some(_) => Err(refuse()),
        }
    }
}

impl VersionRange {
    /// Whether a version is among them.
    pub const fn contains(self, version: u32) -> bool {
        self.min <= version && version <= self.max
    }

    const fn ahead(self) -> Self {
        Self {
            max: self.max + 1,
            ..self
        }
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            return self.min.fmt(f);
        }
        write!(f, "{} to {}", self.min, self.max)
    }
}

impl Supported {
    /// What this release can: what every program is started with, but in tests.
    pub const OWN: Self = Self {
        release: Release {
            major: number(env!("CARGO_PKG_VERSION_MAJOR")),
            minor: number(env!("CARGO_PKG_VERSION_MINOR")),
            patch: number(env!("CARGO_PKG_VERSION_PATCH")),
        },
        wire: WIRE,
        disk: DISK,
    };

    /// What programs can that were made before they said so.
    pub const FIRST: Self = Self {
        release: ActiveRelease::FIRST.release,
        wire: VersionRange { min: 1, max: 1 },
        disk: VersionRange { min: 1, max: 1 },
    };

    /// What the next minor release can, if it raises both formats: so that an
    /// upgrade can be tested before there is one.
    pub const fn ahead(self) -> Self {
        Self {
            release: Release {
                minor: self.release.minor + 1,
                patch: 0,
                ..self.release
            },
            wire: self.wire.ahead(),
            disk: self.disk.ahead(),
        }
    }

    /// What a program that is started with it says at `--version` and in its
    /// first line of log: its version, or loudly that it is for tests.
    pub fn version(&self) -> &'static str {
        if *self == Self::OWN { VERSION } else { CLAIMS }
    }

    /// Whether it can take part in a cluster that writes `active`, on volumes.
    pub fn reads(&self, active: ActiveRelease) -> bool {
        self.speaks(active) && self.disk.contains(active.disk)
    }

    /// Whether it can talk to a cluster that writes `active`.
    pub fn speaks(&self, active: ActiveRelease) -> bool {
        self.wire.contains(active.wire)
    }

    /// The newest that it can write.
    pub fn newest(&self) -> ActiveRelease {
        ActiveRelease {
            release: self.release.first_of_minor(),
            wire: self.wire.max,
            disk: self.disk.max,
        }
    }

    /// Why it cannot take part, and what is to be done: a sentence.
    pub fn refusal(&self, active: ActiveRelease) -> String {
        let advice = if self.newest().is_older_than(active) {
            format!("use an image of release {} at least", active.release)
        } else {
            format!(
                "use an image of release {} first, and the next ones one after the other",
                active.release
            )
        };
        format!(
            "the cluster writes the formats of release {} (wire {}, disk {}), and this is release {} (wire {}, disk {}): {advice}",
            active.release, active.wire, active.disk, self.release, self.wire, self.disk
        )
    }
}

impl Default for Supported {
    fn default() -> Self {
        Self::FIRST
    }
}

impl ActiveRelease {
    /// What clusters write that were born before it was noted.
    pub const FIRST: Self = Self {
        release: Release {
            major: 0,
            minor: 1,
            patch: 0,
        },
        wire: 1,
        disk: 1,
    };

    /// Whether `other` has a format that this has not.
    pub fn is_older_than(self, other: Self) -> bool {
        self.wire < other.wire || self.disk < other.disk
    }

    /// Whether it is one step above `other`: each format the same or the next,
    /// and one of them the next.
    pub fn is_next_after(self, other: Self) -> bool {
        let same_or_next = |new: u32, old: u32| new == old || new.checked_sub(1) == Some(old);
        self.release > other.release
            && other.is_older_than(self)
            && same_or_next(self.wire, other.wire)
            && same_or_next(self.disk, other.disk)
    }
}

impl Default for ActiveRelease {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for ActiveRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "release {} (wire {}, disk {})",
            self.release, self.wire, self.disk
        )
    }
}

/// Whether a node must be able to read what a cluster writes: not one that was
/// given up or emptied, which is refused when it comes back.
fn counts(node: &LayoutNode) -> bool {
    !matches!(node.state, NodeState::Lost | NodeState::Drained)
}

/// The nodes that could not take part in a cluster that writes `wanted`.
pub fn lacking<'n>(
    nodes: impl IntoIterator<Item = &'n LayoutNode>,
    wanted: ActiveRelease,
) -> Vec<NodeId> {
    let nodes = nodes.into_iter().filter(|node| counts(node));
    nodes
        .filter(|node| !node.supports.reads(wanted))
        .map(|node| node.id)
        .collect()
}

/// The newest that all of these nodes can write, if they can read it.
pub fn newest_of_all<'n>(nodes: impl IntoIterator<Item = &'n LayoutNode>) -> Option<ActiveRelease> {
    let counted: Vec<&LayoutNode> = nodes.into_iter().filter(|node| counts(node)).collect();
    let newest = counted.iter().map(|node| node.supports.newest());
    let common = newest.min_by_key(|newest| (newest.wire, newest.disk))?;
    lacking(counted, common).is_empty().then_some(common)
}

/// A number of cargo's, which are digits.
const fn number(text: &str) -> u32 {
    let mut rest = text.as_bytes();
    let mut number = 0;
    while let [digit, more @ ..] = rest {
        assert!(digit.is_ascii_digit(), "a version of three numbers");
        number = number * 10 + (*digit - b'0') as u32;
        rest = more;
    }
    number
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;

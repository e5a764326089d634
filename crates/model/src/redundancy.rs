//! How many fragments a chunk has, and how many of them are enough.

use minicbor::{Decode, Encode};

/// `data` + `parity` fragments a chunk. Copies are the case `data` = 1.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, serde::Serialize, serde::Deserialize,
)]
#[cbor(array)]
pub struct Redundancy {
    /// Fragments that hold the data; as many are needed to read it.
    #[n(0)]
    pub data: u8,
    /// Fragments beyond those; as many may be lost.
    #[n(1)]
    pub parity: u8,
}

impl Redundancy {
    /// `copies` whole copies of each chunk, at least one.
    pub const fn copies(copies: u8) -> Self {
        Self {
            data: 1,
            parity: copies.saturating_sub(1),
        }
    }

    /// All fragments of a chunk.
    pub const fn fragments(self) -> usize {
        self.data as usize + self.parity as usize
    }

    /// How many fragments must be durable before a chunk may be committed:
    /// one more than are needed to read it, or all where at most one is spare.
    pub const fn enough(self) -> usize {
        if self.parity <= 1 {
            self.fragments()
        } else {
            self.data as usize + 1
        }
    }

    /// Whether a chunk of which `durable` fragments are left can be read.
    pub const fn readable(self, durable: usize) -> bool {
        durable >= self.data as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_copies_are_acknowledged_when_two_are_durable() {
        assert_eq!(Redundancy::copies(3).enough(), 2);
        assert_eq!(Redundancy::copies(2).enough(), 2);
        assert_eq!(Redundancy::copies(1).enough(), 1);
        assert_eq!(Redundancy { data: 4, parity: 2 }.enough(), 5);
        assert_eq!(Redundancy { data: 4, parity: 1 }.enough(), 5);
    }
}

//! Requests of counted downloads.

use minicbor::{Decode, Encode};

/// Bytes `first..end` of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct ByteSpan {
    /// The first.
    #[n(0)]
    pub first: u64,
    /// The one after the last.
    #[n(1)]
    pub end: u64,
}

/// What became of a request under a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum RequestEnd {
    /// Bytes were sent, all or some: they count.
    #[n(0)]
    Sent,
    /// No byte of the body was sent, or our side failed: the span is given
    /// back, and the download too if nothing else was sent under the ticket.
    #[n(1)]
    GivenBack,
}

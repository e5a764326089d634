//! Requests of counted downloads.

use holdfast_model::ObjectKey;
use holdfast_model::ids::{BucketId, TicketId};
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

/// A request under a ticket that has ended.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct EndedRequest {
    /// The object's bucket.
    #[n(0)]
    pub bucket: BucketId,
    /// Its key.
    #[n(1)]
    pub key: ObjectKey,
    /// The ticket.
    #[n(2)]
    pub ticket: TicketId,
    /// The bytes that were reserved for it.
    #[n(3)]
    pub range: ByteSpan,
    /// What became of it.
    #[n(4)]
    pub end: RequestEnd,
}

//! How storage nodes are called: the paths, and the types of their heads.
//!
//! Every answer's head is a [`Result`] of the path's answer type and a
//! [`NodeError`], encoded with [`encode_result`]; every request's is encoded
//! with [`encode`].

mod error;
mod fragments;
mod groups;
mod maintenance;
mod status;

use bytes::Bytes;
use minicbor::{Decode, Encode};

pub use error::NodeError;
pub use fragments::{
    BLOCK_BYTES, Carried, Deleted, Digests, DigestsRequest, Download, DownloadRequest, FileEntry,
    Files, FilesRequest, FragmentIds, RangeDigest, UploadRequest, Uploaded,
};
pub use groups::{
    BackupHead, BackupRequest, Bootstrap, DiskStart, GroupMessage, MemberStep, MembersRequest,
    ProposeRequest, QueryRequest, RaftAnswer, RaftBatch, TransferRequest,
};
pub use maintenance::{
    CensusReport, FinalizeRequest, GroupCensus, PermitRequest, ReleaseRequest, SealRequest,
};
pub use status::{DiskStatus, GroupStatus, Status};

/// [`UploadRequest`], then blocks; answers [`Uploaded`].
pub const UPLOAD: &str = "/upload";
/// [`DownloadRequest`]; answers [`Download`], then blocks.
pub const DOWNLOAD: &str = "/download";
/// [`FragmentIds`]; answers [`Deleted`].
pub const DELETE: &str = "/delete";
/// [`FilesRequest`]; answers [`Files`].
pub const FILES: &str = "/files";
/// [`DigestsRequest`]; answers [`Digests`].
pub const DIGESTS: &str = "/v1/digests";
/// [`RaftBatch`]; answers [`RaftAnswer`] once its messages are taken in.
pub const RAFT: &str = "/v1/raft";
/// A snapshot's message, then its rows; answers `()`.
pub const SNAPSHOT: &str = "/v1/snapshot";
/// [`ProposeRequest`]; answers [`Outcome`](crate::command::Outcome).
pub const PROPOSE: &str = "/v1/propose";
/// [`QueryRequest`]; answers [`Answer`](crate::query::Answer).
pub const QUERY: &str = "/v1/query";
/// `()`; answers [`Status`].
pub const STATUS: &str = "/v1/status";
/// [`Bootstrap`]; answers `()`.
pub const BOOTSTRAP: &str = "/v1/bootstrap";
/// [`MembersRequest`]; answers `()`.
pub const MEMBERS: &str = "/v1/members";
/// [`TransferRequest`]; answers `()`.
pub const TRANSFER: &str = "/v1/transfer";
/// `()`; answers [`CensusReport`].
pub const CENSUS: &str = "/v1/census";
/// [`PermitRequest`]; answers [`Permit`](holdfast_model::Permit).
pub const PERMIT: &str = "/v1/permit";
/// [`ReleaseRequest`]; answers `()`.
pub const RELEASE: &str = "/v1/permit/release";
/// [`SealRequest`]; answers `()`.
pub const SEAL: &str = "/v1/seal";
/// [`FinalizeRequest`]; answers [`ActiveRelease`](holdfast_model::ActiveRelease).
pub const FINALIZE: &str = "/v1/finalize";
/// [`BackupRequest`]; answers [`BackupHead`], then rows.
pub const BACKUP: &str = "/v1/backup";

/// Encodes a head.
pub fn encode<T: Encode<()>>(value: &T) -> Bytes {
    let mut buffer = Vec::new();
    // Writing to memory cannot fail.
    let _ = minicbor::encode(value, &mut buffer);
    buffer.into()
}

/// Reads a head. Strict: bytes after it are an error.
///
/// # Errors
/// When the bytes are not exactly one `T`.
pub fn decode<'b, T: Decode<'b, ()>>(head: &'b [u8]) -> Result<T, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(head);
    let value = decoder.decode()?;
    if decoder.position() != head.len() {
        return Err(minicbor::decode::Error::message("bytes after the head"));
    }
    Ok(value)
}

/// Encodes an answer's head: an array of 0 and the answer, or of 1 and the error.
pub fn encode_result<T: Encode<()>>(result: &Result<T, NodeError>) -> Bytes {
    encode(result)
}

/// Reads an answer's head, as [`encode_result`] writes it.
///
/// # Errors
/// When the bytes are no such head.
pub fn decode_result<'b, T: Decode<'b, ()>>(
    head: &'b [u8],
) -> Result<Result<T, NodeError>, minicbor::decode::Error> {
    decode(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_head_is_read_back() {
        let good: Result<Uploaded, NodeError> = Ok(Uploaded {
            bytes: 7,
            pressed: None,
        });
        let bad: Result<Uploaded, NodeError> = Err(NodeError::Busy {
            retry_after_millis: 5,
        });
        for head in [good, bad] {
            assert_eq!(decode_result(&encode_result(&head)).unwrap(), head);
        }
        let nothing: Result<(), NodeError> = Ok(());
        assert_eq!(decode_result(&encode_result(&nothing)).unwrap(), nothing);
    }

    #[test]
    fn bytes_after_a_head_are_refused() {
        let mut head = encode(&Uploaded {
            bytes: 7,
            pressed: None,
        })
        .to_vec();
        head.push(0);
        assert!(decode::<Uploaded>(&head).is_err());
    }

    /// A batch and its answer as releases before starts were told write them.
    #[derive(Clone, PartialEq, Debug, Encode, Decode)]
    struct EarlierBatch(
        #[n(0)] holdfast_model::ClusterId,
        #[n(1)] holdfast_model::DiskId,
        #[n(2)] holdfast_model::DiskId,
        #[n(3)] u64,
        #[n(4)] holdfast_model::Timestamp,
        #[n(5)] Vec<GroupMessage>,
    );
    #[derive(Clone, PartialEq, Debug, Encode, Decode)]
    struct EarlierAnswer(
        #[n(0)] holdfast_model::Timestamp,
        #[n(1)] u64,
        #[n(2)] Vec<GroupMessage>,
    );

    #[test]
    fn batches_and_answers_are_read_by_and_from_releases_that_tell_no_starts() {
        let time = holdfast_model::Timestamp(8);
        let (cluster, disk) = (
            holdfast_model::ClusterId::from_bytes([1; 16]),
            holdfast_model::DiskId::from_bytes([2; 16]),
        );
        let earlier = EarlierBatch(cluster, disk, disk, 7, time, Vec::new());
        let mut batch: RaftBatch = decode(&encode(&earlier)).unwrap();
        assert_eq!((batch.knows, batch.starts.len()), (None, 0));
        let start = DiskStart {
            member: 5,
            incarnation: 6,
        };
        (batch.knows, batch.starts) = (Some(9), vec![start]);
        assert_eq!(decode::<RaftBatch>(&encode(&batch)).unwrap(), batch);
        assert_eq!(decode::<EarlierBatch>(&encode(&batch)).unwrap(), earlier);
        let earlier = EarlierAnswer(time, 7, Vec::new());
        let mut answer: RaftAnswer = decode(&encode(&earlier)).unwrap();
        assert_eq!(answer.starts, vec![]);
        answer.starts = vec![start];
        assert_eq!(decode::<RaftAnswer>(&encode(&answer)).unwrap(), answer);
        assert_eq!(decode::<EarlierAnswer>(&encode(&answer)).unwrap(), earlier);
    }
}

//! What the engine promises its callers, as a trait: the reference model of the
//! tests implements it as well, and random sequences compare the two.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use holdfast_model::{FragmentHeader, FragmentId, Generation, GroupId};

use crate::digest::Digest;
use crate::engine::{Engine, FragmentEntry};
use crate::index::IndexError;
use crate::reader::ReadError;
use crate::reclaim::DeleteError;
use crate::writer::{Closing, WriteError, Written};

/// Keeps fragments by their names.
pub trait FragmentStore {
    /// Keeps a fragment, durably, whose bytes come in pieces.
    fn write(
        &self,
        header: FragmentHeader,
        pieces: Vec<Bytes>,
        closing: Closing,
    ) -> impl Future<Output = Result<Written, WriteError>> + Send;

    /// The bytes of a range, cut at the fragment's end.
    fn read_range(
        &self,
        id: FragmentId,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Bytes, ReadError>> + Send;

    /// Deletes a fragment of a generation below `below`, or of any, durably;
    /// says whether there was one.
    fn remove(
        &self,
        id: FragmentId,
        below: Option<Generation>,
    ) -> impl Future<Output = Result<bool, DeleteError>> + Send;

    /// Up to `limit` fragments after a name, sorted.
    fn page(
        &self,
        after: Option<FragmentId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<FragmentEntry>, IndexError>> + Send;

    /// Digests of a group by the first byte of the upload's id.
    fn group_digests(&self, group: GroupId) -> BTreeMap<u8, Digest>;
}

impl FragmentStore for Engine {
    async fn write(
        &self,
        header: FragmentHeader,
        pieces: Vec<Bytes>,
        closing: Closing,
    ) -> Result<Written, WriteError> {
        let bytes = pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        let mut writer = self.begin(header, bytes).await?;
        for piece in pieces {
            writer.write(piece).await?;
        }
        writer.finish(closing).await
    }

    async fn read_range(&self, id: FragmentId, range: Range<u64>) -> Result<Bytes, ReadError> {
        let (_, mut blocks) = self.read(id, range).await?;
        let mut all = BytesMut::new();
        while let Some(block) = blocks.try_next().await? {
            all.extend_from_slice(&block.data);
        }
        Ok(all.freeze())
    }

    async fn remove(&self, id: FragmentId, below: Option<Generation>) -> Result<bool, DeleteError> {
        self.delete_below(id, below).await
    }

    async fn page(
        &self,
        after: Option<FragmentId>,
        limit: usize,
    ) -> Result<Vec<FragmentEntry>, IndexError> {
        self.list(after, limit).await
    }

    fn group_digests(&self, group: GroupId) -> BTreeMap<u8, Digest> {
        self.digests(group)
    }
}

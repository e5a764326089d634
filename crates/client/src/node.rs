//! One storage node, called at one address.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use holdfast_metadata::command::Outcome;
use holdfast_metadata::protocol::{
    self, BackupHead, BackupRequest, Bootstrap, CensusReport, Deleted, Digests, DigestsRequest,
    Download, DownloadRequest, Files, FilesRequest, FinalizeRequest, FragmentIds, MembersRequest,
    PermitRequest, ProposeRequest, QueryRequest, ReleaseRequest, SealRequest, Status,
    TransferRequest, UploadRequest, Uploaded,
};
use holdfast_metadata::query::Answer;
use holdfast_model::{ActiveRelease, Epoch, Permit};
use holdfast_runtime::{Address, Body, Call, Transport, TransportError};
use minicbor::{Decode, Encode};

use crate::error::CallError;

/// Pieces of a body as they come.
pub type Pieces = BoxStream<'static, Result<bytes::Bytes, TransportError>>;

/// How long a node may take over its status, which costs it no IO.
pub const STATUS_DEADLINE: Duration = Duration::from_secs(1);
/// How long a node may take to find a fragment and read its first block.
pub const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(5);
/// How long the upload of one fragment may take: a bound on forgotten ones.
/// The sender watches the pace of its stripes itself.
pub const UPLOAD_DEADLINE: Duration = Duration::from_secs(6 * 3_600);
/// How long maintenance calls may take: one disk sync or one index scan.
pub const ADMIN_DEADLINE: Duration = Duration::from_secs(30);
/// How long the permit may take: every group may have to be counted first.
pub const PERMIT_DEADLINE: Duration = Duration::from_secs(120);

/// Calls one storage node.
#[derive(Clone)]
pub struct StorageNodeClient {
    transport: Arc<dyn Transport>,
    address: Address,
}

impl StorageNodeClient {
    /// A client of the node that listens at `address`.
    pub fn new(transport: Arc<dyn Transport>, address: Address) -> Self {
        Self { transport, address }
    }

    /// Where it is called.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the node answers and is not shutting down.
    pub async fn health(&self) -> bool {
        matches!(self.status().await, Ok(status) if !status.draining)
    }

    /// What the node says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<Status, CallError> {
        self.ask(protocol::STATUS, &(), STATUS_DEADLINE, None).await
    }

    /// The same under the original route's name.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn stats(&self) -> Result<Status, CallError> {
        self.status().await
    }

    /// Stores a fragment, whose bytes come as blocks ([`crate::blocks`]), and
    /// waits until it is durable.
    ///
    /// # Errors
    /// When it is not known to be durable.
    pub async fn upload(
        &self,
        request: &UploadRequest,
        body: Body,
        trace: Option<&str>,
    ) -> Result<Uploaded, CallError> {
        self.call(protocol::UPLOAD, request, body, UPLOAD_DEADLINE, trace)
            .await
            .map(|(answer, _)| answer)
    }

    /// Reads a fragment or a part of it, as blocks.
    ///
    /// # Errors
    /// When there is no such fragment, or no answer.
    pub async fn download(
        &self,
        request: &DownloadRequest,
        trace: Option<&str>,
    ) -> Result<(Download, Pieces), CallError> {
        let path = protocol::DOWNLOAD;
        let (head, body) = self
            .call(path, request, Body::Empty, DOWNLOAD_DEADLINE, trace)
            .await?;
        Ok((head, body.into_stream()))
    }

    /// Deletes fragments durably.
    ///
    /// # Errors
    /// When it is not known that all are gone.
    pub async fn delete(&self, request: &FragmentIds) -> Result<Deleted, CallError> {
        self.ask(protocol::DELETE, request, ADMIN_DEADLINE, None)
            .await
    }

    /// A page of the fragments that a disk has.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn files(&self, request: &FilesRequest) -> Result<Files, CallError> {
        self.ask(protocol::FILES, request, ADMIN_DEADLINE, None)
            .await
    }

    /// What a disk holds of a group, summed up.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn digests(&self, request: &DigestsRequest) -> Result<Digests, CallError> {
        self.ask(protocol::DIGESTS, request, ADMIN_DEADLINE, None)
            .await
    }

    /// Proposes a command to a group that this node leads. Prefer
    /// [`crate::Cluster::propose`], which finds the leader.
    ///
    /// # Errors
    /// When the outcome is not known, or the node is not the one to ask.
    pub async fn propose(
        &self,
        request: &ProposeRequest,
        deadline: Duration,
        trace: Option<&str>,
    ) -> Result<Outcome, CallError> {
        self.ask(protocol::PROPOSE, request, deadline, trace).await
    }

    /// Asks a group that this node leads. Prefer [`crate::Cluster::query`].
    ///
    /// # Errors
    /// When no answer comes, or the node is not the one to ask.
    pub async fn query(
        &self,
        request: &QueryRequest,
        deadline: Duration,
        trace: Option<&str>,
    ) -> Result<Answer, CallError> {
        self.ask(protocol::QUERY, request, deadline, trace).await
    }

    /// Founds a cluster with this node among its members.
    ///
    /// # Errors
    /// When the node belongs to another cluster, or no answer comes.
    pub async fn bootstrap(&self, request: &Bootstrap) -> Result<(), CallError> {
        self.ask(protocol::BOOTSTRAP, request, ADMIN_DEADLINE, None)
            .await
    }

    /// Changes a group's members by one step; the node must lead it.
    ///
    /// # Errors
    /// When the step is refused, or it is not known whether it was done.
    pub async fn members(&self, request: &MembersRequest) -> Result<(), CallError> {
        self.ask(protocol::MEMBERS, request, ADMIN_DEADLINE, None)
            .await
    }

    /// Asks the node to hand a group's leadership over.
    ///
    /// # Errors
    /// When the node does not lead the group, or no answer comes.
    pub async fn transfer(&self, request: &TransferRequest) -> Result<(), CallError> {
        self.ask(protocol::TRANSFER, request, ADMIN_DEADLINE, None)
            .await
    }

    /// What the groups that the node leads last counted.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn census(&self) -> Result<CensusReport, CallError> {
        self.ask(protocol::CENSUS, &(), STATUS_DEADLINE, None).await
    }

    /// Takes the maintenance permit, through this node.
    ///
    /// # Errors
    /// When it is not granted, with the reason, or no answer comes.
    pub async fn take_permit(&self, request: &PermitRequest) -> Result<Permit, CallError> {
        self.ask(protocol::PERMIT, request, PERMIT_DEADLINE, None)
            .await
    }

    /// Gives the maintenance permit back, through this node.
    ///
    /// # Errors
    /// When it is another one by now, or no answer comes.
    pub async fn release_permit(&self, epoch: Epoch) -> Result<(), CallError> {
        let request = ReleaseRequest { epoch };
        self.ask(protocol::RELEASE, &request, ADMIN_DEADLINE, None)
            .await
    }

    /// Lets the node's disk take no further fragments; see [`SealRequest`].
    ///
    /// # Errors
    /// When it is another disk, or fragments are being written for longer than an
    /// order waits: those that are not yet there are refused all the same.
    pub async fn seal(&self, request: &SealRequest) -> Result<(), CallError> {
        self.ask(protocol::SEAL, request, ADMIN_DEADLINE, None)
            .await
    }

    /// Lets the cluster write the formats of a release, through this node.
    ///
    /// # Errors
    /// When it is refused, with the reason, or no answer comes.
    pub async fn finalize(&self, request: &FinalizeRequest) -> Result<ActiveRelease, CallError> {
        self.ask(protocol::FINALIZE, request, ADMIN_DEADLINE, None)
            .await
    }

    /// The rows of a group as of one moment.
    ///
    /// # Errors
    /// When the node does not carry the group, or no answer comes.
    pub async fn backup(&self, request: &BackupRequest) -> Result<(BackupHead, Pieces), CallError> {
        let path = protocol::BACKUP;
        let (head, body) = self
            .call(path, request, Body::Empty, ADMIN_DEADLINE, None)
            .await?;
        Ok((head, body.into_stream()))
    }

    async fn ask<T>(
        &self,
        path: &'static str,
        request: &impl Encode<()>,
        deadline: Duration,
        trace: Option<&str>,
    ) -> Result<T, CallError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        self.call(path, request, Body::Empty, deadline, trace)
            .await
            .map(|(answer, _)| answer)
    }

    async fn call<T>(
        &self,
        path: &'static str,
        request: &impl Encode<()>,
        body: Body,
        deadline: Duration,
        trace: Option<&str>,
    ) -> Result<(T, Body), CallError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        let call = Call {
            path,
            head: protocol::encode(request),
            body,
            deadline,
            request_id: trace.map(str::to_owned),
        };
        let reply = self.transport.call(&self.address, call).await?;
        let answer = protocol::decode_result::<T>(&reply.head).map_err(|error| {
            TransportError::Malformed {
                reason: format!("{path} of {}: {error}", self.address),
            }
        })?;
        Ok((answer?, reply.body))
    }
}

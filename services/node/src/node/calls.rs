//! The calls of the protocol, each to the part that answers it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use holdfast_metadata::protocol::{
    self, BackupHead, BackupRequest, NodeError, UploadRequest, encode_result,
};
use holdfast_metadata::raft::snapshot::{open_rows, row_pieces};
use holdfast_runtime::transport::Handler;
use holdfast_runtime::{Body, Call, Reply, TasksExt};
use minicbor::{Decode, Encode};

use super::Node;
use crate::limits::{Place, kind_of};

/// Every path of the protocol.
const PATHS: &[&str] = &[
    protocol::UPLOAD,
    protocol::DOWNLOAD,
    protocol::DELETE,
    protocol::FILES,
    protocol::DIGESTS,
    protocol::RAFT,
    protocol::SNAPSHOT,
    protocol::PROPOSE,
    protocol::QUERY,
    protocol::STATUS,
    protocol::BOOTSTRAP,
    protocol::MEMBERS,
    protocol::TRANSFER,
    protocol::BACKUP,
    protocol::CENSUS,
    protocol::PERMIT,
    protocol::RELEASE,
    protocol::SEAL,
    protocol::FINALIZE,
];

/// A node that others can call: the node in an `Arc`.
#[derive(Clone)]
pub struct NodeHandler(pub Arc<Node>);

impl Handler for NodeHandler {
    fn paths(&self) -> &'static [&'static str] {
        PATHS
    }

    fn handle(&self, call: Call) -> BoxFuture<'static, Reply> {
        let node = self.0.clone();
        async move {
            match node.limits.enter(kind_of(call.path)) {
                Ok(place) => node.answer_at(place, call).await,
                Err(error) => busy(&error),
            }
        }
        .boxed()
    }
}

/// The same for one call that has its place already: it was let in before
/// anything of it was read.
pub struct Admitted {
    node: Arc<Node>,
    /// Taken by the one call.
    place: Mutex<Option<Place>>,
}

impl Admitted {
    /// Lets a call to `path` in.
    ///
    /// # Errors
    /// What it is answered past the limit.
    pub fn of(node: &Arc<Node>, path: &str) -> Result<Self, Reply> {
        let place = node.limits.enter(kind_of(path));
        let place = place.map_err(|error| busy(&error))?;
        Ok(Self {
            node: node.clone(),
            place: Mutex::new(Some(place)),
        })
    }
}

impl Handler for Admitted {
    fn paths(&self) -> &'static [&'static str] {
        PATHS
    }

    fn handle(&self, call: Call) -> BoxFuture<'static, Reply> {
        let place = self.place.lock();
        let place = place.unwrap_or_else(PoisonError::into_inner).take();
        let node = self.node.clone();
        match place {
            Some(place) => async move { node.answer_at(place, call).await }.boxed(),
            None => NodeHandler(node).handle(call),
        }
    }
}

fn busy(error: &NodeError) -> Reply {
    Reply {
        head: encode_result::<()>(&Err(error.clone())),
        body: Body::Empty,
    }
}

fn head<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, NodeError> {
    minicbor::decode(bytes).map_err(|error| NodeError::Invalid(format!("the head: {error}")))
}

fn reply<T: Encode<()>>(result: &Result<T, NodeError>) -> Reply {
    Reply {
        head: encode_result(result),
        body: Body::Empty,
    }
}

fn reply_with_body<T: Encode<()>>(result: Result<(T, Body), NodeError>) -> Reply {
    match result {
        Ok((head, body)) => Reply {
            head: encode_result(&Ok(head)),
            body,
        },
        Err(error) => reply::<()>(&Err(error)),
    }
}

impl Node {
    /// Answers a call, which keeps its place until the last of its answer is
    /// sent.
    async fn answer_at(&self, place: Place, call: Call) -> Reply {
        let Reply { head, body } = self.answer(call).await;
        let body = match body {
            Body::Stream(pieces) => Body::stream(pieces.inspect(move |_| {
                let _held = &place;
            })),
            other => other,
        };
        Reply { head, body }
    }

    async fn answer(&self, call: Call) -> Reply {
        let Call {
            path,
            head: bytes,
            body,
            ..
        } = call;
        match path {
            protocol::UPLOAD => reply(&self.on_upload(&bytes, body).await),
            protocol::DOWNLOAD => {
                let read = async { self.fragments.download(head(&bytes)?).await };
                reply_with_body(read.await)
            }
            protocol::DELETE => {
                let delete = async { self.fragments.delete(head(&bytes)?).await };
                reply(&delete.await)
            }
            protocol::FILES => {
                let files = async { self.fragments.files(&head(&bytes)?).await };
                reply(&files.await)
            }
            protocol::DIGESTS => {
                reply(&head(&bytes).and_then(|request| self.fragments.digests(&request)))
            }
            protocol::SEAL => {
                let seal = async { self.seal(head(&bytes)?).await };
                reply(&seal.await)
            }
            protocol::STATUS => reply(&Ok(self.status())),
            protocol::BOOTSTRAP => {
                let birth = async { self.be_born(head(&bytes)?).await };
                reply(&birth.await)
            }
            _ => self.answer_of_groups(path, bytes, body).await,
        }
    }

    async fn answer_of_groups(&self, path: &'static str, bytes: Bytes, body: Body) -> Reply {
        let groups = match self.born() {
            Ok(groups) => groups,
            Err(error) => return reply::<()>(&Err(error)),
        };
        match path {
            protocol::RAFT => {
                let deliver = async { groups.deliver(head(&bytes)?).await };
                reply(&deliver.await)
            }
            protocol::SNAPSHOT => reply(&groups.receive_snapshot(&bytes, body).await),
            protocol::PROPOSE => {
                let propose = async {
                    let request = head(&bytes)?;
                    self.check_room(&request)?;
                    groups.propose(request).await
                };
                reply(&propose.await)
            }
            protocol::QUERY => {
                let query = async { groups.query(head(&bytes)?).await };
                reply(&query.await)
            }
            protocol::MEMBERS => {
                let change = async { groups.change_members(head(&bytes)?).await };
                reply(&change.await)
            }
            protocol::TRANSFER => {
                let transfer = async { groups.transfer(head(&bytes)?).await };
                reply(&transfer.await)
            }
            protocol::BACKUP => reply_with_body(self.on_backup(&bytes).await),
            protocol::CENSUS => reply(&self.census_report()),
            protocol::PERMIT => {
                let permit = async { self.permit(head(&bytes)?).await };
                reply(&permit.await)
            }
            protocol::FINALIZE => {
                let finalize = async { self.finalize(head(&bytes)?).await };
                reply(&finalize.await)
            }
            protocol::RELEASE => {
                let release = async { self.release(head(&bytes)?).await };
                reply(&release.await)
            }
            other => reply::<()>(&Err(NodeError::Invalid(format!("{other} is not known")))),
        }
    }

    async fn on_upload(&self, bytes: &[u8], body: Body) -> Result<protocol::Uploaded, NodeError> {
        self.take_fragment(head(bytes)?, body).await
    }

    /// Stores a fragment, unless the disk is being emptied.
    pub(crate) async fn take_fragment(
        &self,
        request: UploadRequest,
        body: Body,
    ) -> Result<protocol::Uploaded, NodeError> {
        let cluster = self.identity().cluster.ok_or(NodeError::NotBorn)?;
        let _open = self.seal.enter(self.taking_since())?;
        self.fragments.upload(cluster, request, body).await
    }

    /// The rows of a group as of one moment at which this node led it.
    async fn on_backup(&self, bytes: &[u8]) -> Result<(BackupHead, Body), NodeError> {
        let request: BackupRequest = head(bytes)?;
        let groups = self.born()?;
        let query = holdfast_metadata::query::Query::Totals;
        let confirm = protocol::QueryRequest {
            group: request.group,
            query,
        };
        // Answered only by a leader that has applied all that was acknowledged before.
        groups.query(confirm).await?;
        let store = self.store.clone();
        let group = request.group;
        let opened = self
            .env
            .tasks
            .blocking(move || open_rows(&store, group))
            .await;
        let rows = opened
            .ok_or(NodeError::ShuttingDown)?
            .map_err(|error| NodeError::Invalid(error.to_string()))?;
        let head = BackupHead {
            group,
            applied: rows.index,
            term: rows.term,
        };
        Ok((head, Body::stream(row_pieces(self.env.clone(), rows.rows))))
    }
}

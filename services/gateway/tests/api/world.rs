//! A gateway before one storage node in memory. Time can be set forward;
//! requests go straight into the router.

mod node;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::{BufMut, Bytes};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use holdfast_cache::EmbeddedCache;
use holdfast_client::blocks::{BlockDecoder, encode_blocks};
use holdfast_client::{Cluster, ClusterSettings};
use holdfast_gateway::{App, GatewayParts, GatewaySettings, routes};
use holdfast_metadata::command::{Batch, Request as CommandRequest};
use holdfast_metadata::protocol::{
    self, BLOCK_BYTES, BackupHead, BackupRequest, CensusReport, DiskStatus, Download,
    DownloadRequest, GroupCensus, GroupStatus, NodeError, ProposeRequest, QueryRequest, Status,
    UploadRequest, Uploaded,
};
use holdfast_metadata::state;
use holdfast_metadata::store::{Rows, Store};
use holdfast_model::layout::initial_slots;
use holdfast_model::{
    AccessKey, AccessKeyId, Bucket, BucketId, BucketName, ClusterId, ClusterState, DiskId, Epoch,
    FragmentId, GroupId, Layout, LayoutNode, NodeId, NodeState, Redundancy, Role, Supported,
    Timestamp,
};
use holdfast_queue::EmbeddedQueue;
use holdfast_runtime::host::system::{SystemClock, SystemEntropy, TokioTasks};
use holdfast_runtime::host::tls::Security;
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{
    Address, Body as CallBody, Call, Clock, Disk, Env, Reply, Shutdown, Transport, TransportError,
};
use http_body_util::BodyExt;
use minicbor::Encode;
use tower::ServiceExt;

const GROUPS: u16 = 3;
const DISK: DiskId = DiskId::from_bytes([1; 16]);
const NODE: NodeId = NodeId::from_bytes([1; 16]);
const CLUSTER: ClusterId = ClusterId::from_bytes([9; 16]);

pub const ADMIN: &str = "admin-token-of-the-tests";
pub const ANNA: &str = "annas-token-of-the-tests";
pub const BERT: &str = "berts-token-of-the-tests";

pub use node::whole;
use node::{LeapClock, Node, ToNode};

/// A gateway with its cluster.
pub struct World {
    node: Arc<Node>,
    pub app: Arc<App>,
    pub queue: Arc<EmbeddedQueue>,
    pub router: axum::Router,
}

/// An answer.
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of the problem that it must be.
    pub fn code(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        self.json()["code"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut GatewaySettings)) -> Self {
        let clock = LeapClock::ahead(Duration::ZERO);
        Self::on_clocks(clock.clone(), clock, change).await
    }

    /// The gateway's clock is so far ahead of the machine's, and the node's.
    pub async fn ahead(gateway: Duration, node: Duration) -> Self {
        Self::on_clocks(LeapClock::ahead(gateway), LeapClock::ahead(node), |_| {}).await
    }

    async fn on_clocks(
        clock: Arc<LeapClock>,
        of_node: Arc<LeapClock>,
        change: impl FnOnce(&mut GatewaySettings),
    ) -> Self {
        let node = Node::born(of_node);
        let env = Env {
            clock,
            entropy: Arc::new(SystemEntropy),
            tasks: Arc::new(TokioTasks),
            transport: Arc::new(ToNode(node.clone())),
        };
        let shutdown = Shutdown::default();
        let seeds = ClusterSettings::new(vec![Address("node:8000".into())]);
        let cluster = Cluster::start(env.clone(), seeds, shutdown.clone());
        cluster.wait_ready(Duration::from_secs(10)).await.unwrap();
        let queue = EmbeddedQueue::start(env.clone(), shutdown.clone());
        let parts = GatewayParts {
            cluster,
            queue: queue.clone(),
            cache: EmbeddedCache::start(env),
            metrics: None,
            supports: Supported::OWN,
        };
        let mut settings = GatewaySettings::new(
            ([127, 0, 0, 1], 0).into(),
            Security::plain("secret of the tests"),
        );
        change(&mut settings);
        let app = App::new(settings, &parts, shutdown);
        Self {
            node,
            queue,
            router: routes::router(app.clone()),
            app,
        }
    }

    /// Lets the wall clock jump.
    pub fn leap(&self, by: Duration) {
        let millis = by.as_millis() as u64;
        self.node.clock.ahead.fetch_add(millis, Ordering::SeqCst);
    }

    /// From now on the node says that it has counted this.
    pub fn count(&self, groups: Vec<GroupCensus>, chunks_to_copy: u64) {
        *self.node.census.lock().unwrap() = CensusReport {
            groups,
            chunks_to_copy,
        };
    }

    /// From now on no fragment can be read.
    pub fn break_downloads(&self, broken: bool) {
        self.node.breaks_downloads.store(broken, Ordering::SeqCst);
    }

    pub async fn send(&self, request: Request<Body>) -> Got {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Got {
        self.send(request(method, path, headers, Body::empty()))
            .await
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Got {
        self.call("GET", path, headers).await
    }

    /// Uploads as Anna by PUT and returns the answer's JSON.
    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> serde_json::Value {
        let auth = bearer(ANNA);
        let body = Body::from(body.into());
        let path = format!("/api/upload/{path}");
        let got = self
            .send(request("PUT", &path, &[("authorization", &auth)], body))
            .await;
        assert_eq!(got.status, StatusCode::CREATED, "{:?}", got.body);
        got.json()
    }

    /// How many downloads a file has left.
    pub async fn left(&self, id: &str) -> u64 {
        let auth = bearer(ADMIN);
        let got = self
            .get(&format!("/api/files/{id}"), &[("authorization", &auth)])
            .await;
        got.json()["downloads_left"].as_u64().unwrap()
    }

    /// Waits until every download has been reported.
    pub async fn settled(&self) {
        tokio::time::timeout(Duration::from_secs(10), self.app.settlements.none())
            .await
            .unwrap();
    }
}

pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path)
        .header("host", "files.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// The path under which a file is downloaded.
pub fn download_path(file: &serde_json::Value) -> String {
    format!("/api/download/{}", file["file_id"].as_str().unwrap())
}

/// Bytes that do not repeat.
pub fn data(len: usize) -> Bytes {
    let mut state = 1u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        out.extend_from_slice(&state.to_be_bytes());
    }
    out.truncate(len);
    out.into()
}

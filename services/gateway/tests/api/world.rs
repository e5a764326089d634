//! One storage node in memory: fragments in a map, groups in the real state
//! machine without Raft. Time can be set forward; requests go straight into
//! the router.

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

struct Node {
    clock: Arc<LeapClock>,
    store: Store,
    index: AtomicU64,
    fragments: Mutex<BTreeMap<FragmentId, Bytes>>,
    breaks_downloads: AtomicBool,
    census: Mutex<CensusReport>,
}

/// The machine's clock, some time ahead.
struct LeapClock {
    real: SystemClock,
    ahead: AtomicU64,
}

impl LeapClock {
    fn ahead(by: Duration) -> Arc<Self> {
        Arc::new(Self {
            real: SystemClock::default(),
            ahead: AtomicU64::new(by.as_millis() as u64),
        })
    }
}

impl Clock for LeapClock {
    fn wall(&self) -> Timestamp {
        self.real.wall().plus(self.ahead.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        self.real.monotonic()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.real.sleep(duration)
    }
}

fn key(n: u8, token: &str, role: Role) -> AccessKey {
    AccessKey {
        id: AccessKeyId::from_bytes([n; 16]),
        token_sha256: holdfast_gateway::secret::token_hash(token),
        role,
        name: format!("key{n}"),
        created: Timestamp(0),
    }
}

fn birth() -> ClusterState {
    let node = LayoutNode {
        id: NODE,
        disk: DISK,
        address: "node:8000".into(),
        zone: Some("zone".into()),
        host: None,
        weight: 100,
        state: NodeState::Active,
        incarnation: 1,
        supports: Default::default(),
    };
    ClusterState {
        cluster: CLUSTER,
        revision: Epoch(1),
        layout: Layout {
            epoch: Epoch(1),
            redundancy: Redundancy::copies(1),
            metadata_replicas: 1,
            slots: initial_slots(GROUPS),
            nodes: [(NODE, node)].into(),
            groups: (0..=GROUPS)
                .map(|group| (GroupId(group), vec![DISK]))
                .collect(),
        },
        buckets: vec![Bucket::new(
            BucketId::from_bytes([7; 16]),
            BucketName::new("files").unwrap(),
            Timestamp(0),
        )],
        access_keys: vec![
            key(1, ADMIN, Role::Admin),
            key(2, ANNA, Role::User),
            key(3, BERT, Role::User),
        ],
        permit: None,
        next_permit: Epoch(1),
        times: Default::default(),
        active: Default::default(),
    }
}

/// A group that was counted, with nothing in it.
pub fn whole(group: u16) -> GroupCensus {
    GroupCensus {
        group: GroupId(group),
        objects: 0,
        degraded: 0,
        unavailable: 0,
        lost: 0,
        missing: 0,
        silent_disks: 0,
        epoch: Epoch(1),
        time: Timestamp(0),
    }
}

impl Node {
    fn born(clock: Arc<LeapClock>) -> Arc<Self> {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30, 1));
        let store = Store::open(&disk, "state").unwrap();
        let mut batch = store.begin().unwrap();
        for group in (0..=GROUPS).map(GroupId) {
            let mut txn = batch.group(group).unwrap();
            for (key, value) in state::initial_rows(group, &birth()) {
                txn.put(&key, &value).unwrap();
            }
            txn.set_applied(0, 0).unwrap();
        }
        batch.commit(false).unwrap();
        Arc::new(Self {
            clock,
            store,
            index: AtomicU64::new(1),
            fragments: Mutex::default(),
            breaks_downloads: AtomicBool::new(false),
            census: Mutex::new(CensusReport {
                groups: (1..=GROUPS).map(whole).collect(),
                chunks_to_copy: 0,
            }),
        })
    }

    fn status(&self) -> Status {
        let view = self.store.snapshot().unwrap();
        let groups = (0..=GROUPS).map(GroupId).map(|group| {
            let rows = view.group(group);
            GroupStatus {
                group,
                leader: Some(DISK),
                term: 1,
                applied: 1,
                committed: 1,
                voters: vec![DISK.raft_id()],
                learners: Vec::new(),
                matched: BTreeMap::new(),
                totals: state::totals(&rows).unwrap(),
                tasks_due: state::tasks_due(&rows, self.clock.wall()).unwrap(),
                active: true,
            }
        });
        Status {
            node: NODE,
            disk: DISK,
            cluster: Some(CLUSTER),
            incarnation: 1,
            wire_version: 1,
            supports: Default::default(),
            recorded: Some(Default::default()),
            now: self.clock.wall(),
            state: state::read_cluster(&view.group(GroupId::CLUSTER))
                .unwrap()
                .map(Box::new),
            space: DiskStatus {
                capacity: 1 << 40,
                free: 1 << 39,
                ..DiskStatus::default()
            },
            groups: groups.collect(),
            draining: false,
            started: Timestamp(0),
            zone: Some("zone".into()),
            host: None,
            address: "node:8000".into(),
        }
    }

    fn propose(&self, request: ProposeRequest) -> Result<Reply, TransportError> {
        let mut batch = self.store.begin().unwrap();
        let mut txn = batch.group(request.group).unwrap();
        let entry = Batch {
            time: self.clock.wall(),
            commands: vec![CommandRequest {
                id: request.id,
                command: request.command,
            }],
        };
        let mut outcomes = state::apply(&mut txn, &entry).unwrap();
        txn.set_applied(self.index.fetch_add(1, Ordering::SeqCst), 1)
            .unwrap();
        drop(txn);
        batch.commit(false).unwrap();
        reply(Ok(outcomes.remove(0)))
    }

    fn query(&self, request: QueryRequest) -> Result<Reply, TransportError> {
        let view = self.store.snapshot().unwrap();
        let rows = view.group(request.group);
        reply(Ok(
            state::answer(&rows, &request.query, self.clock.wall()).unwrap()
        ))
    }

    async fn upload(&self, call: Call) -> Result<Reply, TransportError> {
        let request: UploadRequest = protocol::decode(&call.head).unwrap();
        let mut blocks = BlockDecoder::default();
        let mut bytes = Vec::new();
        let mut body = call.body.into_stream();
        while let Some(piece) = body.next().await {
            blocks.push(&piece?);
            while let Some(block) = blocks.next_block()? {
                bytes.extend_from_slice(&block);
            }
        }
        blocks.finish()?;
        let len = bytes.len() as u64;
        self.fragments
            .lock()
            .unwrap()
            .insert(request.header.id, bytes.into());
        reply(Ok(Uploaded {
            bytes: len,
            pressed: None,
        }))
    }

    fn download(&self, call: &Call) -> Result<Reply, TransportError> {
        let request: DownloadRequest = protocol::decode(&call.head).unwrap();
        if self.breaks_downloads.load(Ordering::SeqCst) {
            return reply::<Download>(Err(NodeError::ShuttingDown));
        }
        let Some(bytes) = self.fragments.lock().unwrap().get(&request.id).cloned() else {
            return reply::<Download>(Err(NodeError::NoSuchFragment));
        };
        let block = BLOCK_BYTES as u64;
        let first = request.first - request.first % block;
        let end = request.end.next_multiple_of(block).min(bytes.len() as u64);
        let body = encode_blocks(&bytes[first as usize..end as usize]);
        let answer = Download {
            bytes: bytes.len() as u64,
            first,
            generation: holdfast_model::Generation(1),
            carried: None,
            pressed: None,
        };
        Ok(Reply {
            head: protocol::encode_result(&Ok(answer)),
            body: CallBody::Full(body),
        })
    }

    fn backup(&self, call: &Call) -> Result<Reply, TransportError> {
        let request: BackupRequest = protocol::decode(&call.head).unwrap();
        let view = self.store.snapshot().unwrap();
        let mut rows = Vec::new();
        for row in view.rows(request.group).unwrap() {
            let (key, value) = row.unwrap();
            rows.put_u32(key.len() as u32);
            rows.put_u32(value.len() as u32);
            rows.extend(key);
            rows.extend(value);
        }
        let head = BackupHead {
            group: request.group,
            applied: view.group(request.group).applied().unwrap().unwrap().0,
            term: 1,
        };
        Ok(Reply {
            head: protocol::encode_result(&Ok(head)),
            body: CallBody::Full(rows.into()),
        })
    }
}

fn reply<T: Encode<()>>(answer: Result<T, NodeError>) -> Result<Reply, TransportError> {
    Ok(Reply {
        head: protocol::encode_result(&answer),
        body: CallBody::Empty,
    })
}

struct ToNode(Arc<Node>);

impl Transport for ToNode {
    fn call(&self, _: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let node = self.0.clone();
        async move {
            match call.path {
                protocol::STATUS => reply(Ok(node.status())),
                protocol::PROPOSE => node.propose(protocol::decode(&call.head).unwrap()),
                protocol::QUERY => node.query(protocol::decode(&call.head).unwrap()),
                protocol::UPLOAD => node.upload(call).await,
                protocol::DOWNLOAD => node.download(&call),
                protocol::BACKUP => node.backup(&call),
                protocol::CENSUS => reply(Ok(node.census.lock().unwrap().clone())),
                other => panic!("{other} is not called here"),
            }
        }
        .boxed()
    }
}

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

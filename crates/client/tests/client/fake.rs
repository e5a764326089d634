//! Three nodes in memory that store fragments and answer for groups, with
//! faults to order, in a world of paused time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use holdfast_client::blocks::{BlockDecoder, encode_blocks};
use holdfast_client::{
    Cluster, ClusterError, ClusterSettings, MemoryBudget, ObjectTarget, ObjectWriter, Written,
};
use holdfast_metadata::command::{Command, Outcome};
use holdfast_metadata::protocol::{
    self, BLOCK_BYTES, Deleted, DiskStatus, Download, DownloadRequest, FragmentIds, GroupStatus,
    NodeError, ProposeRequest, QueryRequest, Status, UploadRequest, Uploaded,
};
use holdfast_metadata::query::{Answer, Query, Totals};
use holdfast_model::layout::initial_slots;
use holdfast_model::{
    BucketId, Chunk, ClusterId, ClusterState, DiskId, Epoch, FragmentId, Generation, GroupId,
    Layout, LayoutNode, NodeId, NodeState, ObjectKey, ObjectRecord, Redundancy, Representation,
    RequestId, Timestamp, UploadId, VersionId,
};
use holdfast_runtime::host::system::TokioTasks;
use holdfast_runtime::{
    Address, Body, Call, Clock, Entropy, Env, Reply, Shutdown, Transport, TransportError,
};
use minicbor::Encode;
use tokio::time::Instant;

pub const GROUP: GroupId = GroupId(1);
pub const GENERATION: Generation = Generation(7);

/// What is wrong with a node.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub enum Fault {
    #[default]
    None,
    /// Nobody listens.
    Dead,
    /// Connections break after so many bytes of a fragment, either way.
    BreaksAfter(usize),
    /// Nothing more is taken or given after so many bytes of a fragment.
    StallsAfter(usize),
    /// A bit of what it sends flips at this byte.
    FlipsAt(usize),
    /// It says that its fragments are corrupt.
    Corrupt,
    /// It does what it is asked, and its answer gets lost.
    LosesAnswers,
    /// It is too busy for commands.
    Busy,
    /// It takes calls and never answers.
    Silent,
}

#[derive(Default)]
pub struct Node {
    pub fault: Fault,
    pub fragments: BTreeMap<FragmentId, Bytes>,
    pub downloads: usize,
}

#[derive(Default)]
pub struct World {
    pub nodes: BTreeMap<u8, Node>,
    pub leader: Option<u8>,
    /// Whom nodes that do not lead point to.
    pub hint: Option<u8>,
    pub rows: BTreeMap<(UploadId, u32), Chunk>,
    pub commands: Vec<(RequestId, Command)>,
    pub attempts: usize,
    /// The record that the group has of the object.
    pub record: Option<ObjectRecord>,
}

#[derive(Clone)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    start: Instant,
    random: Arc<AtomicU64>,
}

pub fn disk(n: u8) -> DiskId {
    DiskId::from_bytes([n; 16])
}

fn address(n: u8) -> Address {
    Address(format!("node{n}:8000"))
}

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

impl Clock for Fake {
    fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.monotonic().as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

impl Entropy for Fake {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let n = self
                .random
                .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            *byte = ((n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8;
        }
    }
}

impl Transport for Fake {
    fn call(&self, to: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let (fake, to) = (self.clone(), to.clone());
        async move { fake.answer(to, call).await }.boxed()
    }
}

fn reply<T: Encode<()>>(answer: Result<T, NodeError>) -> Result<Reply, TransportError> {
    Ok(Reply {
        head: protocol::encode_result(&answer),
        body: Body::Empty,
    })
}

fn broken() -> TransportError {
    TransportError::Broken {
        reason: "by order".into(),
    }
}

impl Fake {
    /// Three nodes, of which the first leads all groups.
    pub fn new() -> Self {
        let fake = Self {
            world: Arc::default(),
            start: Instant::now(),
            random: Arc::default(),
        };
        for n in 1..=3 {
            fake.world().nodes.insert(n, Node::default());
        }
        fake.world().leader = Some(1);
        fake.world().hint = Some(1);
        fake
    }

    pub async fn cluster(&self) -> Cluster {
        let cluster = self.begin();
        cluster.wait_ready(Duration::from_secs(10)).await.unwrap();
        cluster
    }

    /// A view that knows of nothing yet.
    pub fn begin(&self) -> Cluster {
        let env = Env {
            clock: Arc::new(self.clone()),
            entropy: Arc::new(self.clone()),
            tasks: Arc::new(TokioTasks),
            transport: Arc::new(self.clone()),
        };
        // Only one node is known at first: the others come from the layout.
        let settings = ClusterSettings::new(vec![address(2)]);
        Cluster::start(env, settings, Shutdown::default())
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn fault(&self, n: u8, fault: Fault) {
        self.world().nodes.get_mut(&n).unwrap().fault = fault;
    }

    pub fn fragments(&self, n: u8) -> usize {
        self.world().nodes[&n].fragments.len()
    }

    pub fn state(&self) -> ClusterState {
        let nodes = (1..=3).map(|n| {
            let id = NodeId::from_bytes([n; 16]);
            let node = LayoutNode {
                id,
                disk: disk(n),
                address: address(n).0,
                zone: Some(format!("zone{n}")),
                host: None,
                weight: 100,
                state: NodeState::Active,
                incarnation: 1,
                supports: Default::default(),
            };
            (id, node)
        });
        let members: Vec<_> = (1..=3).map(disk).collect();
        ClusterState {
            cluster: ClusterId::from_bytes([9; 16]),
            revision: Epoch(1),
            layout: Layout {
                epoch: Epoch(1),
                redundancy: Redundancy::copies(3),
                metadata_replicas: 3,
                slots: initial_slots(1),
                nodes: nodes.collect(),
                groups: [(GroupId::CLUSTER, members.clone()), (GROUP, members)].into(),
            },
            buckets: Vec::new(),
            access_keys: Vec::new(),
            permit: None,
            next_permit: Epoch(1),
            times: Default::default(),
            active: Default::default(),
        }
    }

    fn status(&self, n: u8) -> Status {
        let leader = self.world().leader;
        let group = |group| GroupStatus {
            group,
            leader: leader.map(disk),
            term: 1,
            applied: 1,
            committed: 1,
            voters: Vec::new(),
            learners: Vec::new(),
            matched: BTreeMap::new(),
            totals: Totals::default(),
            tasks_due: 0,
            active: leader == Some(n),
        };
        Status {
            zone: None,
            host: None,
            node: NodeId::from_bytes([n; 16]),
            disk: disk(n),
            cluster: Some(ClusterId::from_bytes([9; 16])),
            incarnation: 1,
            wire_version: 1,
            supports: Default::default(),
            recorded: Some(Default::default()),
            now: self.wall(),
            state: Some(Box::new(self.state())),
            space: DiskStatus {
                capacity: 1 << 40,
                free: 1 << 39,
                ..DiskStatus::default()
            },
            groups: vec![group(GroupId::CLUSTER), group(GROUP)],
            draining: false,
            disk_hangs: false,
            started: Timestamp(0),
            address: address(n).0,
        }
    }

    async fn answer(&self, to: Address, call: Call) -> Result<Reply, TransportError> {
        let n = (1..=3).find(|n| address(*n) == to).unwrap();
        let fault = self.world().nodes[&n].fault;
        if fault == Fault::Dead {
            let reason = "dead".into();
            return Err(TransportError::Connect { to, reason });
        }
        if fault == Fault::Silent {
            std::future::pending::<()>().await;
        }
        match call.path {
            protocol::STATUS => reply(Ok(self.status(n))),
            protocol::UPLOAD => self.upload(n, fault, call).await,
            protocol::DOWNLOAD => self.download(n, fault, &call.head),
            protocol::DELETE => {
                let ids: FragmentIds = protocol::decode(&call.head).unwrap();
                let mut world = self.world();
                let fragments = &mut world.nodes.get_mut(&n).unwrap().fragments;
                let there = |id: &&FragmentId| fragments.remove(*id).is_some();
                let count = ids.ids.iter().filter(there).count() as u32;
                reply(Ok(Deleted { count }))
            }
            protocol::PROPOSE | protocol::QUERY => {
                self.world().attempts += 1;
                if fault == Fault::Busy {
                    let retry_after_millis = 100;
                    return reply::<Outcome>(Err(NodeError::Busy { retry_after_millis }));
                }
                if self.world().leader != Some(n) {
                    let leader = self.world().hint.map(disk);
                    return reply::<Outcome>(Err(NodeError::NotLeader { leader }));
                }
                let answer = if call.path == protocol::PROPOSE {
                    reply(Ok(self.apply(protocol::decode(&call.head).unwrap())))
                } else {
                    reply(Ok(self.look_up(protocol::decode(&call.head).unwrap())))
                };
                if fault == Fault::LosesAnswers {
                    return Err(broken());
                }
                answer
            }
            other => panic!("{other} is not called here"),
        }
    }

    fn apply(&self, request: ProposeRequest) -> Outcome {
        let mut world = self.world();
        if let Command::AppendChunks { upload, chunks } = &request.command {
            for chunk in chunks {
                world.rows.insert((*upload, chunk.index), chunk.clone());
            }
        }
        world.commands.push((request.id, request.command));
        Outcome::Done
    }

    fn look_up(&self, request: QueryRequest) -> Answer {
        match request.query {
            Query::Cluster => Answer::Cluster(Box::new(self.state())),
            Query::Generation => Answer::Generation {
                current: GENERATION,
                floor: Generation(1),
            },
            Query::Chunks {
                upload,
                from,
                limit,
            } => {
                let world = self.world();
                let rows = world.rows.range((upload, from)..=(upload, u32::MAX));
                let chunks = rows.map(|(_, chunk)| chunk.clone());
                Answer::Chunks(chunks.take(limit as usize).collect())
            }
            Query::Object { .. } => Answer::Object {
                record: self.world().record.clone().map(Box::new),
                chunks: Vec::new(),
                now: self.wall(),
            },
            other => panic!("{other:?} is not asked here"),
        }
    }

    async fn upload(&self, n: u8, fault: Fault, call: Call) -> Result<Reply, TransportError> {
        let request: UploadRequest = protocol::decode(&call.head).unwrap();
        assert_eq!(request.disk, disk(n));
        let mut blocks = BlockDecoder::default();
        let mut bytes = Vec::new();
        let mut body = call.body.into_stream();
        while let Some(piece) = body.next().await {
            blocks.push(&piece?);
            while let Some(block) = blocks.next_block()? {
                bytes.extend_from_slice(&block);
            }
            // The fault of now, not of the call's start: nodes die in mid-chunk.
            match self.world().nodes[&n].fault {
                Fault::Dead => return Err(broken()),
                Fault::BreaksAfter(limit) if bytes.len() >= limit => return Err(broken()),
                Fault::StallsAfter(limit) if bytes.len() >= limit => {}
                _ => continue,
            }
            std::future::pending::<()>().await;
        }
        blocks.finish()?;
        let len = bytes.len() as u64;
        assert!(len <= request.max_bytes);
        let mut world = self.world();
        let fragments = &mut world.nodes.get_mut(&n).unwrap().fragments;
        fragments.insert(request.header.id, bytes.into());
        if fault == Fault::LosesAnswers {
            return Err(broken());
        }
        reply(Ok(Uploaded {
            bytes: len,
            pressed: None,
        }))
    }

    fn download(&self, n: u8, fault: Fault, head: &[u8]) -> Result<Reply, TransportError> {
        let request: DownloadRequest = protocol::decode(head).unwrap();
        let mut world = self.world();
        let node = world.nodes.get_mut(&n).unwrap();
        node.downloads += 1;
        if fault == Fault::Corrupt {
            return reply::<Download>(Err(NodeError::Corrupt));
        }
        let Some(bytes) = node.fragments.get(&request.id).cloned() else {
            return reply::<Download>(Err(NodeError::NoSuchFragment));
        };
        let block = BLOCK_BYTES as u64;
        let first = request.first - request.first % block;
        let end = request.end.next_multiple_of(block).min(bytes.len() as u64);
        let mut body = encode_blocks(&bytes[first as usize..end as usize]).to_vec();
        if let Fault::FlipsAt(at) = fault
            && let Some(byte) = body.get_mut(at)
        {
            *byte ^= 0x10;
        }
        let (limit, then) = match fault {
            Fault::BreaksAfter(limit) => (limit, stream::once(async { Err(broken()) }).boxed()),
            Fault::StallsAfter(limit) => (limit, stream::pending().boxed()),
            _ => (usize::MAX, stream::empty().boxed()),
        };
        body.truncate(limit);
        // Pieces that keep to no boundary.
        let pieces: Vec<_> = body.chunks(50_000).map(Bytes::copy_from_slice).collect();
        let pieces = stream::iter(pieces).map(Ok).chain(then);
        Ok(Reply {
            head: protocol::encode_result(&Ok(Download {
                bytes: bytes.len() as u64,
                first,
                generation: GENERATION,
                carried: None,
                pressed: None,
            })),
            body: Body::stream(pieces),
        })
    }

    /// Makes the group know the chunks that were written.
    pub fn commit(&self, written: &Written) {
        let upload = written.representation.uploads().next();
        for chunk in &written.chunks {
            let row = (upload.unwrap(), chunk.index);
            self.world().rows.insert(row, chunk.clone());
        }
    }
}

pub fn writer(cluster: &Cluster) -> ObjectWriter {
    let target = ObjectTarget {
        bucket: BucketId::from_bytes([1; 16]),
        key: ObjectKey::new("object").unwrap(),
        version: VersionId::from_bytes([2; 16]),
        expires: None,
    };
    ObjectWriter::new(cluster, target, None, MemoryBudget::new(64 << 20))
}

/// Writes all of `data` in pieces of `piece` bytes.
pub async fn write(cluster: &Cluster, data: &Bytes, piece: usize) -> Result<Written, ClusterError> {
    let mut writer = writer(cluster);
    for piece in data.chunks(piece) {
        writer.write(data.slice_ref(piece)).await?;
    }
    writer.finish().await
}

pub async fn read(
    cluster: &Cluster,
    size: u64,
    representation: &Representation,
    range: Range<u64>,
) -> Result<Vec<u8>, ClusterError> {
    let budget = MemoryBudget::new(64 << 20);
    let rows = Vec::new();
    let mut all = Vec::new();
    let mut pieces =
        holdfast_client::read_object(cluster, GROUP, size, representation, rows, range, budget);
    while let Some(piece) = pieces.try_next().await? {
        assert!(piece.len() <= 256 << 10);
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

//! The storage node: fragments in a map, groups in the real state machine
//! without Raft, on a clock that can leap.

use super::*;

pub struct Node {
    pub clock: Arc<LeapClock>,
    store: Store,
    index: AtomicU64,
    fragments: Mutex<BTreeMap<FragmentId, Bytes>>,
    pub breaks_downloads: AtomicBool,
    pub census: Mutex<CensusReport>,
}

/// The machine's clock, some time ahead.
pub struct LeapClock {
    real: SystemClock,
    pub ahead: AtomicU64,
}

impl LeapClock {
    pub fn ahead(by: Duration) -> Arc<Self> {
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
    pub fn born(clock: Arc<LeapClock>) -> Arc<Self> {
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
            disk_hangs: false,
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

pub struct ToNode(pub Arc<Node>);

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

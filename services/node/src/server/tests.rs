//! A node behind its listener on loopback, driven past each of its limits: who
//! comes past one is told to come again, what keeps the cluster goes on
//! meanwhile, and all is served again once there is room.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a node on a host, and its clients"
)]

use std::net::SocketAddr;
use std::time::Duration;

use holdfast_blobs::EngineSettings;
use holdfast_client::blocks::encode_blocks;
use holdfast_client::{CallError, StorageNodeClient};
use holdfast_controller::ControllerSettings;
use holdfast_metadata::log::LogSettings;
use holdfast_metadata::protocol::{self, QueryRequest, RaftAnswer, RaftBatch};
use holdfast_model::VersionId;
use holdfast_model::{BucketId, GroupId, ObjectKey, Redundancy, Supported, Timestamp, UploadId};
use holdfast_runtime::host::serve::serve;
use holdfast_runtime::host::tls::Security;
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Address, Call, Disk, Env, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::limits::{DEFAULT_MEMORY_BYTES, LimitSettings};
use crate::node::NodeParts;
use crate::node::join::tests::{PEER, adopt};

const CREDENTIAL: &str = "a credential for tests";
/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(20);
const BYTES: usize = 1_000;

/// A node that belongs to a cluster and listens.
struct Served {
    node: Arc<Node>,
    env: Env,
    address: SocketAddr,
    shutdown: Shutdown,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

fn limits() -> LimitSettings {
    LimitSettings {
        transfers: 2,
        commands: 1,
        looks: 1,
        memory_bytes: DEFAULT_MEMORY_BYTES,
    }
}

async fn served(limits: LimitSettings) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let env = crate::host_env(&Security::plain(CREDENTIAL)).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30, 1));
    adopt(disk.as_ref(), &env);
    let shutdown = Shutdown::default();
    let node = Node::start(NodeParts {
        env: env.clone(),
        disk,
        address: Address(address.to_string()),
        seeds: Vec::new(),
        zone: None,
        host: None,
        supports: Supported::OWN,
        engine: EngineSettings {
            segment_bytes: 64 << 20,
            reserve_bytes: None,
        },
        log: LogSettings {
            file_bytes: 64 << 10,
        },
        controller: ControllerSettings::default(),
        limits,
        on_fatal: Arc::new(|fatal| panic!("{fatal:?}")),
        shutdown: shutdown.clone(),
    });
    let node = node.await.unwrap();
    let front = front(node.clone(), Credential::fixed(CREDENTIAL));
    let end = shutdown.clone();
    tokio::spawn(serve(listener, front, LIMITS, async move {
        end.begun().await;
    }));
    Served {
        node,
        env,
        address,
        shutdown,
    }
}

/// A request that has begun, on a connection of its own.
struct Open(TcpStream);

impl Open {
    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Status and head of the answer.
    async fn answer(mut self) -> (u16, String) {
        let head = async {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                bytes.push(self.0.read_u8().await.unwrap());
            }
            String::from_utf8(bytes).unwrap().to_lowercase()
        };
        let head = tokio::time::timeout(LIMIT, head).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head)
    }
}

impl Served {
    fn client(&self) -> StorageNodeClient {
        let address = Address(self.address.to_string());
        StorageNodeClient::new(self.env.transport.clone(), address)
    }

    async fn open(&self, line: &str, more: &str) -> Open {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {CREDENTIAL}\r\n{more}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Open(stream)
    }

    async fn ask(&self, line: &str) -> (u16, String) {
        self.open(line, "").await.answer().await
    }

    /// An upload of which only the first byte comes.
    async fn begin_upload(&self, number: u8) -> Open {
        let name = id(number);
        let more = format!("holdfast-fragment: {name}\r\ncontent-length: {BYTES}\r\n");
        let mut open = self.open("POST /upload", &more).await;
        open.write(&[7]).await;
        open
    }

    /// A call of the protocol of whose head only a part comes.
    async fn begin_call(&self, path: &str) -> Open {
        let more = format!(
            "content-type: {}\r\ncontent-length: 100\r\n",
            holdfast_runtime::host::http::CALL_TYPE
        );
        let mut open = self.open(&format!("POST {path}"), &more).await;
        open.write(&[0, 0]).await;
        open
    }

    /// Waits until so much of a limit is taken.
    async fn until(&self, of: &str, used: impl Fn(u64) -> bool) {
        let reached = async {
            loop {
                let limits = self.node.limits().view();
                let limit = limits.iter().find(|limit| limit.of == of).unwrap();
                if used(limit.used) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.unwrap();
    }

    /// Has the node take in messages of a peer, and say how it is.
    async fn keeps_the_cluster(&self) {
        let batch = RaftBatch {
            cluster: self.node.identity().cluster.unwrap(),
            from: PEER,
            to: self.node.identity().disk,
            incarnation: 1,
            sent: Timestamp(0),
            messages: Vec::new(),
            knows: None,
            starts: Vec::new(),
        };
        let call = Call {
            path: protocol::RAFT,
            head: protocol::encode(&batch),
            body: Body::Empty,
            deadline: LIMIT,
            request_id: None,
        };
        let to = Address(self.address.to_string());
        let reply = self.env.transport.call(&to, call).await.unwrap();
        protocol::decode_result::<RaftAnswer>(&reply.head)
            .unwrap()
            .unwrap();
        self.client().status().await.unwrap();
        assert_eq!(self.ask("GET /health").await.0, 200);
    }
}

fn id(number: u8) -> FragmentId {
    FragmentId {
        group: GroupId(1),
        upload: UploadId::from_bytes([number; 16]),
        chunk: 0,
        index: 0,
    }
}

fn is_busy<T>(result: &Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::Node(NodeError::Busy { .. })))
}

fn refused((status, head): (u16, String)) {
    assert_eq!(status, 503, "{head}");
    assert!(head.contains("retry-after: 1"), "{head}");
}

fn reading(served: &Served, number: u8) -> DownloadRequest {
    DownloadRequest {
        disk: served.node.identity().disk,
        id: id(number),
        first: 0,
        end: 10,
        copy: false,
    }
}

#[tokio::test]
async fn past_its_transfers_a_node_says_so_and_goes_on_when_they_end() {
    let served = served(limits()).await;
    let mut open = [served.begin_upload(1).await, served.begin_upload(2).await];
    served.until("node_transfers", |used| used == 2).await;
    refused(served.ask(&format!("GET /download/{}", id(9))).await);
    let client = served.client();
    let download = client.download(&reading(&served, 9), None).await;
    assert!(is_busy(&download.map(|_| ())));
    // Before anything of it is read.
    refused(served.begin_upload(3).await.answer().await);
    served.keeps_the_cluster().await;
    assert_eq!(served.ask("GET /files").await.0, 200);
    for one in &mut open {
        one.write(&[7; BYTES - 1]).await;
    }
    for one in open {
        assert_eq!(one.answer().await.0, 201);
    }
    served.until("node_transfers", |used| used == 0).await;
    assert_eq!(served.ask(&format!("GET /download/{}", id(1))).await.0, 200);
}

#[tokio::test]
async fn fragments_wait_for_memory_and_no_longer_than_two_seconds() {
    let limits = LimitSettings {
        transfers: 10,
        // Two uploads.
        memory_bytes: 1 << 20,
        ..limits()
    };
    let served = served(limits).await;
    let mut first = served.begin_upload(1).await;
    let second = served.begin_upload(2).await;
    served
        .until("node_transfer_bytes", |used| used == 1 << 20)
        .await;
    refused(served.begin_upload(3).await.answer().await);
    served.keeps_the_cluster().await;
    // Repair has memory of its own.
    let request = DownloadRequest {
        copy: true,
        ..reading(&served, 9)
    };
    let copy = served.client().download(&request, None).await;
    assert!(
        matches!(copy, Err(CallError::Node(NodeError::NoSuchFragment))),
        "{:?}",
        copy.map(|_| ())
    );
    let mut third = served.begin_upload(3).await;
    served.until("node_transfers", |used| used == 3).await;
    first.write(&[7; BYTES - 1]).await;
    assert_eq!(first.answer().await.0, 201);
    third.write(&[7; BYTES - 1]).await;
    assert_eq!(third.answer().await.0, 201);
    drop(second);
    served.until("node_transfer_bytes", |used| used == 0).await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_holds_its_place_and_memory_until_it_goes() {
    let served = served(LimitSettings {
        transfers: 1,
        ..limits()
    })
    .await;
    let data = vec![5; 8 << 20];
    let request = UploadRequest {
        disk: served.node.identity().disk,
        header: FragmentHeader {
            id: id(1),
            cluster: served.node.identity().cluster.unwrap(),
            bucket: BucketId::from_bytes([1; 16]),
            version: VersionId::from_bytes([1; 16]),
            redundancy: Redundancy::copies(3),
            stripe_bytes: 256 << 10,
            generation: Generation(1),
            encryption_key: None,
        },
        max_bytes: data.len() as u64,
        key: None,
        expires: None,
        copy: false,
    };
    let body = Body::Full(encode_blocks(&data));
    served.client().upload(&request, body, None).await.unwrap();
    served.until("node_transfers", |used| used == 0).await;
    let reader = served.open(&format!("GET /download/{}", id(1)), "").await;
    served.until("node_transfer_bytes", |used| used > 0).await;
    refused(served.ask(&format!("GET /download/{}", id(1))).await);
    drop(reader);
    served.until("node_transfers", |used| used == 0).await;
    served.until("node_transfer_bytes", |used| used == 0).await;
    assert_eq!(served.ask(&format!("GET /download/{}", id(1))).await.0, 200);
}

#[tokio::test]
async fn past_its_looks_a_node_says_so_and_goes_on_when_they_end() {
    let served = served(limits()).await;
    let open = served.begin_call(protocol::DIGESTS).await;
    served.until("node_looks", |used| used == 1).await;
    refused(served.ask("GET /files").await);
    refused(served.ask(&format!("DELETE /delete/{}", id(1))).await);
    served.keeps_the_cluster().await;
    assert_eq!(served.ask(&format!("GET /download/{}", id(1))).await.0, 404);
    drop(open);
    served.until("node_looks", |used| used == 0).await;
    assert_eq!(served.ask("GET /files").await.0, 200);
}

#[tokio::test]
async fn past_its_commands_a_node_says_so_and_goes_on_when_they_end() {
    let served = served(limits()).await;
    let open = served.begin_call(protocol::PROPOSE).await;
    served.until("node_commands", |used| used == 1).await;
    let query = QueryRequest {
        group: GroupId(1),
        query: holdfast_metadata::query::Query::Object {
            bucket: BucketId::from_bytes([1; 16]),
            key: ObjectKey::new("a").unwrap(),
            chunks: 1,
        },
    };
    let client = served.client();
    assert!(is_busy(&client.query(&query, LIMIT, None).await));
    served.keeps_the_cluster().await;
    drop(open);
    served.until("node_commands", |used| used == 0).await;
    let answer = client.query(&query, LIMIT, None).await;
    assert!(
        matches!(answer, Err(CallError::Node(NodeError::NoSuchGroup))),
        "{answer:?}"
    );
}

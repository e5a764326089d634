//! What one peer's task says and takes of starts, against a peer that answers
//! as a test tells it to.

use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_runtime::{Address, Reply, Transport, TransportError, still};

use super::*;
use crate::protocol::{DiskStart, encode_result};

const OWN: DiskId = DiskId::from_bytes([4; 16]);
const PEER: DiskId = DiskId::from_bytes([3; 16]);
const OTHER: DiskId = DiskId::from_bytes([9; 16]);

/// Keeps what it was sent, and gives the next answer, or the empty one.
#[derive(Default)]
struct Answering {
    sent: Mutex<Vec<RaftBatch>>,
    next: Mutex<Option<RaftAnswer>>,
}

impl Transport for Answering {
    fn call(&self, _: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let batch = protocol::decode(&call.head).unwrap();
        self.sent.lock().unwrap().push(batch);
        let next = self.next.lock().unwrap().take();
        let answer = next.unwrap_or_else(|| answer(1, &[]));
        let head = encode_result(&Ok(answer));
        let body = Body::Empty;
        std::future::ready(Ok(Reply { head, body })).boxed()
    }
}

fn answer(incarnation: u64, starts: &[DiskStart]) -> RaftAnswer {
    RaftAnswer {
        received: Timestamp(0),
        incarnation,
        messages: Vec::new(),
        starts: starts.to_vec(),
    }
}

fn start(disk: DiskId, incarnation: u64) -> DiskStart {
    DiskStart {
        member: disk.raft_id(),
        incarnation,
    }
}

struct Pair {
    sender: Sender,
    peer: Arc<Answering>,
    _events: mpsc::Receiver<Event>,
}

impl Pair {
    /// This disk, in its first start, and a peer whose first one it knows.
    fn new() -> Self {
        let peer = Arc::new(Answering::default());
        let mut env = still::env(1);
        env.transport = peer.clone();
        let (inbox, events) = mpsc::channel(8);
        let identity = Identity {
            cluster: ClusterId::from_bytes([1; 16]),
            disk: OWN,
            incarnation: 1,
        };
        let book = Arc::new(AddressBook::default());
        book.begin(&identity);
        book.know(PEER.raft_id(), PEER, 1);
        let sender = Sender {
            env,
            identity,
            to: PEER.raft_id(),
            book,
            inbox,
            clock_seen: Arc::new(|_, _| {}),
            agreed: None,
        };
        Self {
            sender,
            peer,
            _events: events,
        }
    }

    /// Sends a batch that is answered so; returns what was told of starts.
    async fn send(&mut self, answer: Option<RaftAnswer>) -> Vec<DiskStart> {
        *self.peer.next.lock().unwrap() = answer;
        self.sender.send(Vec::new()).await.unwrap();
        let batch = self.peer.sent.lock().unwrap().pop().unwrap();
        batch.starts
    }
}

#[tokio::test]
async fn a_peer_is_told_of_starts_once_and_after_each_change() {
    let mut pair = Pair::new();
    let known = vec![start(PEER, 1), start(OWN, 1)];
    assert_eq!(pair.send(None).await, known);
    assert_eq!(pair.send(None).await, vec![]);
    pair.sender.book.hear(&[start(OTHER, 2)]);
    assert!(pair.send(None).await.contains(&start(OTHER, 2)));
    assert_eq!(pair.send(None).await, vec![]);
}

#[tokio::test]
async fn a_peer_that_knows_otherwise_is_heard_and_told_again() {
    let mut pair = Pair::new();
    pair.send(None).await;
    // It was started anew and has forgotten what it was told.
    let forgot = answer(2, &[start(PEER, 2), start(OTHER, 5)]);
    assert_eq!(pair.send(Some(forgot)).await, vec![]);
    assert_eq!(pair.sender.book.incarnation(OTHER.raft_id()), 5);
    assert_eq!(pair.sender.book.incarnation(PEER.raft_id()), 2);
    let told = pair.send(Some(answer(2, &[]))).await;
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(pair.send(Some(answer(2, &[start(PEER, 2)]))).await, vec![]);
    let told = pair.send(Some(answer(2, &[]))).await;
    assert_eq!(told.len(), 3, "it knew less, and nothing new: {told:?}");
}

#[tokio::test]
async fn an_answer_of_an_older_copy_is_not_taken_and_it_is_told_of_the_newer_start() {
    let mut pair = Pair::new();
    pair.sender.book.hear(&[start(PEER, 3)]);
    let copy = answer(2, &[start(OTHER, 5)]);
    *pair.peer.next.lock().unwrap() = Some(copy);
    assert!(pair.sender.send(Vec::new()).await.is_err());
    assert_eq!(pair.sender.book.incarnation(OTHER.raft_id()), 0);
    let sent = pair.peer.sent.lock().unwrap().pop().unwrap();
    assert!(sent.starts.contains(&start(PEER, 3)));
}

#[tokio::test]
async fn an_older_copy_of_a_disk_sends_nothing_once_it_knows() {
    let mut pair = Pair::new();
    pair.sender.book.hear(&[start(OWN, 2)]);
    assert!(pair.sender.send(Vec::new()).await.is_err());
    assert_eq!(pair.peer.sent.lock().unwrap().len(), 0);
}

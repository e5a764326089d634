//! How the sending of a snapshot ends, whatever its receiver does, and how its
//! staging does on a disk that is full or has failed.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_model::{ClusterId, DiskId};
use holdfast_runtime::memory_disk::MemoryDisk;
use holdfast_runtime::{Address, Disk, Reply, Transport, still};
use raft::eraftpb::MessageType;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::log::LogEnd;
use crate::raft::applier::write_members;

const GROUP: GroupId = GroupId(2);
const OWN: DiskId = DiskId::from_bytes([4; 16]);
const PEER: DiskId = DiskId::from_bytes([3; 16]);
/// Rows of the group: each makes a piece of its own.
const ROWS: u8 = 4;

/// A receiver that takes so many pieces, each after a while, and answers when
/// it has seen the end.
struct Receiver {
    takes: usize,
    after: Duration,
}

impl Transport for Receiver {
    fn call(&self, _: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let (takes, after) = (self.takes, self.after);
        async move {
            let mut pieces = call.body.into_stream();
            for _ in 0..takes {
                tokio::time::sleep(after).await;
                if pieces.next().await.is_none() {
                    tokio::time::sleep(after).await;
                    let head = protocol::encode_result(&Ok(()));
                    let body = Body::Empty;
                    return Ok(Reply { head, body });
                }
            }
            // The connection is dead, and nobody says so.
            std::future::pending().await
        }
        .boxed()
    }
}

fn store() -> Arc<Store> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30, 1));
    let store = Store::open(&disk, "state").unwrap();
    let mut batch = store.begin_bulk().unwrap();
    let mut txn = batch.group(GROUP).unwrap();
    for row in 0..ROWS {
        txn.put(&[row], &vec![row; PIECE_BYTES]).unwrap();
    }
    let end = LogEnd { index: 6, term: 1 };
    write_members(&mut txn, end, &wire::Members::default()).unwrap();
    drop(txn);
    batch.commit(true).unwrap();
    Arc::new(store)
}

/// Sends a snapshot; what Raft is told of it, and when.
async fn sent_to(receiver: Receiver) -> (bool, Duration) {
    let begun = Instant::now();
    let mut env = still::env(1);
    env.clock = still::paused_clock();
    env.transport = Arc::new(receiver);
    let (inbox, mut events) = mpsc::channel(8);
    let book = Arc::new(AddressBook::default());
    book.know(PEER.raft_id(), PEER, 1);
    let identity = Identity {
        cluster: ClusterId::from_bytes([1; 16]),
        disk: OWN,
        incarnation: 1,
    };
    let parts = SendParts {
        env,
        identity,
        store: store(),
        book,
        inbox,
    };
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgSnapshot);
    (message.from, message.to) = (OWN.raft_id(), PEER.raft_id());
    send(parts, GROUP, message);
    let told = tokio::time::timeout(SEND_DEADLINE, events.recv()).await;
    let Ok(Some(Event::SnapshotSent { group, to, done })) = told else {
        panic!("Raft sends this member nothing any more");
    };
    assert_eq!((group, to), (GROUP, PEER.raft_id()));
    (done, begun.elapsed())
}

/// A call may be lost, and its answer, while the receiver goes on: it is not
/// started anew, so that nothing but the time tells.
#[tokio::test(start_paused = true)]
async fn a_snapshot_whose_call_or_answer_is_lost_is_given_up_soon() {
    for takes in [0, 1, usize::from(ROWS)] {
        let after = Duration::from_secs(1);
        let (done, took) = sent_to(Receiver { takes, after }).await;
        let quiet = took.saturating_sub(after * takes as u32);
        assert!(!done, "{takes}");
        assert!(
            quiet <= QUIET_DEADLINE + LOOK_EVERY * 2,
            "{takes}: {took:?}"
        );
    }
}

/// Only quiet ends it: a long snapshot over a slow link goes through.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_taken_slowly_goes_through() {
    let after = PIECE_DEADLINE;
    let takes = usize::MAX;
    let (done, took) = sent_to(Receiver { takes, after }).await;
    assert!(done);
    assert!(took > QUIET_DEADLINE * 2, "{took:?}");
}

/// Stages rows of 4 MiB on a disk; what the sender is told, and what ends the
/// receiver.
async fn staged_on(harm: impl FnOnce(&MemoryDisk)) -> (Result<(), NodeError>, Option<Fatal>) {
    let memory = MemoryDisk::new(1 << 30, 1);
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let store = Arc::new(Store::open(&disk, "state").unwrap());
    let source = self::store();
    let rows = open_rows(&source, GROUP).unwrap().rows;
    harm(&memory);
    let ended = Arc::new(std::sync::Mutex::new(None));
    let end = ended.clone();
    let on_fatal: OnFatal = Arc::new(move |fatal| *end.lock().unwrap() = Some(fatal));
    let mut env = still::env(1);
    env.clock = still::paused_clock();
    let body = Body::stream(row_pieces(env.clone(), rows));
    let place = Stage {
        env: &env,
        store: &store,
        on_fatal: &on_fatal,
    };
    let told = stage(&place, GROUP, body).await;
    let ended = ended.lock().unwrap().take();
    (told, ended)
}

#[tokio::test(start_paused = true)]
async fn staging_that_finds_no_room_or_a_failed_disk_says_so_and_ends_the_process() {
    assert_eq!(staged_on(|_| ()).await, (Ok(()), None));
    // Rows in the file lie in memory until the next sync, which is that of the rows after.
    let (told, ended) = staged_on(|disk| disk.set_free(8 << 10)).await;
    assert_eq!(told, Err(NodeError::DiskFull));
    assert!(matches!(ended, Some(Fatal::NoRoom(_))), "{ended:?}");
    let (told, ended) = staged_on(MemoryDisk::refuse_changes).await;
    assert_eq!(told, Err(NodeError::DiskFailed));
    assert!(matches!(ended, Some(Fatal::DiskFailed(_))), "{ended:?}");
}

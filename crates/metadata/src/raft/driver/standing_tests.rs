//! What the loop says of how it stands: how far its members are behind, and
//! whether it and the log's writer move.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use holdfast_model::Timestamp;
use holdfast_runtime::pulse::WatchedDisk;
use holdfast_runtime::{Body, Clock, TransportError, still};
use raft::eraftpb::{Message, MessageType};

use super::tests::{A, B, IDENTITY, NEW, born, parts};
use super::*;
use crate::protocol::{self, GroupMessage, RaftBatch};

/// A clock that a test turns by hand.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

/// The loop of a node by that clock; nothing of it runs by itself.
fn driver(hand: &Hand) -> Driver {
    let mut parts = parts(&born());
    parts.env.clock = Arc::new(hand.clone());
    parts.pulse = Arc::new(Pulse::new(parts.env.clock.clone()));
    parts.calls = WatchedDisk::new(parts.disk.clone(), parts.env.clock.clone()).calls();
    let (inbox, _) = mpsc::channel(MAX_INBOX);
    let (work, _) = mpsc::unbounded_channel();
    Driver::open(parts, inbox, work).unwrap()
}

fn message(kind: MessageType) -> Message {
    let mut message = Message::default();
    message.set_msg_type(kind);
    (message.from, message.to) = (NEW.raft_id(), IDENTITY.disk.raft_id());
    message.term = 9;
    message
}

/// An append after entries that the member lacks, of a leader that has committed
/// so many.
fn append(commit: u64) -> Message {
    let mut message = message(MessageType::MsgAppend);
    (message.index, message.log_term, message.commit) = (commit, 9, commit);
    message
}

fn is_far(driver: &Driver, id: GroupId) -> bool {
    driver.publish_status();
    driver.shared.lags()[&id].is_far()
}

#[tokio::test]
async fn a_member_is_far_behind_from_what_its_leader_announces_until_it_has_applied_it() {
    let mut driver = driver(&Hand::default());
    assert!(!is_far(&driver, A), "nobody has spoken to it");
    let mut heartbeat = message(MessageType::MsgHeartbeat);
    heartbeat.commit = 1;
    driver.on_message(A, heartbeat);
    assert!(!is_far(&driver, A), "it has all that it knows of");
    driver.on_message(A, append(5_000));
    assert!(is_far(&driver, A));
    assert!(!is_far(&driver, B));
    driver.groups.get_mut(&A).unwrap().applied.index = 3_999;
    assert!(is_far(&driver, A));
    driver.groups.get_mut(&A).unwrap().applied.index = 4_000;
    assert!(!is_far(&driver, A));
    // While a snapshot is installed nothing is stepped, and all is heard.
    driver.groups.get_mut(&A).unwrap().installing = Some(1);
    driver.on_message(A, append(9_000));
    assert!(is_far(&driver, A));
    let group = driver.groups.get_mut(&A).unwrap();
    (group.installing, group.applied.index) = (None, 7_000);
    assert!(is_far(&driver, A), "it has heard of 9,000");
}

#[tokio::test]
async fn a_round_that_is_not_written_is_told_though_the_loop_comes_round() {
    let hand = Hand::default();
    let mut parts = parts(&born());
    parts.env.clock = Arc::new(hand.clone());
    parts.pulse = Arc::new(Pulse::new(parts.env.clock.clone()));
    let pulse = parts.pulse.clone();
    let (inbox, _events) = mpsc::channel(MAX_INBOX);
    let (work, _work) = mpsc::unbounded_channel();
    let mut driver = Driver::open(parts, inbox, work).unwrap();
    let turn = |driver: &mut Driver| {
        driver.turns.moved();
        driver.on_tick();
    };
    hand.pass(600);
    turn(&mut driver);
    assert_eq!(pulse.still(), None, "an idle writer moves");
    let (written, receiver) = oneshot::channel();
    driver.writing = Some(receiver);
    hand.pass(31);
    turn(&mut driver);
    let still = pulse.still().unwrap().to_string();
    assert_eq!(still, "the writer of the Raft log has not moved for 31 s");
    let error = std::io::Error::other("for the sake of an end");
    assert!(written.send(Err(error.into())).is_ok());
    let ended = wait_written(&mut driver.writing).await;
    assert!(matches!(ended, Some(Err(_))));
    turn(&mut driver);
    assert_eq!(pulse.still(), None);
    hand.pass(31);
    driver.on_tick();
    assert_eq!(pulse.still().unwrap().part, "the Raft loop");
}

#[tokio::test]
async fn a_disk_that_hangs_is_told_by_the_round_or_by_any_call_until_it_moves() {
    let hand = Hand::default();
    let mut driver = driver(&hand);
    let hangs = |driver: &mut Driver| {
        driver.on_tick();
        driver.shared.disk_hangs()
    };
    hand.pass(600);
    assert!(!hangs(&mut driver), "an idle disk moves");
    let (_written, receiver) = oneshot::channel();
    driver.writing = Some(receiver);
    hand.pass(2);
    assert!(!hangs(&mut driver));
    hand.pass(1);
    assert!(hangs(&mut driver), "nothing can be applied");
    driver.writing = None;
    assert!(!hangs(&mut driver));
    driver.calls.clone().during("read", &"state".into(), || {
        hand.pass(9);
        assert!(!hangs(&mut driver));
        hand.pass(1);
        assert!(hangs(&mut driver), "who reads waits as well");
    });
    assert!(!hangs(&mut driver));
}

/// The head of a snapshot of group [`A`], of all up to that index.
fn head(index: u64) -> Bytes {
    let mut snapshot = message(MessageType::MsgSnapshot);
    snapshot.mut_snapshot().mut_metadata().index = index;
    protocol::encode(&RaftBatch {
        cluster: IDENTITY.cluster,
        from: NEW,
        to: IDENTITY.disk,
        incarnation: 1,
        sent: Timestamp(0),
        messages: vec![GroupMessage {
            group: A,
            message: wire::encode_message(&snapshot).unwrap(),
        }],
        knows: None,
        starts: Vec::new(),
    })
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "a call beside the test")]
async fn a_member_that_receives_a_snapshot_is_far_behind_and_stays_so_when_it_breaks_off() {
    let mut parts = parts(&born());
    parts.env.clock = still::paused_clock();
    let groups = Groups::start(parts).unwrap();
    let ticks = || tokio::time::sleep(Duration::from_secs(1));
    ticks().await;
    assert!(!groups.lags()[&A].is_far());

    let (pieces, mut receiver) = mpsc::unbounded_channel();
    let body = Body::Stream(stream::poll_fn(move |turn| receiver.poll_recv(turn)).boxed());
    let receiving = groups.clone();
    let near = head(2);
    let call = tokio::spawn(async move { receiving.receive_snapshot(&near, body).await });
    ticks().await;
    assert_eq!(groups.lags()[&A].to_string(), "takes in a snapshot");
    let broken = TransportError::Broken {
        reason: "hung up".into(),
    };
    pieces.send(Err(broken)).unwrap();
    assert!(call.await.unwrap().is_err());
    ticks().await;
    assert!(!groups.lags()[&A].is_far(), "it lacked next to nothing");

    let cut = Body::Full(Bytes::from_static(b"cut"));
    assert!(groups.receive_snapshot(&head(7_000), cut).await.is_err());
    ticks().await;
    assert!(groups.lags()[&A].is_far(), "it lacks all of it as before");
}

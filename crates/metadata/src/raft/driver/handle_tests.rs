//! What the handle to the loop does with a caller that hangs up.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use holdfast_model::Timestamp;
use holdfast_runtime::{Body, TransportError};
use raft::eraftpb::{Message, MessageType};

use super::tests::{A, IDENTITY, NEW, born, parts};
use super::*;
use crate::protocol::{self, GroupMessage, RaftBatch};
use crate::raft::MAX_WAITING;

type Pieces = mpsc::UnboundedSender<Result<Bytes, TransportError>>;

/// The head of a snapshot of group [`A`].
fn head() -> Bytes {
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgSnapshot);
    (message.from, message.to) = (NEW.raft_id(), IDENTITY.disk.raft_id());
    protocol::encode(&RaftBatch {
        cluster: IDENTITY.cluster,
        from: NEW,
        to: IDENTITY.disk,
        incarnation: 1,
        sent: Timestamp(0),
        messages: vec![GroupMessage {
            group: A,
            message: wire::encode_message(&message).unwrap(),
        }],
        knows: None,
        starts: Vec::new(),
    })
}

/// A body that a test gives piece by piece.
fn body() -> (Pieces, Body) {
    let (pieces, receiver) = mpsc::unbounded_channel();
    let next = |mut receiver: mpsc::UnboundedReceiver<_>| async {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    };
    (pieces, Body::Stream(stream::unfold(receiver, next).boxed()))
}

async fn run_others() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// What a snapshot's rows are staged under belongs to it until it is done, also
/// when its sender has given it up: the next one would write over rows that are
/// being written or installed.
#[tokio::test]
async fn a_sender_that_hangs_up_does_not_let_the_next_snapshot_among_its_rows() {
    let groups = Groups::start(parts(&born())).unwrap();
    let (pieces, first) = body();
    {
        let head = head();
        let mut call = Box::pin(groups.receive_snapshot(&head, first));
        assert!(call.as_mut().now_or_never().is_none());
        run_others().await;
    }
    let busy = groups.receive_snapshot(&head(), Body::Empty).await;
    assert!(matches!(busy, Err(NodeError::Busy { .. })), "{busy:?}");
    let broken = TransportError::Broken {
        reason: "hung up".into(),
    };
    pieces.send(Err(broken)).unwrap();
    run_others().await;
    groups.receive_snapshot(&head(), Body::Empty).await.unwrap();
}

/// All that waits is counted together, in whichever group it waits.
#[tokio::test]
async fn past_what_may_wait_in_a_node_commands_and_queries_are_told_to_come_again() {
    let groups = Groups::start(parts(&born())).unwrap();
    let query = |group: u16| QueryRequest {
        group: GroupId(group),
        query: crate::query::Query::Totals,
    };
    let command = |group: u16| ProposeRequest {
        group: GroupId(group),
        id: holdfast_model::RequestId::from_bytes([1; 16]),
        command: crate::command::Command::Tick,
    };
    let waiting: Vec<_> = (0..MAX_WAITING)
        .map(|n| {
            let mut call = Box::pin(groups.query(query(n as u16 % 16)));
            assert!(call.as_mut().now_or_never().is_none(), "{n}");
            call
        })
        .collect();
    let asked = groups.query(query(99)).now_or_never();
    assert!(
        matches!(asked, Some(Err(NodeError::Busy { .. }))),
        "{asked:?}"
    );
    let told = groups.propose(command(99)).now_or_never();
    assert!(
        matches!(told, Some(Err(NodeError::Busy { .. }))),
        "{told:?}"
    );
    run_others().await;
    // Some group may go on waiting for its leader; no other does.
    drop(waiting);
    let after = groups.query(query(99)).await;
    assert_eq!(after.unwrap_err(), NodeError::NoSuchGroup);
}

//! The upload of one fragment, as a task of its own.
//!
//! Stripes go in through a queue of one, so that a slow node holds its sender
//! back. The body ends well only after [`Piece::End`]; when the upload
//! is dropped before, the body ends with an error and the call is cut off, so
//! that no node takes a part of a fragment for the whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use holdfast_metadata::protocol::UploadRequest;
use holdfast_model::DiskId;
use holdfast_runtime::{Body, Clock, Env, TransportError};
use tokio::sync::{mpsc, oneshot};

use crate::blocks::WAIT;
use crate::error::CallError;
use crate::node::StorageNodeClient;

/// How often a sender that has nothing to send says so: well below the 10 s
/// after which a silent connection counts as broken.
const WAIT_EVERY: Duration = Duration::from_secs(3);

/// A stripe's column as it travels: blocks, each a header and its bytes.
pub(super) type Column = Arc<[Bytes]>;

/// What goes to a fragment next.
#[derive(Clone)]
pub(super) enum Piece {
    /// A stripe's column.
    Column(Column),
    /// All has been sent; the node may make it durable.
    End,
}

/// What became of an upload.
pub(super) struct Answered {
    /// The bytes that the node says it has, durably.
    pub result: Result<u64, CallError>,
    /// When, by the monotonic clock.
    pub at: Duration,
}

/// An upload that goes on. Dropping it cuts it off.
pub(super) struct FragmentUpload {
    pub index: u8,
    pub disk: DiskId,
    pieces: mpsc::Sender<Piece>,
    pub answer: oneshot::Receiver<Answered>,
}

impl FragmentUpload {
    pub fn start(
        env: &Env,
        node: StorageNodeClient,
        request: UploadRequest,
        trace: Option<String>,
    ) -> Self {
        let (pieces, queue) = mpsc::channel(1);
        let (mut answering, answer) = oneshot::channel();
        let (index, disk) = (request.header.id.index, request.disk);
        let clock = Arc::clone(&env.clock);
        let body = body(Arc::clone(&clock), queue);
        env.tasks.spawn(
            "fragment-upload",
            Box::pin(async move {
                let result = tokio::select! {
                    biased;
                    result = node.upload(&request, body, trace.as_deref()) => result,
                    // Nobody waits for it any longer.
                    () = answering.closed() => return,
                };
                let at = clock.monotonic();
                let result = result.map(|uploaded| uploaded.bytes);
                // Nobody waits any longer: the fragment is an orphan, and
                // cleaned up as one.
                let _ = answering.send(Answered { result, at });
            }),
        );
        Self {
            index,
            disk,
            pieces,
            answer,
        }
    }

    /// Sends a piece, waiting while the node is behind. False when the upload
    /// has ended.
    pub async fn send(&self, piece: Piece) -> bool {
        self.pieces.send(piece).await.is_ok()
    }
}

struct Outgoing {
    clock: Arc<dyn Clock>,
    queue: mpsc::Receiver<Piece>,
    column: Column,
    next: usize,
    ended: bool,
}

fn body(clock: Arc<dyn Clock>, queue: mpsc::Receiver<Piece>) -> Body {
    let start = Outgoing {
        clock,
        queue,
        column: Arc::new([]),
        next: 0,
        ended: false,
    };
    Body::stream(stream::unfold(start, |mut out| async {
        if out.ended {
            return None;
        }
        loop {
            if let Some(bytes) = out.column.get(out.next).cloned() {
                out.next += 1;
                return Some((Ok(bytes), out));
            }
            out.column = Arc::new([]);
            let piece = tokio::select! {
                biased;
                piece = out.queue.recv() => piece,
                () = out.clock.sleep(WAIT_EVERY) => {
                    return Some((Ok(Bytes::from_static(&WAIT)), out));
                }
            };
            match piece {
                Some(Piece::Column(column)) => {
                    out.column = column;
                    out.next = 0;
                }
                Some(Piece::End) => return None,
                None => {
                    out.ended = true;
                    let reason = "the upload was given up".into();
                    return Some((Err(TransportError::Broken { reason }), out));
                }
            }
        }
    }))
}

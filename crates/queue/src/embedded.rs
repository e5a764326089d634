//! A queue in the process. It is lost with it, which is no more than a broker
//! may do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_runtime::{Env, Shutdown};
use tokio::sync::Notify;

use crate::{Consumer, Delivery, Queue, QueueError, REJECT_DELAY, Settle, TaskHint};

/// The most hints that wait; more than the groups of a small cluster publish.
const MAX_WAITING: usize = 20_000;

/// A bounded queue in memory.
#[derive(Clone)]
pub struct EmbeddedQueue {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    shutdown: Shutdown,
    // Held for a push or a pop, never across an await.
    waiting: Mutex<VecDeque<TaskHint>>,
    arrived: Notify,
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<TaskHint>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, hint: TaskHint) -> Result<(), QueueError> {
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITING {
            return Err(QueueError::Full);
        }
        waiting.push_back(hint);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }
}

impl EmbeddedQueue {
    /// An empty queue.
    pub fn start(env: Env, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(Inner {
                env,
                shutdown,
                waiting: Mutex::default(),
                arrived: Notify::new(),
            }),
        })
    }
}

impl Queue for EmbeddedQueue {
    fn publish(&self, hint: TaskHint) -> BoxFuture<'_, Result<(), QueueError>> {
        std::future::ready(self.inner.push(hint)).boxed()
    }

    fn consume(&self, _prefetch: u16) -> BoxFuture<'_, Result<Box<dyn Consumer>, QueueError>> {
        let inner = self.inner.clone();
        async move { Ok(Box::new(Taker { inner }) as Box<dyn Consumer>) }.boxed()
    }

    fn healthy(&self) -> bool {
        true
    }
}

struct Taker {
    inner: Arc<Inner>,
}

impl Consumer for Taker {
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, QueueError>> {
        async {
            loop {
                let taken = self.inner.waiting().pop_front();
                if let Some(hint) = taken {
                    let inner = self.inner.clone();
                    return Ok(Delivery::new(hint, Box::new(Taken { hint, inner })));
                }
                // A push between the look and here has left a permit.
                tokio::select! {
                    biased;
                    () = self.inner.shutdown.begun() => return Err(QueueError::Ended),
                    () = self.inner.arrived.notified() => {}
                }
            }
        }
        .boxed()
    }
}

struct Taken {
    hint: TaskHint,
    inner: Arc<Inner>,
}

impl Settle for Taken {
    fn ack(self: Box<Self>) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn reject(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            let delay = self.inner.env.clock.sleep(REJECT_DELAY);
            tokio::select! {
                biased;
                () = self.inner.shutdown.begun() => {}
                () = delay => {}
            }
            // A full queue loses the hint; its task is published again.
            let _ = self.inner.push(self.hint);
        }
        .boxed()
    }
}

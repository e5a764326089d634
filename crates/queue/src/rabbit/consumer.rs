//! Taking hints from the broker.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use holdfast_runtime::clock::within;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
};
use lapin::types::FieldTable;

use super::link::{self, Link};
use super::{BackOff, CONFIRM_DEADLINE, Inner, TASKS};
use crate::{Consumer, Delivery, QueueError, REJECT_DELAY, Settle, hint};

/// How often a consumer that waits looks whether its login has changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A consumer with a connection of its own: a broker that holds publishers
/// back does so by connection, and workers must go on.
pub(super) struct RabbitConsumer {
    queue: Arc<Inner>,
    prefetch: u16,
    open: Option<Open>,
    back_off: BackOff,
}

struct Open {
    link: Link,
    stream: lapin::Consumer,
}

impl RabbitConsumer {
    pub(super) fn new(queue: Arc<Inner>, prefetch: u16) -> Self {
        Self {
            queue,
            prefetch,
            open: None,
            back_off: BackOff::default(),
        }
    }

    async fn deliver(&mut self) -> Result<Delivery, QueueError> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let opened = self.connect().await?;
                    self.open.insert(opened)
                }
            };
            let url = self.queue.url.now();
            if !open.link.is_to(&url) {
                // What was delivered and is not taken comes again, when those
                // that were taken are settled and the connection ends.
                tracing::info!("the login has changed: consuming begins again with the new one");
                self.open = None;
                continue;
            }
            let clock = &*self.queue.env.clock;
            let Some(next) = within(clock, LOOK_INTERVAL, open.stream.next()).await else {
                continue;
            };
            match next {
                Some(Ok(message)) => match hint::decode(&message.data) {
                    Some(hint) => {
                        let settle = Unsettled {
                            message,
                            link: open.link.clone(),
                            queue: self.queue.clone(),
                        };
                        return Ok(Delivery::new(hint, Box::new(settle)));
                    }
                    None => {
                        tracing::warn!(bytes = message.data.len(), "a message that is no hint");
                        let options = BasicRejectOptions { requeue: false };
                        // If this fails it comes again and is refused again.
                        let _ = message.reject(options).await;
                    }
                },
                ended => {
                    let reason = match ended {
                        Some(Err(error)) => error.to_string(),
                        _ => "the broker has cancelled it".into(),
                    };
                    tracing::info!(reason, "consuming has ended and begins again");
                    self.open = None;
                    self.back_off.failed(self.queue.env.clock.monotonic());
                }
            }
        }
    }

    /// Connects until it works.
    async fn connect(&mut self) -> Result<Open, QueueError> {
        loop {
            let url = self.queue.url.now();
            let address = link::read_address(&url)?;
            let clock = self.queue.env.clock.clone();
            if let Some(wait) = self.back_off.wait(clock.monotonic()) {
                clock.sleep(wait).await;
            }
            // Counted before the attempt: a caller that stops waiting in the
            // middle of it must not make the next begin at once.
            self.back_off.failed(clock.monotonic());
            let attempt = async {
                let link =
                    link::open(&*clock, (&url, address), &self.queue.trust, "consumer").await?;
                let begun = within(&*clock, CONFIRM_DEADLINE, begin(&link, self.prefetch)).await;
                match begun {
                    Some(Ok(stream)) => Ok(Open { link, stream }),
                    Some(Err(error)) => Err(QueueError::Connect(error.to_string())),
                    None => Err(QueueError::Deadline {
                        attempted: "beginning to consume",
                        limit: CONFIRM_DEADLINE,
                    }),
                }
            };
            match attempt.await {
                Ok(open) => {
                    self.back_off = BackOff::default();
                    tracing::info!("consuming");
                    return Ok(open);
                }
                Err(error) => tracing::debug!(%error, "cannot consume"),
            }
        }
    }
}

async fn begin(link: &Link, prefetch: u16) -> lapin::Result<lapin::Consumer> {
    link.channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await?;
    link.channel
        .basic_consume(
            TASKS.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
}

impl Consumer for RabbitConsumer {
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, QueueError>> {
        let shutdown = self.queue.shutdown.clone();
        async move {
            tokio::select! {
                biased;
                () = shutdown.begun() => Err(QueueError::Ended),
                delivery = self.deliver() => delivery,
            }
        }
        .boxed()
    }
}

/// A message that the broker waits for. Failing to settle it is no error: its
/// connection is gone, and it is delivered again.
struct Unsettled {
    message: lapin::message::Delivery,
    /// Keeps the connection: work that was taken is settled after its consumer
    /// has been dropped.
    link: Link,
    queue: Arc<Inner>,
}

impl Settle for Unsettled {
    fn ack(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            let clock = self.queue.env.clock.clone();
            let acked = self.message.ack(BasicAckOptions::default());
            let _ = within(&*clock, CONFIRM_DEADLINE, acked).await;
            drop(self.link);
        }
        .boxed()
    }

    fn reject(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            let clock = self.queue.env.clock.clone();
            let delay = clock.sleep(REJECT_DELAY);
            tokio::select! {
                biased;
                () = self.queue.shutdown.begun() => {}
                () = delay => {}
            }
            let options = BasicNackOptions {
                requeue: true,
                multiple: false,
            };
            let _ = within(&*clock, CONFIRM_DEADLINE, self.message.nack(options)).await;
            drop(self.link);
        }
        .boxed()
    }
}

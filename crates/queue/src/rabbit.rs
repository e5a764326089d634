//! The queue of a RabbitMQ broker, 3.10 and later.
//!
//! Hints lie in the quorum queue [`TASKS`]; those delivered too often, and
//! messages that are no hints, go to [`DEAD`], which decides nothing and is
//! there to be looked at. Both are declared at every connection, so that a
//! broker which lost everything has them again. Publishing is confirmed and
//! mandatory: a queue that was deleted under a living connection is noticed.
//!
//! Every wait has a deadline, since a paused broker keeps its connections open
//! and says nothing. A watch in the background looks at the queue every
//! [`PROBE_INTERVAL`], so that `healthy` is not a memory of better times.
#![allow(
    clippy::disallowed_types,
    reason = "the broker's client brings its own sockets; the simulation uses the embedded queue"
)]

mod consumer;
mod link;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_runtime::clock::within;
use holdfast_runtime::host::tls::Trust;
use holdfast_runtime::{Env, ServerUrl, Shutdown};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::Mutex;

use crate::{Consumer, Queue, QueueError, TaskHint, hint};
use link::Link;

/// The queue of hints.
pub const TASKS: &str = "holdfast.tasks";
/// Where hints go that were delivered too often.
pub const DEAD: &str = "holdfast.tasks.dead";

/// How long a broker may take to confirm: an fsync on a majority of brokers, under load.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(5);
/// How often the watch looks at the queue.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);
/// How long that look may take.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// The first wait after a failed connection; doubled up to [`MAX_BACK_OFF`].
const MIN_BACK_OFF: Duration = Duration::from_millis(250);
/// The longest wait: what a broker's return may cost in time.
const MAX_BACK_OFF: Duration = Duration::from_secs(5);

/// A RabbitMQ broker, or a cluster of them behind one address.
#[derive(Clone)]
pub struct RabbitQueue {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    env: Env,
    shutdown: Shutdown,
    url: ServerUrl,
    trust: Trust,
    // Held while connecting, so that many publishers make one connection.
    publisher: Mutex<Publisher>,
    healthy: AtomicBool,
}

#[derive(Default)]
struct Publisher {
    link: Option<Link>,
    back_off: BackOff,
}

impl RabbitQueue {
    /// A queue at `url` (`amqp://` or `amqps://`, name and password
    /// percent-encoded). Returns at once and connects in the background; with
    /// `amqps://` only to whom `trust` believes. When the address changes, what
    /// is connected is connected anew, and no message is lost.
    pub fn start(env: Env, url: ServerUrl, trust: Trust, shutdown: Shutdown) -> Arc<Self> {
        let inner = Arc::new(Inner {
            url,
            trust,
            env: env.clone(),
            shutdown: shutdown.clone(),
            publisher: Mutex::default(),
            healthy: AtomicBool::new(false),
        });
        let watched = inner.clone();
        env.tasks.spawn(
            "queue watch",
            async move {
                tokio::select! {
                    biased;
                    () = shutdown.begun() => {}
                    () = watched.watch() => {}
                }
            }
            .boxed(),
        );
        Arc::new(Self { inner })
    }

    /// Whether `url` can be used, for settings to be checked at the edge.
    ///
    /// # Errors
    /// What is wrong with it; never the URL itself, which holds a password.
    pub fn check_url(url: &str) -> Result<(), QueueError> {
        link::read_address(url).map(|_| ())
    }
}

impl Queue for RabbitQueue {
    fn publish(&self, hint: TaskHint) -> BoxFuture<'_, Result<(), QueueError>> {
        async move {
            let result = self.inner.publish(hint).await;
            let label = match &result {
                Ok(()) => "ok",
                Err(QueueError::Full) => "full",
                Err(_) => "failed",
            };
            metrics::counter!("holdfast_queue_published_total", "result" => label).increment(1);
            result
        }
        .boxed()
    }

    fn consume(&self, prefetch: u16) -> BoxFuture<'_, Result<Box<dyn Consumer>, QueueError>> {
        let inner = self.inner.clone();
        async move {
            link::read_address(&inner.url.now())?;
            Ok(Box::new(consumer::RabbitConsumer::new(inner, prefetch)) as Box<dyn Consumer>)
        }
        .boxed()
    }

    fn healthy(&self) -> bool {
        self.inner.healthy.load(Ordering::Relaxed)
    }
}

impl Inner {
    /// Publishes over the connection there is; if that turns out to be dead,
    /// or the queue to be gone, once more over a new one.
    async fn publish(&self, hint: TaskHint) -> Result<(), QueueError> {
        let message = hint::encode(hint);
        let mut result = self.publish_once(&message).await;
        if matches!(result, Err(QueueError::Publish(_))) {
            result = self.publish_once(&message).await;
        }
        result
    }

    async fn publish_once(&self, message: &[u8]) -> Result<(), QueueError> {
        let channel = self.publisher_channel().await?;
        // Delivery mode 2 is "persistent": quorum queues imply it, others read it.
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into());
        let options = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let confirmed = within(&*self.env.clock, CONFIRM_DEADLINE, async {
            channel
                .basic_publish("".into(), TASKS.into(), options, message, properties)
                .await?
                .await
        })
        .await;
        let failure = match confirmed {
            Some(Ok(Confirmation::Ack(None))) => return Ok(()),
            Some(Ok(Confirmation::Nack(_))) => return Err(QueueError::Full),
            Some(Ok(Confirmation::Ack(Some(_)))) => {
                QueueError::Publish("the broker no longer has the queue".into())
            }
            Some(Ok(Confirmation::NotRequested)) => {
                QueueError::Publish("the broker does not confirm".into())
            }
            Some(Err(error)) => QueueError::Publish(error.to_string()),
            None => QueueError::Deadline {
                attempted: "confirming a message",
                limit: CONFIRM_DEADLINE,
            },
        };
        self.drop_publisher(&channel).await;
        Err(failure)
    }

    async fn publisher_channel(&self) -> Result<Channel, QueueError> {
        let mut publisher = self.publisher.lock().await;
        let url = self.url.now();
        let address = link::read_address(&url)?;
        let usable = |link: &&Link| link.alive() && link.is_to(&url);
        if let Some(link) = publisher.link.as_ref().filter(usable) {
            return Ok(link.channel.clone());
        }
        publisher.link = None;
        let now = self.env.clock.monotonic();
        if let Some(wait) = publisher.back_off.wait(now) {
            let reason = format!("the last attempt failed; the next is in {wait:?}");
            return Err(QueueError::Connect(reason));
        }
        match link::open(&*self.env.clock, (&url, address), &self.trust, "publisher").await {
            Ok(link) => {
                publisher.back_off = BackOff::default();
                let channel = link.channel.clone();
                publisher.link = Some(link);
                Ok(channel)
            }
            Err(error) => {
                publisher.back_off.failed(self.env.clock.monotonic());
                self.set_healthy(false);
                Err(error)
            }
        }
    }

    /// Gives the connection up, unless another has replaced it meanwhile.
    async fn drop_publisher(&self, channel: &Channel) {
        let mut publisher = self.publisher.lock().await;
        if publisher
            .link
            .as_ref()
            .is_some_and(|link| link.owns(channel))
        {
            publisher.link = None;
        }
        self.set_healthy(false);
    }

    /// Looks at the queue again and again. Runs until it is dropped.
    async fn watch(&self) {
        if let Err(error) = link::read_address(&self.url.now()) {
            tracing::error!(%error, "the queue is not used");
            return;
        }
        loop {
            match self.probe().await {
                Ok(messages) => {
                    metrics::gauge!("holdfast_queue_messages").set(f64::from(messages));
                    self.set_healthy(true);
                }
                Err(error) => {
                    tracing::debug!(%error, "the queue does not answer");
                    self.set_healthy(false);
                }
            }
            self.env.clock.sleep(PROBE_INTERVAL).await;
        }
    }

    /// Messages in the queue.
    async fn probe(&self) -> Result<u32, QueueError> {
        let channel = self.publisher_channel().await?;
        let counted = within(&*self.env.clock, PROBE_DEADLINE, link::count(&channel)).await;
        let failure = match counted {
            Some(Ok(messages)) => return Ok(messages),
            Some(Err(error)) => QueueError::Connect(error.to_string()),
            None => QueueError::Deadline {
                attempted: "looking at the queue",
                limit: PROBE_DEADLINE,
            },
        };
        self.drop_publisher(&channel).await;
        Err(failure)
    }

    fn set_healthy(&self, healthy: bool) {
        if self.healthy.swap(healthy, Ordering::Relaxed) != healthy {
            tracing::info!(healthy, "the queue's health has changed");
        }
        metrics::gauge!("holdfast_queue_healthy").set(if healthy { 1.0 } else { 0.0 });
    }
}

/// When to connect again after failures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackOff {
    delay: Duration,
    not_before: Duration,
}

impl BackOff {
    /// Counts a failure at `now`.
    fn failed(&mut self, now: Duration) {
        self.delay = (self.delay * 2).clamp(MIN_BACK_OFF, MAX_BACK_OFF);
        self.not_before = now + self.delay;
    }

    /// How long to wait at `now`, if at all.
    fn wait(&self, now: Duration) -> Option<Duration> {
        self.not_before
            .checked_sub(now)
            .filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_to_its_limit() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.wait(Duration::ZERO), None);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let now = Duration::from_secs(100);
            back_off.failed(now);
            waits.push(back_off.wait(now).unwrap().as_millis());
        }
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!(back_off.wait(Duration::from_secs(105)), None);
    }
}

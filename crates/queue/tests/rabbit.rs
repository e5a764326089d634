//! The RabbitMQ queue against a real broker at `HOLDFAST_TEST_RABBITMQ_URL`
//! (`amqp://name:password@host:port/vhost`), whose hints it may take.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "these tests talk to a real broker"
)]

#[path = "support/proxy.rs"]
mod proxy;

use std::sync::Arc;
use std::time::Duration;

use holdfast_model::{GroupId, TaskId, TaskKind};
use holdfast_queue::{Consumer, Delivery, Queue, QueueError, RabbitQueue, TaskHint};
use holdfast_runtime::host::http::HttpTransport;
use holdfast_runtime::host::system::{SystemClock, SystemEntropy, TokioTasks};
use holdfast_runtime::host::tls::Trust;
use holdfast_runtime::server_url::LoginFiles;
use holdfast_runtime::{Entropy, Env, ServerUrl, Shutdown};
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use proxy::Proxy;

/// Above every back-off and deadline of the adapter together.
const LIMIT: Duration = Duration::from_secs(60);

fn env() -> Env {
    Env {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(SystemEntropy),
        tasks: Arc::new(TokioTasks),
        transport: Arc::new(HttpTransport::new("none").unwrap()),
    }
}

fn new_hint() -> TaskHint {
    TaskHint {
        group: GroupId(3),
        task: TaskId::from_bytes((&SystemEntropy as &dyn Entropy).id()),
        kind: TaskKind::Compress,
    }
}

async fn next(consumer: &mut dyn Consumer) -> Delivery {
    tokio::time::timeout(LIMIT, consumer.next())
        .await
        .expect("nothing was delivered in time")
        .unwrap()
}

/// Takes deliveries until `wanted` comes: hints may come twice, and others' too.
async fn take(consumer: &mut dyn Consumer, wanted: TaskHint) {
    loop {
        let delivery = next(consumer).await;
        let found = delivery.hint == wanted;
        delivery.ack().await;
        if found {
            return;
        }
    }
}

/// Publishes until it works, as the relay of the outbox does.
async fn publish(queue: &RabbitQueue, hint: TaskHint) -> u32 {
    let attempts = async {
        let mut failures = 0;
        while queue.publish(hint).await.is_err() {
            failures += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        failures
    };
    tokio::time::timeout(LIMIT, attempts)
        .await
        .expect("it was never published")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect(what);
}

/// The steps share one queue, so they are one test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_go_through_a_real_broker_whatever_happens_to_it() {
    let Ok(url) = std::env::var("HOLDFAST_TEST_RABBITMQ_URL") else {
        eprintln!("skipped: HOLDFAST_TEST_RABBITMQ_URL is not set");
        return;
    };
    let mut address: AMQPUri = url.parse().unwrap();
    let real = address.clone();
    let target = format!("{}:{}", address.authority.host, address.authority.port);
    let proxy = Proxy::start(target).await;
    let direct = Connection::connect_uri(address.clone(), ConnectionProperties::default())
        .await
        .unwrap();
    address.authority.host = proxy.at.ip().to_string();
    address.authority.port = proxy.at.port();
    address.query.heartbeat = Some(2);

    let shutdown = Shutdown::default();
    let queue = RabbitQueue::start(
        env(),
        ServerUrl::fixed(&address.to_string()),
        Trust::System(None),
        shutdown.clone(),
    );
    until("it never became healthy", || queue.healthy()).await;
    let admin = direct.create_channel().await.unwrap();
    for name in ["holdfast.tasks", "holdfast.tasks.dead"] {
        let options = QueuePurgeOptions::default();
        admin.queue_purge(name.into(), options).await.unwrap();
    }

    let mut consumer = queue.consume(2).await.unwrap();
    let first = new_hint();
    queue.publish(first).await.unwrap();
    take(&mut *consumer, first).await;

    a_rejected_hint_comes_again(&queue, &mut *consumer).await;
    no_more_is_delivered_than_was_asked_for(&queue, &mut *consumer).await;
    what_is_no_hint_goes_to_the_dead(&queue, &mut *consumer, &admin).await;

    // The broker loses its queue: both sides declare it again.
    let options = QueueDeleteOptions::default();
    admin
        .queue_delete("holdfast.tasks".into(), options)
        .await
        .unwrap();
    let after_wipe = new_hint();
    publish(&queue, after_wipe).await;
    take(&mut *consumer, after_wipe).await;

    // It restarts: connections end, and none can be made for a while.
    proxy.go_away();
    until("its absence was not noticed", || !queue.healthy()).await;
    assert!(queue.publish(new_hint()).await.is_err());
    proxy.come_back();
    let after_restart = new_hint();
    publish(&queue, after_restart).await;
    take(&mut *consumer, after_restart).await;
    until("its return was not noticed", || queue.healthy()).await;

    // It is paused: connections stay and are silent.
    proxy.pause();
    until("the pause was not noticed", || !queue.healthy()).await;
    let during = tokio::time::timeout(LIMIT, queue.publish(new_hint())).await;
    assert!(during.expect("it waited without end").is_err());
    proxy.resume();
    let after_pause = new_hint();
    publish(&queue, after_pause).await;
    take(&mut *consumer, after_pause).await;

    shutdown.begin();
    assert_eq!(consumer.next().await.unwrap_err(), QueueError::Ended);
    drop(consumer);
    a_login_that_changes_is_used_at_once_and_no_hint_is_lost(&real).await;
}

/// Another login is used by what is connected, not only by what connects later;
/// which shows when that login is wrong.
async fn a_login_that_changes_is_used_at_once_and_no_hint_is_lost(address: &AMQPUri) {
    let right = &address.authority.userinfo;
    let dir = tempfile::tempdir().unwrap();
    let (user, password) = (dir.path().join("user"), dir.path().join("password"));
    std::fs::write(&user, &right.username).unwrap();
    std::fs::write(&password, &right.password).unwrap();
    let login = LoginFiles {
        user: "nobody",
        user_file: Some(user),
        password_file: password.clone(),
    };
    let (host, port) = (&address.authority.host, address.authority.port);
    let url = ServerUrl::follow("queue", &format!("amqp://{host}:{port}"), login).unwrap();
    let shutdown = Shutdown::default();
    let queue = RabbitQueue::start(env(), url.clone(), Trust::System(None), shutdown.clone());
    until("it never became healthy", || queue.healthy()).await;
    let mut consumer = queue.consume(2).await.unwrap();
    let (taken, waiting) = (new_hint(), new_hint());
    publish(&queue, taken).await;
    let held = next(&mut *consumer).await;
    assert_eq!(held.hint, taken);
    publish(&queue, waiting).await;

    std::fs::write(&password, "wrong").unwrap();
    url.look();
    until("it stays with its old login", || !queue.healthy()).await;
    let refused = tokio::time::timeout(Duration::from_secs(2), consumer.next()).await;
    assert!(refused.is_err(), "a hint was taken with the old login");
    // What was taken is settled where it came from.
    held.ack().await;

    std::fs::write(&password, &right.password).unwrap();
    url.look();
    take(&mut *consumer, waiting).await;
    until("it never became healthy again", || queue.healthy()).await;
    shutdown.begin();
}

async fn a_rejected_hint_comes_again(queue: &RabbitQueue, consumer: &mut dyn Consumer) {
    let hint = new_hint();
    queue.publish(hint).await.unwrap();
    let delivery = next(consumer).await;
    assert_eq!(delivery.hint, hint);
    delivery.reject().await;
    take(consumer, hint).await;
}

async fn no_more_is_delivered_than_was_asked_for(queue: &RabbitQueue, consumer: &mut dyn Consumer) {
    let mut hints = [new_hint(), new_hint(), new_hint()];
    for hint in hints {
        queue.publish(hint).await.unwrap();
    }
    let (one, two) = (next(consumer).await, next(consumer).await);
    let third = tokio::time::timeout(Duration::from_millis(300), consumer.next()).await;
    assert!(third.is_err(), "a third came while two were not settled");
    let mut seen = vec![one.hint, two.hint];
    one.ack().await;
    let three = next(consumer).await;
    seen.push(three.hint);
    two.ack().await;
    three.ack().await;
    seen.sort_by_key(|hint| hint.task);
    hints.sort_by_key(|hint| hint.task);
    assert_eq!(seen, hints);
}

async fn what_is_no_hint_goes_to_the_dead(
    queue: &RabbitQueue,
    consumer: &mut dyn Consumer,
    admin: &lapin::Channel,
) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    admin
        .basic_publish(
            "".into(),
            "holdfast.tasks".into(),
            options,
            b"nonsense",
            properties,
        )
        .await
        .unwrap();
    let dead = async {
        loop {
            let options = BasicGetOptions { no_ack: true };
            let got = admin.basic_get("holdfast.tasks.dead".into(), options).await;
            if let Some(message) = got.unwrap() {
                return message.delivery.data;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let dead = async {
        tokio::select! {
            biased;
            dead = dead => dead,
            delivery = consumer.next() => panic!("{delivery:?} was delivered"),
        }
    };
    let dead = tokio::time::timeout(LIMIT, dead).await.unwrap();
    assert_eq!(dead, b"nonsense");
    let hint = new_hint();
    queue.publish(hint).await.unwrap();
    take(consumer, hint).await;
}

//! The Redis cache against a real server at `HOLDFAST_TEST_REDIS_URL`
//! (`redis://host:port`). Keys of these tests carry a random name.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "these tests talk to a real server"
)]

#[path = "../../queue/tests/support/proxy.rs"]
mod proxy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdfast_cache::{Allowance, CALL_DEADLINE, Cache, MAX_VALUE_BYTES, Rate, RedisCache};
use holdfast_runtime::host::http::HttpTransport;
use holdfast_runtime::host::system::{SystemClock, SystemEntropy, TokioTasks};
use holdfast_runtime::host::tls::Trust;
use holdfast_runtime::server_url::LoginFiles;
use holdfast_runtime::{Entropy, Env, ServerUrl, Shutdown};
use proxy::Proxy;

const LIMIT: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

fn env() -> Env {
    Env {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(SystemEntropy),
        tasks: Arc::new(TokioTasks),
        transport: Arc::new(HttpTransport::new("none").unwrap()),
    }
}

fn unique(name: &str) -> String {
    format!("{name}-{:x}", (&SystemEntropy as &dyn Entropy).number())
}

/// Asks until the condition holds; a busy machine may make single calls too slow.
async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect(what);
}

async fn start() -> Option<(Proxy, Arc<RedisCache>)> {
    let Ok(url) = std::env::var("HOLDFAST_TEST_REDIS_URL") else {
        eprintln!("skipped: HOLDFAST_TEST_REDIS_URL is not set");
        return None;
    };
    let server = url.strip_prefix("redis://").expect("redis://host:port");
    let (credentials, host) = server.rsplit_once('@').unwrap_or(("", server));
    let proxy = Proxy::start(host.trim_end_matches('/').to_owned()).await;
    let url = match credentials {
        "" => format!("redis://{}", proxy.at),
        credentials => format!("redis://{credentials}@{}", proxy.at),
    };
    let cache = RedisCache::start(
        env(),
        ServerUrl::fixed(&url),
        Trust::System(None),
        Shutdown::default(),
    );
    until("it never became healthy", || async { cache.healthy() }).await;
    Some((proxy, cache))
}

#[tokio::test]
async fn values_buckets_and_locks_work_on_a_real_server() {
    let Some((_proxy, cache)) = start().await else {
        return;
    };
    let (key, value) = (unique("value"), Bytes::from(vec![7; MAX_VALUE_BYTES]));
    assert_eq!(cache.get(&key).await, None);
    until("the largest value is not kept", || async {
        cache.put(&key, value.clone(), MINUTE).await;
        cache.get(&key).await == Some(value.clone())
    })
    .await;
    let large = unique("large");
    cache
        .put(&large, Bytes::from(vec![7; MAX_VALUE_BYTES + 1]), MINUTE)
        .await;
    assert_eq!(cache.get(&large).await, None);

    let name = unique("lock");
    let held = cache.try_lock(&name, MINUTE).await;
    assert!(held.is_some());
    assert!(cache.try_lock(&name, MINUTE).await.is_none());
    drop(held);
    until("a dropped lock is not given back", || async {
        cache.try_lock(&name, MINUTE).await.is_some()
    })
    .await;

    let (bucket, rate) = (
        unique("bucket"),
        Rate {
            per_second: 0.01,
            burst: 2,
        },
    );
    assert_eq!(cache.allow(&bucket, rate).await, Allowance::Allowed);
    assert_eq!(cache.allow(&bucket, rate).await, Allowance::Allowed);
    let Allowance::Refused { retry_after } = cache.allow(&bucket, rate).await else {
        panic!("a third was allowed");
    };
    // A hundred seconds a token, less what has passed.
    assert!(retry_after > Duration::from_secs(60) && retry_after <= Duration::from_secs(100));
    let quick = Rate {
        per_second: 20.0,
        burst: 1,
    };
    let bucket = unique("quick");
    assert_eq!(cache.allow(&bucket, quick).await, Allowance::Allowed);
    until("a bucket never fills again", || async {
        cache.allow(&bucket, quick).await == Allowance::Allowed
    })
    .await;
}

#[tokio::test]
async fn an_expired_lock_is_not_taken_from_its_next_holder() {
    let Some((_proxy, cache)) = start().await else {
        return;
    };
    let name = unique("lock");
    let late = cache.try_lock(&name, Duration::from_millis(1)).await;
    let next = std::cell::RefCell::new(None);
    until("a lock does not end by its time", || async {
        *next.borrow_mut() = cache.try_lock(&name, MINUTE).await;
        next.borrow().is_some()
    })
    .await;
    drop(late);
    // Locks are given back in order: once this one is, the late one was.
    let marker = unique("marker");
    drop(cache.try_lock(&marker, MINUTE).await);
    until("the marker is not given back", || async {
        cache.try_lock(&marker, MINUTE).await.is_some()
    })
    .await;
    assert!(cache.try_lock(&name, MINUTE).await.is_none());
}

#[tokio::test]
async fn a_server_that_is_silent_or_away_costs_at_most_the_cache() {
    let Some((proxy, cache)) = start().await else {
        return;
    };
    let key = unique("value");
    let value = Bytes::from_static(b"v");
    proxy.pause();
    let begun = Instant::now();
    let calls = 200;
    for _ in 0..calls {
        cache.put(&key, value.clone(), MINUTE).await;
        assert_eq!(cache.get(&key).await, None);
    }
    // Without the breaker each call would wait for its deadline.
    assert!(
        begun.elapsed() < CALL_DEADLINE * calls,
        "{:?}",
        begun.elapsed()
    );
    assert!(!cache.healthy());
    assert!(
        cache.try_lock(&key, MINUTE).await.is_some(),
        "the lock only saves work"
    );
    let rate = Rate {
        per_second: 0.001,
        burst: 1,
    };
    assert_eq!(cache.allow(&key, rate).await, Allowance::Allowed);
    assert!(matches!(
        cache.allow(&key, rate).await,
        Allowance::Refused { .. }
    ));

    proxy.resume();
    until("it does not recover from a pause", || async {
        cache.put(&key, value.clone(), MINUTE).await;
        cache.get(&key).await.is_some()
    })
    .await;

    proxy.go_away();
    until("its absence is not noticed", || async {
        cache.get(&key).await.is_none() && !cache.healthy()
    })
    .await;
    proxy.come_back();
    until("it does not recover from a restart", || async {
        cache.put(&key, value.clone(), MINUTE).await;
        cache.get(&key).await.is_some() && cache.healthy()
    })
    .await;
}

#[tokio::test]
async fn a_password_that_changes_is_used_at_once() {
    let Ok(server) = std::env::var("HOLDFAST_TEST_REDIS_URL") else {
        eprintln!("skipped: HOLDFAST_TEST_REDIS_URL is not set");
        return;
    };
    let client = redis::Client::open(server.as_str()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let user = unique("user");
    let mut acl = async |rule: &[&str]| {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&user).arg(rule);
        let () = command.query_async(&mut admin).await.unwrap();
    };
    acl(&["on", ">old", "~*", "&*", "+@all"]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "old").unwrap();
    let host = server
        .trim_start_matches("redis://")
        .rsplit('@')
        .next()
        .unwrap();
    let login = LoginFiles {
        user: "",
        user_file: None,
        password_file: file.clone(),
    };
    let url = ServerUrl::follow("cache", &format!("redis://{user}@{host}"), login).unwrap();
    let shutdown = Shutdown::default();
    let cache = RedisCache::start(env(), url.clone(), Trust::System(None), shutdown.clone());
    until("it never became healthy", || async { cache.healthy() }).await;
    // What is connected stays so; a new login is used although nothing is broken.
    std::fs::write(&file, "new").unwrap();
    url.look();
    until("it stays with its old login", || async { !cache.healthy() }).await;
    acl(&[">new"]).await;
    until("the new one is not used", || async { cache.healthy() }).await;
    shutdown.begin();
    let mut delete = redis::cmd("ACL");
    let () = delete
        .arg("DELUSER")
        .arg(&user)
        .query_async(&mut admin)
        .await
        .unwrap();
}

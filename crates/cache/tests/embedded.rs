//! The embedded cache, by its public face.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_cache::{Allowance, Cache, EmbeddedCache, MAX_VALUE_BYTES, Rate};
use holdfast_runtime::Env;
use holdfast_runtime::host::http::HttpTransport;
use holdfast_runtime::host::system::{SystemClock, SystemEntropy, TokioTasks};

const MINUTE: Duration = Duration::from_secs(60);

fn cache() -> Arc<EmbeddedCache> {
    EmbeddedCache::start(Env {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(SystemEntropy),
        tasks: Arc::new(TokioTasks),
        transport: Arc::new(HttpTransport::new("none").unwrap()),
    })
}

#[tokio::test]
async fn values_are_kept_until_their_time_is_over_and_within_their_limit() {
    let cache = cache();
    let large = Bytes::from(vec![0; MAX_VALUE_BYTES + 1]);
    cache.put("large", large, MINUTE).await;
    assert_eq!(cache.get("large").await, None);
    cache.put("a", Bytes::from_static(b"1"), MINUTE).await;
    assert_eq!(cache.get("a").await, Some(Bytes::from_static(b"1")));
    cache
        .put("a", Bytes::from_static(b"2"), Duration::ZERO)
        .await;
    assert_eq!(cache.get("a").await, None);
}

#[tokio::test]
async fn a_lock_has_one_holder_until_it_is_dropped_or_its_time_is_over() {
    let cache = cache();
    let held = cache.try_lock("task", MINUTE).await;
    assert!(held.is_some());
    assert!(cache.try_lock("task", MINUTE).await.is_none());
    drop(held);
    let late = cache.try_lock("task", Duration::ZERO).await;
    assert!(late.is_some());
    let next = cache.try_lock("task", MINUTE).await;
    assert!(next.is_some(), "its time was over");
    drop(late);
    assert!(
        cache.try_lock("task", MINUTE).await.is_none(),
        "a late holder gave back another's"
    );
}

#[tokio::test]
async fn a_bucket_refuses_what_is_beyond_its_burst() {
    let cache = cache();
    let rate = Rate {
        per_second: 0.001,
        burst: 2,
    };
    assert_eq!(cache.allow("a", rate).await, Allowance::Allowed);
    assert_eq!(cache.allow("a", rate).await, Allowance::Allowed);
    assert!(matches!(
        cache.allow("a", rate).await,
        Allowance::Refused { .. }
    ));
    assert_eq!(cache.allow("b", rate).await, Allowance::Allowed);
}

//! Waiting for something to become true.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often it is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Tries `attempt` until it succeeds, at most `limit`; its last error says what is missing.
pub async fn until<T, F>(what: &str, limit: Duration, mut attempt: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T>,
{
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > limit => {
                bail!("not within {limit:?}: {what}: {error:#}");
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Looks for all of `window` whether `holds` stays so: that something is left
/// undone shows in nothing else.
pub async fn stays<F>(what: &str, window: Duration, mut holds: F) -> Result<()>
where
    F: AsyncFnMut() -> Result<()>,
{
    let start = Instant::now();
    loop {
        holds()
            .await
            .with_context(|| format!("after {:?}: {what}", start.elapsed()))?;
        if start.elapsed() > window {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

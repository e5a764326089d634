//! Waiting for something to become true.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

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

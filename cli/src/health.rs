//! Asks a health address: what a container's HEALTHCHECK runs, so that images
//! need no other program for it.

use std::time::Duration;

use crate::access::Access;
use crate::failure::Failure;
use crate::show::say;

/// A service that needs longer is not healthy.
const LIMIT: Duration = Duration::from_secs(3);

/// Prints what the address says; fails unless that is a success.
pub async fn run(access: &Access, address: &str) -> Result<(), Failure> {
    let unreachable = |error: reqwest::Error| Failure::Unreachable {
        url: address.to_owned(),
        reason: crate::api::innermost(&error),
    };
    let client = access
        .client()?
        .timeout(LIMIT)
        .build()
        .map_err(unreachable)?;
    let answer = client.get(address).send().await.map_err(unreachable)?;
    let status = answer.status();
    let text = answer.text().await.map_err(unreachable)?;
    if !status.is_success() {
        return Err(Failure::Unhealthy(format!("{status}: {}", text.trim())));
    }
    say!("{}", text.trim());
    Ok(())
}

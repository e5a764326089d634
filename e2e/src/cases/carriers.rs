//! RabbitMQ and Redis, which carry work and heat and never truth.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use image::ImageFormat;

use crate::Level;
use crate::content::picture;
use crate::stack::{Compose, Stack};
use crate::wait::until;

pub async fn uploads_go_on_while_rabbitmq_and_redis_are_wiped(
    stack: &Stack,
    level: Level,
) -> Result<()> {
    const AT_ONCE: usize = 8;
    /// A hint that was lost with its broker is given again after a minute.
    const THUMBNAILS_WITHIN: Duration = Duration::from_secs(240);
    let count = match level {
        Level::Core => 120,
        Level::Full => 1_000,
    };
    let gateway = &stack.gateway(1)?;
    let uploads = stream::iter(0..count)
        .map(|seed| async move {
            let bytes = picture(1_000 + seed, 320, 240, ImageFormat::Jpeg)?;
            let id = gateway
                .upload("album.jpg", bytes.clone(), 0)
                .await
                .with_context(|| format!("upload {seed}"))?;
            anyhow::Ok((id, bytes))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>();
    let wiping = stack.beside(wipe);
    let (uploaded, wiped) = tokio::join!(uploads, wiping);
    wiped?;
    let uploaded = uploaded?;
    for (id, bytes) in &uploaded {
        until("the thumbnail", THUMBNAILS_WITHIN, async || {
            gateway.thumbnail(id).await
        })
        .await?;
        gateway.expect(id, bytes).await?;
    }
    Ok(())
}

/// Ends both with all that they have, and brings them back empty.
fn wipe(stack: &Compose) -> Result<()> {
    const BOTH: [&str; 2] = ["rabbitmq", "redis"];
    stack.kill(&BOTH)?;
    stack.compose(&["rm", "--force", "--volumes", "rabbitmq", "redis"])?;
    stack.shell("docker volume rm \"${COMPOSE_PROJECT_NAME}_rabbitmq\"")?;
    stack.up()
}

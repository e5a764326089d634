//! Small files that many ask for: their bytes from the cache.
//!
//! The record always comes from its group, so the cache cannot make a deleted
//! or expired file appear; its key names version and revision, and the bytes
//! are checked against the record's hash, so it cannot be stale or wrong.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt};
use holdfast_client::{ClusterError, read_record};
use holdfast_metadata::command::ByteSpan;
use holdfast_model::{ObjectRecord, Representation};
use sha2::{Digest, Sha256};

use super::sending::Pieces;
use crate::app::App;
use crate::files::lookup::Found;

/// Larger files are not cached, in bytes.
const MAX_CACHED_BYTES: u64 = 64 << 10;
/// How long an entry stays without being asked for again.
const KEEP: Duration = Duration::from_secs(10 * 60);

/// Whether a file's bytes may be cached: small, without limit or password, and
/// not in the record anyway.
pub fn is_cacheable(record: &ObjectRecord) -> bool {
    record.content.size <= MAX_CACHED_BYTES
        && record.downloads.is_none()
        && record.password.is_none()
        && matches!(record.representation, Representation::Chunked { .. })
}

/// The bytes of a span of a cacheable file.
pub async fn read(app: &App, found: &Found, span: ByteSpan) -> Pieces {
    let whole = match whole(app, found).await {
        Ok(whole) => whole,
        Err(error) => return stream::iter([Err(error)]).boxed(),
    };
    let (first, end) = (span.first as usize, (span.end as usize).min(whole.len()));
    let part = whole.slice(first.min(end)..end);
    stream::iter([Ok(part)]).boxed()
}

async fn whole(app: &App, found: &Found) -> Result<Bytes, ClusterError> {
    let record = &found.record;
    let key = format!("file:{}:{}", record.version, record.revision);
    if let Some(bytes) = app.cache.get(&key).await
        && Sha256::digest(&bytes).as_slice() == record.content.sha256
    {
        metrics::counter!("holdfast_cache_hits_total").increment(1);
        return Ok(bytes);
    }
    metrics::counter!("holdfast_cache_misses_total").increment(1);
    let mut pieces = read_record(
        &app.cluster,
        found.address.clone(),
        record,
        found.chunks.clone(),
        0..record.content.size,
        app.budget.clone(),
    );
    let mut bytes = BytesMut::with_capacity(record.content.size as usize);
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
    }
    let bytes = bytes.freeze();
    app.cache.put(&key, bytes.clone(), KEEP).await;
    Ok(bytes)
}

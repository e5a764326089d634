//! Small objects with numbers for names, put and read past the simulation's
//! own clients.

use std::time::Duration;

use holdfast_client::Cluster;
use holdfast_metadata::command::{Command, DeleteCause, Outcome};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::*;
use holdfast_sim::plain_put::{inline, plain_put};

pub fn key(n: u32) -> ObjectKey {
    ObjectKey::new(format!("object-{n}")).unwrap()
}

/// Puts an object of a few bytes.
pub async fn put(cluster: &Cluster, n: u32) -> Result<(), String> {
    put_sized(cluster, n, 4).await
}

/// Puts an object inside its command.
pub async fn put_sized(cluster: &Cluster, n: u32, bytes: usize) -> Result<(), String> {
    let state = cluster.state().ok_or("no state")?;
    let bucket = state.bucket("files").unwrap().id;
    let key = key(n);
    let group = cluster.group_of(bucket, &key).map_err(|e| e.to_string())?;
    let env = cluster.env();
    let version = VersionId::from_bytes(env.entropy.id());
    let written = inline(vec![n as u8; bytes].into());
    let put = plain_put(bucket, key, version, state.access_keys[0].id, written);
    let id = env.entropy.request_id(env.clock.as_ref());
    let outcome = cluster
        .propose(
            group,
            id,
            Command::PutObject(Box::new(put)),
            Duration::from_secs(10),
            None,
        )
        .await
        .map_err(|e| e.to_string())?;
    assert!(matches!(outcome, Outcome::Put(_)), "{outcome:?}");
    Ok(())
}

/// Whether an object is there.
pub async fn get(cluster: &Cluster, n: u32) -> Result<bool, String> {
    let state = cluster.state().ok_or("no state")?;
    let bucket = state.bucket("files").unwrap().id;
    let group = cluster
        .group_of(bucket, &key(n))
        .map_err(|e| e.to_string())?;
    let answer = cluster
        .query(
            group,
            Query::Object {
                bucket,
                key: key(n),
                chunks: 0,
            },
            Duration::from_secs(10),
            None,
        )
        .await
        .map_err(|e| e.to_string())?;
    match answer {
        Answer::Object { record, .. } => Ok(record.is_some()),
        other => Err(format!("{other:?}")),
    }
}

/// Deletes an object, and says whether there was one.
pub async fn delete(cluster: &Cluster, n: u32) -> Result<bool, String> {
    let state = cluster.state().ok_or("no state")?;
    let bucket = state.bucket("files").unwrap().id;
    let group = cluster
        .group_of(bucket, &key(n))
        .map_err(|e| e.to_string())?;
    let command = Command::DeleteObject {
        bucket,
        key: key(n),
        version: None,
        cause: DeleteCause::Wish,
    };
    let env = cluster.env();
    let id = env.entropy.request_id(env.clock.as_ref());
    let outcome = cluster
        .propose(group, id, command, Duration::from_secs(10), None)
        .await
        .map_err(|e| e.to_string())?;
    Ok(matches!(outcome, Outcome::Deleted(_)))
}

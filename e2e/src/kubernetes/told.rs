//! What is told of a StorageCluster, whether a condition tells it or an event.

use std::time::Duration;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;

use crate::kubernetes::room::Room;
use crate::kubernetes::state;
use crate::wait::until;

/// The notes of all events here about an object with that name.
pub async fn notes_about(room: &Room, name: &str) -> Result<Vec<String>> {
    let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let events = room.api::<Event>().list(&about).await?;
    Ok(events.items.into_iter().filter_map(|e| e.message).collect())
}

/// Waits until something with all of these words is told of a cluster.
pub async fn until_told(room: &Room, name: &str, words: &[&str], limit: Duration) -> Result<()> {
    let has_all = |text: &str| words.iter().all(|word| text.contains(word));
    until(&format!("{words:?} is told"), limit, async || {
        let cluster = room.cluster(name).await?;
        let notes = notes_about(room, name).await?;
        if state::tells(&cluster, has_all) || notes.iter().any(|note| has_all(note)) {
            return Ok(());
        }
        bail!("{}; events: {notes:?}", state::say(&cluster))
    })
    .await
}

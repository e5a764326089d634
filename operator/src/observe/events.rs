//! What others say about volume claims: they say it in events.

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;

use crate::context::Context;
use crate::error::{Attempt, OperatorError};

/// Events that are read at once: more of one namespace say nothing new.
const MOST_EVENTS: u32 = 500;
/// The most characters that are told of what others say.
const MAX_TOLD_CHARACTERS: usize = 400;

/// The events of that reason about all claims of a namespace, or about one.
///
/// # Errors
/// When the API server does not answer, or a right is missing.
pub async fn of_claims(
    context: &Context,
    namespace: &str,
    claim: Option<&str>,
    reason: &str,
) -> Result<Vec<Event>, OperatorError> {
    let mut about = format!("involvedObject.kind=PersistentVolumeClaim,reason={reason}");
    if let Some(claim) = claim {
        about.push_str(",involvedObject.name=");
        about.push_str(claim);
    }
    let api: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    let params = ListParams::default().fields(&about).limit(MOST_EVENTS);
    let events = api.list(&params).await;
    let events = events.attempt(|| format!("listing events {reason} of volume claims"))?;
    Ok(events.items)
}

/// When it was said last, in seconds since 1970; 0 where it does not say so.
pub fn said_at(event: &Event) -> i64 {
    let last = event.last_timestamp.as_ref().map(|time| time.0.as_second());
    let once = event.event_time.as_ref().map(|time| time.0.as_second());
    last.max(once).unwrap_or_default()
}

/// As much as is told of what somebody says.
pub fn shortened(said: &str) -> String {
    said.chars().take(MAX_TOLD_CHARACTERS).collect()
}

//! The proof that a cluster serves: an object written and read back through the
//! gateways' Service, by which clients come.

use std::time::Duration;

use holdfast_plan::names;
use holdfast_runtime::host::tls::{Trust, http_client};
use kube::ResourceExt;
use serde_json::Value;

use crate::certificates::settle;
use crate::context::Context;
use crate::observe::Observed;

/// How long each request may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// The object goes by itself where the operator does not come to delete it.
const EXPIRES_IN: &str = "5m";

/// Writes an object, reads it back and deletes it.
///
/// # Errors
/// What did not work, as a sentence.
pub async fn write_and_read(context: &Context, observed: &Observed) -> Result<(), String> {
    let token = Observed::text(observed.admin.as_ref(), names::ADMIN_TOKEN_KEY)
        .ok_or("the Secret with the admin token is not there")?;
    let encrypted = observed.encrypts();
    let authorities = observed.certificates.authorities();
    let trust = match encrypted {
        true => settle::trusting(&authorities).ok_or("there is no authority to trust yet")?,
        false => Trust::System(None),
    };
    let scheme = if encrypted { "https" } else { "http" };
    let base = format!(
        "{scheme}://{}",
        names::gateway_address(&observed.name, &observed.namespace)
    );
    let client = http_client(&trust)
        .map_err(|error| error.to_string())?
        .timeout(DEADLINE)
        .build()
        .map_err(|error| error.to_string())?;
    let content = format!(
        "written by the operator for generation {}\n",
        observed.resource.metadata.generation.unwrap_or_default()
    );
    let failed = |what: &str, error: reqwest::Error| {
        format!("{what} through {base} failed: {}", error.without_url())
    };
    let upload = client
        .put(format!(
            "{base}/api/upload/operator-proof.txt?expires_in={EXPIRES_IN}&download_limit=1"
        ))
        .bearer_auth(token.trim())
        .body(content.clone())
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| failed("an upload", error))?;
    let made: Value = upload
        .json()
        .await
        .map_err(|error| failed("an upload", error))?;
    let id = made
        .get("file_id")
        .and_then(Value::as_str)
        .ok_or("an upload was answered without a file_id")?;
    let read = client
        .get(format!("{base}/api/download/{id}"))
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| failed("a download", error))?
        .text()
        .await
        .map_err(|error| failed("a download", error))?;
    // It expires by itself where this does not come through.
    let _ = client
        .delete(format!("{base}/api/files/{id}"))
        .bearer_auth(token.trim())
        .send()
        .await;
    if read != content {
        return Err(format!(
            "an object of {} bytes was read back with {} bytes that differ",
            content.len(),
            read.len()
        ));
    }
    tracing::info!(
        cluster = observed.resource.name_any(),
        "an object was written and read back"
    );
    context.memory.note_proved(&observed.resource);
    Ok(())
}

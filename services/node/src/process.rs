//! The process of a storage node: settings, secrets, signals.

use anyhow::{Context, Result, anyhow, bail};
use holdfast_model::Supported;
use holdfast_runtime::host::descriptors::raise_descriptor_limit;
use holdfast_runtime::host::tls::{Places, Security};
use holdfast_runtime::secrets::{Secrets, checked_admin_token, read_secret};
use holdfast_runtime::settings::{checked_cluster_secret, parse_arguments};
use holdfast_runtime::{Credential, Shutdown, host::signals, telemetry};

use crate::run::{self, RunParts};
use crate::settings::NodeSettings;

/// Runs a storage node until a signal ends it.
///
/// # Errors
/// With what to change.
pub fn run(supports: Supported) -> Result<()> {
    let settings: NodeSettings = parse_arguments(supports);
    settings.check().map_err(|sentence| anyhow!(sentence))?;
    telemetry::start_logging(settings.log_format, "info");
    tracing::info!(release = supports.version(), "the storage node starts");
    raise_descriptor_limit().context("raising the limit on open files")?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(settings, supports))
}

async fn serve(settings: NodeSettings, supports: Supported) -> Result<()> {
    let shutdown = Shutdown::default();
    signals::end_on_signal(shutdown.clone()).context("catching signals")?;
    let metrics = telemetry::install_metrics().map_err(|error| anyhow!(error))?;
    let admin_token = ensure_secrets(&settings)?;
    let credential = Credential::find(settings.secrets_dir.as_deref())?;
    let places = Places {
        tls_dir: settings.tls_dir.as_deref(),
        public_tls_dir: None,
        is_called: true,
    };
    let security = Security::open(credential, places)?;
    security.follow();
    let parts = RunParts {
        security,
        admin_token,
        metrics: Some(metrics),
        operations: true,
        supports,
    };
    Ok(run::run(settings, parts, shutdown).await?)
}

/// The first key, from the shared directory or from a setting of its own; the
/// directory's secrets are made where nobody has.
fn ensure_secrets(settings: &NodeSettings) -> Result<String> {
    let token = read_secret("HOLDFAST_ADMIN_TOKEN")?;
    let credential = read_secret("HOLDFAST_CLUSTER_SECRET")?;
    match (&settings.secrets_dir, credential) {
        (Some(_), Some(_)) => {
            bail!(
                "HOLDFAST_SECRETS_DIR and HOLDFAST_CLUSTER_SECRET are both set: unset one of them"
            )
        }
        (Some(dir), None) => {
            let secrets = Secrets::ensure(dir, token)
                .with_context(|| format!("the secrets in {}", dir.display()))?;
            Ok(secrets.admin_token)
        }
        (None, Some(credential)) => {
            let token = token.map(checked_admin_token).transpose()?;
            if token.is_none() && !settings.bootstrap.is_empty() {
                bail!(
                    "a cluster is founded with a first key: set HOLDFAST_ADMIN_TOKEN, or HOLDFAST_SECRETS_DIR"
                );
            }
            checked_cluster_secret(credential)?;
            Ok(token.unwrap_or_default())
        }
        (None, None) => bail!(
            "nothing says how the cluster's members know each other: set HOLDFAST_SECRETS_DIR to a directory that they share, or HOLDFAST_CLUSTER_SECRET to the same secret on each"
        ),
    }
}

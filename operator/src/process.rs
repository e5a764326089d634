//! The operator's process: settings, the API server, and the end on a signal.

use anyhow::Context;
use holdfast_model::Supported;
use holdfast_runtime::host::signals::end_on_signal;
use holdfast_runtime::settings::parse_arguments;
use holdfast_runtime::{Shutdown, telemetry};

use crate::run;
use crate::settings::OperatorSettings;

/// Runs an operator until a signal ends it, and then ends the process.
#[tokio::main]
pub async fn run(supports: Supported) {
    let code = match start(supports).await {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("holdfast-operator: {error:#}");
            1
        }
    };
    std::process::exit(code);
}

async fn start(supports: Supported) -> anyhow::Result<()> {
    let settings: OperatorSettings = parse_arguments(supports);
    telemetry::start_logging(settings.log_format, "info");
    tracing::info!(release = supports.version(), "the operator starts");
    let metrics = telemetry::install_metrics()
        .map_err(anyhow::Error::msg)
        .context("installing metrics")?;
    let shutdown = Shutdown::default();
    end_on_signal(shutdown.clone()).context("listening for signals")?;
    let client = kube::Client::try_default()
        .await
        .context("finding the API server: run it in a pod, or set KUBECONFIG")?;
    run::run(settings, supports, client, metrics, shutdown).await
}

//! The operator's binary: settings, the API server, and the end on a signal.

use anyhow::Context;
use clap::Parser;
use holdfast_operator::run::run;
use holdfast_operator::settings::OperatorSettings;
use holdfast_runtime::host::signals::end_on_signal;
use holdfast_runtime::{Shutdown, telemetry};

#[tokio::main]
async fn main() {
    let code = match start().await {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("holdfast-operator: {error:#}");
            1
        }
    };
    std::process::exit(code);
}

async fn start() -> anyhow::Result<()> {
    let settings = OperatorSettings::parse();
    telemetry::start_logging(settings.log_format, "info");
    let metrics = telemetry::install_metrics()
        .map_err(anyhow::Error::msg)
        .context("installing metrics")?;
    let shutdown = Shutdown::default();
    end_on_signal(shutdown.clone()).context("listening for signals")?;
    let client = kube::Client::try_default()
        .await
        .context("finding the API server: run it in a pod, or set KUBECONFIG")?;
    run(settings, client, metrics, shutdown).await
}

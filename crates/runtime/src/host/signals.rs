//! Signals that end a process.

use crate::Shutdown;

/// Begins `shutdown` at SIGTERM or SIGINT.
pub fn end_on_signal(shutdown: Shutdown) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.begin();
    });
    Ok(())
}

//! The limit of everything that is served: bytes from memory over HTTP on the
//! loopback address, by a process of its own, to the same clients.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use bytes::Bytes;

use crate::load::Load;
use crate::sample::{Figure, figure, median_millis};
use crate::store::{LARGE_BYTES, LARGE_CLIENTS, SMALL_BYTES};

/// What HTTP from memory does in one round.
pub struct Loopback {
    /// One client's request of 4 KiB, milliseconds, median.
    pub one_millis: f64,
    /// Requests of 4 KiB a second.
    pub small: f64,
    /// MB a second of 8 MiB bodies.
    pub large_mb: f64,
}

impl Loopback {
    /// As figures.
    pub fn figures(&self) -> Vec<Figure> {
        vec![
            figure(
                "limit: loopback HTTP, 4 KiB, one client, p50",
                self.one_millis,
                "ms",
            ),
            figure("limit: loopback HTTP, 4 KiB", self.small, "requests/s"),
            figure("limit: loopback HTTP, 8 MiB", self.large_mb, "MB/s"),
        ]
    }
}

/// Serves until it is killed; prints its port. What the hidden subcommand does.
pub async fn serve() -> Result<()> {
    let large = Bytes::from(vec![b'y'; LARGE_BYTES]);
    let app = Router::new().route(
        "/{bytes}",
        get(move |Path(bytes): Path<usize>| {
            let body = large.slice(..bytes.min(large.len()));
            async move { body }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    axum::serve(listener, app).await?;
    Ok(())
}

/// The server; ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures one round.
pub async fn measure(clients: usize, time: Duration) -> Result<Loopback> {
    let mut command = Command::new(std::env::current_exe()?);
    let child = command
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut server = Server(child);
    let output = server.0.stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let port: u16 = line.trim().parse().context("the server told no port")?;
    let load = Load::new(&format!("http://127.0.0.1:{port}"))?;
    let small = |_| format!("/{SMALL_BYTES}");
    let large = |_| format!("/{LARGE_BYTES}");
    let one = load.gets(1, time / 4, small, SMALL_BYTES).await?;
    let many = load.gets(clients, time / 2, small, SMALL_BYTES).await?;
    let big = load
        .gets(LARGE_CLIENTS, time / 2, large, LARGE_BYTES)
        .await?;
    Ok(Loopback {
        one_millis: median_millis(one.took),
        small: many.per_second,
        large_mb: big.per_second * LARGE_BYTES as f64 / 1e6,
    })
}

//! A TCP proxy between a test and a real server, to pause the server and to
//! cut its connections without asking anybody's permission.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Stops forwarding when told.
pub struct Proxy {
    /// Where it listens.
    pub at: SocketAddr,
    paused: watch::Sender<bool>,
    away: watch::Sender<bool>,
    running: Arc<Mutex<JoinSet<()>>>,
}

impl Proxy {
    /// Forwards to `target`, which is `host:port`.
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            at: listener.local_addr().unwrap(),
            paused: watch::Sender::new(false),
            away: watch::Sender::new(false),
            running: Arc::default(),
        };
        let (paused, away) = (proxy.paused.subscribe(), proxy.away.subscribe());
        let running = proxy.running.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *away.borrow() {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&target).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let mut running = running.lock().unwrap();
                running.spawn(forward(from_client, to_server, paused.clone()));
                running.spawn(forward(from_server, to_client, paused.clone()));
            }
        });
        proxy
    }

    /// Connections stay open and say nothing.
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// Ends all connections and takes no new ones: the server is away.
    pub fn go_away(&self) {
        self.away.send_replace(true);
        self.running.lock().unwrap().abort_all();
    }

    /// The server is back.
    pub fn come_back(&self) {
        self.away.send_replace(false);
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut paused: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if paused.wait_for(|paused| !paused).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

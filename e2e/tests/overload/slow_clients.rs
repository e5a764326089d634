//! Clients that send and take a byte a second.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::join_all;
use holdfast_e2e::content::noise;
use holdfast_e2e::processes::{Cluster, Shape, TOKEN};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{interval, timeout};

use crate::{claim, rounds};

/// Slow clients of each kind. More than there is room for would have to be
/// refused; these must not even be felt.
const CLIENTS: usize = 60;
/// How far apart their bytes are.
const BEAT: Duration = Duration::from_secs(1);
/// Heads have 15 s.
const HEADS_END: Duration = Duration::from_secs(25);
/// A body is judged after 30 s of waiting for it.
const UPLOADS_END: Duration = Duration::from_secs(45);
/// An answer of which nothing is taken is held for 60 s.
const DOWNLOADS_END: Duration = Duration::from_secs(80);
/// What all of it may cost the gateway: for each upload and download the share
/// that its memory budget has for it.
const GROWTH: u64 = (CLIENTS as u64) * (3 << 19) + (64 << 20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_slow_harms_nobody_else() -> Result<()> {
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::slow_clients_end_and_others_are_served(&mut cluster));
    Ok(())
}

async fn slow_clients_end_and_others_are_served(cluster: &mut Cluster) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    let address = format!("127.0.0.1:{}", cluster.gateways[0].port);
    let id = gateway.upload("big.bin", noise(1, 16 << 20), 0).await?;
    rounds(&gateway, 10, 300_000).await?;
    let program = cluster.gateways[0].running()?;
    let before = program.resident()?;

    let slow = async {
        let heads = join_all((0..CLIENTS).map(|_| slow_head(&address)));
        let uploads = join_all((0..CLIENTS).map(|_| slow_upload(&address)));
        let downloads = join_all((0..CLIENTS).map(|_| slow_download(&address, &id)));
        let (heads, uploads, downloads) = tokio::join!(heads, uploads, downloads);
        for (kind, ends, limit) in [
            ("head", heads, HEADS_END),
            ("upload", uploads, UPLOADS_END),
            ("download", downloads, DOWNLOADS_END),
        ] {
            let ends = ends.into_iter().collect::<Result<Vec<_>>>().context(kind)?;
            let longest = ends.into_iter().max().unwrap_or_default();
            println!("slow {kind}s ended within {longest:?}");
            ensure!(longest <= limit, "a slow {kind} was held for {longest:?}");
        }
        anyhow::Ok(())
    };
    let mut slowest = Duration::ZERO;
    let mut largest = before;
    let others = async {
        loop {
            slowest = slowest.max(rounds(&gateway, 5, 300_000).await?);
            largest = largest.max(program.resident()?);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let result: Result<()> = tokio::select! {
        biased;
        ended = slow => ended,
        failed = others => failed,
    };
    result?;
    let growth = largest - before;
    println!(
        "the slowest of the others: {slowest:?}; memory grew by {} KiB",
        growth >> 10
    );
    ensure!(slowest < Duration::from_secs(3), "{slowest:?}");
    ensure!(growth <= GROWTH, "{growth} of {GROWTH} bytes");
    Ok(())
}

/// A byte of the head a second.
async fn slow_head(address: &str) -> Result<Duration> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").await?;
    until_it_ends(stream, b"x", HEADS_END * 2).await
}

/// A byte of the body a second.
async fn slow_upload(address: &str) -> Result<Duration> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "PUT /api/upload/slow.bin HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 1000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    until_it_ends(stream, b"x", UPLOADS_END * 2).await
}

/// Sends `byte` at every beat until the other side answers or ends.
async fn until_it_ends(mut stream: TcpStream, byte: &[u8], limit: Duration) -> Result<Duration> {
    let start = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let mut beat = interval(BEAT);
    let mut answer = [0; 512];
    let ended = timeout(limit, async {
        loop {
            tokio::select! {
                biased;
                read = reader.read(&mut answer) => return read,
                _ = beat.tick() => {
                    if writer.write_all(byte).await.is_err() {
                        return Ok(0);
                    }
                }
            }
        }
    });
    let read = ended.await.context("it is still served")?.unwrap_or(0);
    let answer = String::from_utf8_lossy(&answer[..read]);
    // Either the end of the connection, or why.
    if read > 0 && !answer.starts_with("HTTP/1.1 408") {
        bail!("{answer}");
    }
    Ok(start.elapsed())
}

/// Takes a byte of the answer a second.
async fn slow_download(address: &str, id: &str) -> Result<Duration> {
    let start = Instant::now();
    let socket = TcpSocket::new_v4()?;
    // Else the kernel takes megabytes for us.
    socket.set_recv_buffer_size(4 << 10)?;
    let mut stream = socket.connect(address.parse()?).await?;
    let ask = format!("GET /api/download/{id} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await?;
    let mut beat = interval(BEAT);
    let mut bytes = 0_u64;
    let ended = timeout(DOWNLOADS_END * 2, async {
        loop {
            beat.tick().await;
            // Nothing more comes: it was cut, and what the kernel held is read.
            match stream.read_u8().await {
                Ok(_) => bytes += 1,
                Err(_) => return,
            }
            // The other side's end shows in an error of the socket at once.
            if stream.take_error().ok().flatten().is_some() || is_cut(&stream) {
                return;
            }
        }
    });
    ended.await.context("it is still served")?;
    ensure!(bytes < 16 << 20, "it came whole");
    Ok(start.elapsed())
}

/// Whether the other side has ended, though bytes are still to be read:
/// a write is then answered with a reset.
fn is_cut(stream: &TcpStream) -> bool {
    matches!(
        stream.try_write(b"\r\n"),
        Err(error) if error.kind() != std::io::ErrorKind::WouldBlock
    )
}

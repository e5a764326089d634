//! A client that reads as many bytes as it wants and then hangs up, which no
//! library for HTTP does well.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer here takes longer.
const LIMIT: Duration = Duration::from_secs(30);
/// The head of an answer, at most.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// An answer of which a part was read. Dropping it hangs up; what was not read
/// is refused by the kernel with a reset.
pub struct Cut {
    /// The status.
    pub status: u16,
    /// The head, in lower case but for values.
    pub head: String,
    /// What was read of the body.
    pub body: Vec<u8>,
    stream: TcpStream,
}

impl Cut {
    /// Asks `url` with further lines of a head, and reads `bytes` of the answer's body.
    pub async fn get(url: &str, lines: &[(&str, &str)], bytes: usize) -> Result<Self> {
        timeout(LIMIT, Self::ask(url, lines, bytes))
            .await
            .with_context(|| format!("{url} did not answer within {LIMIT:?}"))?
    }

    async fn ask(url: &str, lines: &[(&str, &str)], bytes: usize) -> Result<Self> {
        let rest = url.strip_prefix("http://").context("not http")?;
        let (host, path) = rest.split_once('/').context("no path")?;
        let mut stream = TcpStream::connect(host).await?;
        let mut head = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in lines {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        // Byte by byte, so that no byte of the body is taken with the head.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(head.len() < MAX_HEAD_BYTES, "the head does not end");
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head)?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("no status in {head:?}"))?;
        let mut body = vec![0; if status < 300 { bytes } else { 0 }];
        stream.read_exact(&mut body).await?;
        Ok(Self {
            status,
            head,
            body,
            stream,
        })
    }

    /// A line of the head.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Reads the next `bytes` of the body.
    pub async fn read(&mut self, bytes: usize) -> Result<()> {
        let before = self.body.len();
        self.body.resize(before + bytes, 0);
        let read = self.stream.read_exact(&mut self.body[before..]);
        timeout(LIMIT, read).await??;
        Ok(())
    }
}

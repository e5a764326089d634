//! `holdfast dev` as a child process on a free port, and its users: an HTTP
//! client whose answers are held against the API's promises, a raw connection
//! for what no HTTP library sends, and the `holdfast` command itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::Gateway;
use crate::processes::{Program, binary, free_port};
use crate::wait::until;

/// A debug build on a busy machine; the promise of 3 s is measured elsewhere.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a raw exchange may take.
const RAW_LIMIT: Duration = Duration::from_secs(30);
/// No file of a test contains it.
const BOUNDARY: &str = "----WebKitFormBoundaryHoldfast7MA4YWxk";

/// A running `holdfast dev`; it is ended when this is dropped.
pub struct Dev {
    /// Its API, with the admin key.
    pub gateway: Gateway,
    /// The admin key.
    pub key: String,
    /// Where it listens, as `127.0.0.1:port`.
    pub address: String,
    /// What it printed when it was ready.
    pub greeting: String,
    /// How long that took.
    pub ready_after: Duration,
    program: Program,
    place: TempDir,
}

impl Dev {
    /// Starts it on new data.
    pub async fn start() -> Result<Self> {
        let holdfast = holdfast()?;
        let place = tempfile::tempdir()?;
        let port = free_port()?;
        let start = Instant::now();
        let mut command = Command::new(holdfast);
        command
            .args(["dev", "--port", &port.to_string(), "--data"])
            .arg(place.path().join("data"))
            .env_remove("HOLDFAST_ADMIN_TOKEN")
            .env_remove("HOLDFAST_KEY")
            .env_remove("HOLDFAST_URL");
        let mut program = Program::start("dev", &mut command, &place.path().join("output"))?;
        let greeting = until("holdfast dev is ready", START_LIMIT, async || {
            if program.ended()?.is_some() {
                bail!("it has ended: {}", program.last_lines());
            }
            let output = program.output();
            ensure!(output.contains("Ctrl-C"), "{}", program.last_lines());
            Ok(output)
        })
        .await?;
        let ready_after = start.elapsed();
        let key = greeting
            .lines()
            .find_map(|line| line.trim().strip_prefix("key "))
            .context("no key is printed")?
            .trim()
            .to_owned();
        let address = format!("127.0.0.1:{port}");
        Ok(Self {
            gateway: Gateway::new(format!("http://{address}"), key.clone())?,
            key,
            address,
            greeting,
            ready_after,
            program,
            place,
        })
    }

    /// A directory of the test's own, under this name.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.place.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// What it said last, for an error.
    pub fn last_lines(&self) -> String {
        self.program.last_lines()
    }

    /// A request with the admin key.
    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.gateway.request(method, path)
    }

    /// A request without a key.
    pub fn open(&self, method: Method, path: &str) -> RequestBuilder {
        self.gateway.open(method, path)
    }

    /// An upload as a form, byte for byte as a browser sends it.
    pub fn form(&self, parts: &[Part<'_>]) -> RequestBuilder {
        self.ask(Method::POST, "/api/upload")
            .header(
                "content-type",
                format!("multipart/form-data; boundary={BOUNDARY}"),
            )
            .body(form_body(parts))
    }

    /// Uploads without a download limit; the answer's JSON.
    pub async fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) -> Result<Value> {
        self.put_with(name, "download_limit=0", bytes).await
    }

    /// Uploads with a query; the answer's JSON.
    pub async fn put_with(
        &self,
        name: &str,
        query: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<Value> {
        let path = format!("/api/upload/{name}?{query}");
        let request = self.ask(Method::PUT, &path).body(bytes.into());
        Answer::of(request).await?.json(201)
    }

    /// Sends bytes as they are, and reads until the other side closes.
    pub async fn raw(&self, bytes: &[u8]) -> Result<String> {
        self.exchange(bytes, false).await
    }

    /// Sends bytes and hangs up: empty where that is not answered.
    pub async fn cut(&self, bytes: &[u8]) -> Result<String> {
        self.exchange(bytes, true).await
    }

    async fn exchange(&self, bytes: &[u8], hang_up: bool) -> Result<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            // What is refused early is closed before all was written.
            let _ = stream.write_all(bytes).await;
            if hang_up {
                let _ = stream.shutdown().await;
            }
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        timeout(RAW_LIMIT, exchange)
            .await
            .context("the connection stays open")?
    }

    /// The head of a raw request with the key.
    pub fn head(&self, line: &str, headers: &str) -> Vec<u8> {
        format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{headers}\r\n",
            self.address, self.key
        )
        .into_bytes()
    }

    /// Names of all files that the admin sees, newest first, page by page.
    pub async fn files(&self, page: usize) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut request = self
                .ask(Method::GET, "/api/files")
                .query(&[("limit", page.to_string())]);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let answer = Answer::of(request).await?.json(200)?;
            let files = answer["files"].as_array().context("no files")?;
            ensure!(files.len() <= page, "a page has {} files", files.len());
            for file in files {
                all.push((text(file, "file_id")?, text(file, "filename")?));
            }
            match answer["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(all),
            }
        }
    }

    /// Whether a file of this name is listed.
    pub async fn lists(&self, name: &str) -> Result<bool> {
        Ok(self
            .files(200)
            .await?
            .iter()
            .any(|(_, found)| found == name))
    }

    /// Runs the `holdfast` command against it, in a directory.
    pub fn run(&self, directory: &Path, arguments: &[&str]) -> Result<Output> {
        Ok(Command::new(holdfast()?)
            .args(["--url", self.gateway.url(), "--data"])
            .arg(self.place.path().join("data"))
            .args(arguments)
            .current_dir(directory)
            .env_remove("HOLDFAST_KEY")
            .output()?)
    }
}

/// The command's binary.
pub fn holdfast() -> Result<PathBuf> {
    binary("holdfast").context("the command is missing: run `cargo build -p holdfast-cli` first")
}

/// A part of a form.
pub enum Part<'a> {
    /// A field.
    Field(&'a str, &'a str),
    /// A file: the part's name, the file's name as bytes, its media type, its bytes.
    File(&'a str, &'a [u8], &'a str, &'a [u8]),
}

/// A form's body as browsers write it.
pub fn form_body(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(format!("--{BOUNDARY}\r\n").as_bytes());
        match part {
            Part::Field(name, value) => body.extend_from_slice(
                format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                    .as_bytes(),
            ),
            Part::File(name, filename, mime, bytes) => {
                body.extend_from_slice(
                    format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"")
                        .as_bytes(),
                );
                body.extend_from_slice(filename);
                body.extend_from_slice(format!("\"\r\nContent-Type: {mime}\r\n\r\n").as_bytes());
                body.extend_from_slice(bytes);
                body.extend_from_slice(b"\r\n");
            }
        }
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// An answer, read to its end.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Sends a request and reads its answer.
    pub async fn of(request: RequestBuilder) -> Result<Self> {
        let response = request.send().await?;
        Ok(Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
        })
    }

    /// A header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// Refuses another status.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(
            self.status == status,
            "{}, not {status}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        Ok(self)
    }

    /// The JSON of an answer with this status.
    pub fn json(self, status: u16) -> Result<Value> {
        Ok(serde_json::from_slice(&self.expect(status)?.body)?)
    }

    /// Refuses what is not the problem document of this status and code, with
    /// every field that one has; its detail.
    pub fn problem(self, status: u16, code: &str) -> Result<String> {
        let id = self.header("x-request-id").to_owned();
        let mime = self.header("content-type").to_owned();
        let answer = self.expect(status)?.body;
        let problem: Value = serde_json::from_slice(&answer)
            .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&answer)))?;
        ensure!(mime == "application/problem+json", "its type is {mime:?}");
        ensure!(problem["code"] == code, "not {code}: {problem}");
        ensure!(problem["status"] == status, "another status: {problem}");
        ensure!(!id.is_empty() && problem["request_id"] == id, "{problem}");
        for field in ["type", "title", "detail"] {
            ensure!(!text(&problem, field)?.is_empty(), "{field}: {problem}");
        }
        text(&problem, "detail")
    }
}

/// A field of text.
pub fn text(value: &Value, field: &str) -> Result<String> {
    let found = value[field].as_str();
    Ok(found
        .with_context(|| format!("no {field} in {value}"))?
        .to_owned())
}

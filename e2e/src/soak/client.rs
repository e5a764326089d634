//! A client: draws what to do, does it, tries again as clients do, and holds
//! every answer against the journal.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::processes::TOKEN;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::journal::{File, Journal};
use crate::numbers::Numbers;
use crate::report::Watch;

/// How long one request may be tried again and again. The longest fault, all
/// nodes killed at once, is over and healed long before.
pub const OP_LIMIT: Duration = Duration::from_secs(150);
/// How long one attempt may take, of which a paused gateway can use up all.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);
/// The pause between attempts where none is asked for.
const PAUSE: Duration = Duration::from_millis(300);
/// Live bytes: three copies of them, what expires and is kept for its grace,
/// logs and reserved segments stay below 2 GB.
const MOST_LIVE_BYTES: u64 = 250 << 20;
/// Live files: lists and the last look at everything stay short.
const MOST_LIVE_FILES: usize = 3_000;
/// The largest file that is kept to the end, and one in how many of those that may be.
const MOST_KEPT_BYTES: u64 = 64 << 10;
const ONE_KEPT_IN: u64 = 8;
/// Files that are kept to the end: the last look has something to find however
/// much was deleted to make room.
const MOST_KEPT_FILES: usize = 1_000;
/// The largest file with an expiry: its bytes stay for an hour's grace.
const MOST_EXPIRING_BYTES: u64 = 4 << 10;
/// Pages of a list that are looked through for a file just stored.
const PAGES: usize = 5;

/// What came of a request that was answered at last.
struct Told {
    status: StatusCode,
    body: Vec<u8>,
    /// When the attempt that was answered began.
    began: Instant,
    /// Attempts before it whose end is not known.
    unknown: u32,
}

pub struct Client {
    http: reqwest::Client,
    gateways: Vec<String>,
    journal: Arc<Journal>,
    numbers: Numbers,
}

impl Client {
    pub fn new(gateways: Vec<String>, journal: Arc<Journal>, numbers: Numbers) -> Result<Self> {
        let http = holdfast_e2e::http::client()?
            .connect_timeout(Duration::from_secs(3))
            .timeout(ATTEMPT_LIMIT)
            .build()?;
        Ok(Self {
            http,
            gateways,
            journal,
            numbers,
        })
    }

    /// Works until `end`.
    pub async fn run(mut self, end: Instant, watch: Arc<Watch>) -> Result<()> {
        while Instant::now() < end {
            let (files, bytes) = self.journal.live();
            let full = files > MOST_LIVE_FILES || bytes > MOST_LIVE_BYTES || watch.is_full();
            match self.numbers.below(100) {
                _ if full => self.delete().await.context("a deletion")?,
                0..=29 => self.upload().await.context("an upload")?,
                30..=54 => self.download().await.context("a download")?,
                55..=69 => self.range().await.context("a range")?,
                70..=79 => self.limited().await.context("a download with a limit")?,
                80..=84 => self.gone().await.context("a file that is gone")?,
                85..=88 => self.list().await.context("a list")?,
                _ => self.delete().await.context("a deletion")?,
            }
            watch.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn ask(&mut self, method: Method, path: &str) -> RequestBuilder {
        let gateway = self.numbers.below(self.gateways.len() as u64) as usize;
        self.http
            .request(method, format!("{}{path}", self.gateways[gateway]))
    }

    /// Sends a request until it is answered otherwise than with 429, 503 or a
    /// broken connection.
    async fn persist(
        &mut self,
        method: Method,
        path: &str,
        finish: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Told> {
        let start = Instant::now();
        let mut unknown = 0;
        loop {
            let began = Instant::now();
            let request = finish(self.ask(method.clone(), path));
            let failed = match answer(request).await {
                Ok((status, body)) if !is_busy(status) => {
                    return Ok(Told {
                        status,
                        body,
                        began,
                        unknown,
                    });
                }
                Ok((status, body)) => format!("{status}: {}", String::from_utf8_lossy(&body)),
                Err(error) => format!("{error:#}"),
            };
            unknown += 1;
            self.journal
                .write(&format!("again {method} {path}: {failed}"));
            ensure!(
                start.elapsed() < OP_LIMIT,
                "{method} {path} was not answered within {OP_LIMIT:?}; the last time: {failed}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn upload(&mut self) -> Result<()> {
        let seed = self.numbers.next();
        let mut size = match self.numbers.below(20) {
            0 => 0,
            1..=9 => self.numbers.between(1, 16 << 10),
            10..=17 => self.numbers.between(16 << 10, 1 << 20),
            18 => self.numbers.between(1 << 20, 4 << 20),
            _ => self.numbers.between(8 << 20, 10 << 20),
        };
        let limit = match self.numbers.below(4) {
            0 => self.numbers.between(1, 5) as u32,
            _ => 0,
        };
        let life = match self.numbers.below(10) {
            0 => Some(Duration::from_secs(self.numbers.between(10, 90))),
            _ => None,
        };
        let mut path = format!("/api/upload/soak-{seed:x}.bin?download_limit={limit}");
        if let Some(life) = life {
            size = size.min(MOST_EXPIRING_BYTES);
            path.push_str(&format!("&expires_in={}s", life.as_secs()));
        }
        let bytes = bytes::Bytes::from(noise(seed, size as usize));
        let first = Instant::now();
        // The key makes it the same upload however often it is sent.
        let told = self
            .persist(Method::PUT, &path, |request| {
                request
                    .bearer_auth(TOKEN)
                    .header("Idempotency-Key", format!("soak-{seed:x}"))
                    .body(bytes.clone())
            })
            .await?;
        let text = String::from_utf8_lossy(&told.body);
        if told.status == StatusCode::GONE && life.is_some() {
            // Stored by an earlier attempt, and over by now.
            return Ok(());
        }
        ensure!(
            told.status == StatusCode::CREATED,
            "{}: {text}",
            told.status
        );
        let file: Value = serde_json::from_str(&text)?;
        let id = file["file_id"].as_str().context("no file_id")?.to_owned();
        let may_be_kept = limit == 0 && life.is_none() && size <= MOST_KEPT_BYTES;
        let kept = may_be_kept
            && seed.is_multiple_of(ONE_KEPT_IN)
            && self.journal.kept() < MOST_KEPT_FILES;
        self.journal.add(File {
            id,
            seed,
            size: size as usize,
            limit,
            expires: life.map(|life| (first + life, Instant::now() + life)),
            kept,
            deleting: None,
            deleted: None,
            whole: 0,
            open: 0,
        });
        Ok(())
    }

    async fn download(&mut self) -> Result<()> {
        let now = Instant::now();
        let fit = |file: &File| file.limit == 0 && file.must_be_there(now);
        let Some((at, file)) = self.journal.pick(&mut self.numbers, fit) else {
            return Ok(());
        };
        let path = format!("/api/download/{}", file.id);
        let told = self.persist(Method::GET, &path, |request| request).await?;
        self.compare(at, &told, 0..file.size, StatusCode::OK)
    }

    async fn range(&mut self) -> Result<()> {
        let now = Instant::now();
        let fit = |file: &File| file.limit == 0 && file.size > 0 && file.must_be_there(now);
        let Some((at, file)) = self.journal.pick(&mut self.numbers, fit) else {
            return Ok(());
        };
        let first = self.numbers.below(file.size as u64) as usize;
        let end = first + 1 + self.numbers.below((file.size - first) as u64) as usize;
        let path = format!("/api/download/{}", file.id);
        let told = self
            .persist(Method::GET, &path, |request| {
                request.header("Range", format!("bytes={first}-{}", end - 1))
            })
            .await?;
        self.compare(at, &told, first..end, StatusCode::PARTIAL_CONTENT)
    }

    /// Holds an answer with bytes of a file without limit against the journal.
    fn compare(
        &self,
        at: usize,
        told: &Told,
        range: Range<usize>,
        expected: StatusCode,
    ) -> Result<()> {
        let file = self.journal.get(at);
        if told.status == expected {
            ensure!(file.may_be_there(told.began), "served: {file:?}");
            let bytes = noise(file.seed, file.size);
            ensure!(
                told.body == bytes[range.clone()],
                "{} came back with other bytes in {range:?}, {} of them",
                file.id,
                told.body.len()
            );
            return Ok(());
        }
        self.absent(&file, told)
    }

    /// A file was not served: it must be one that need not be there.
    fn absent(&self, file: &File, told: &Told) -> Result<()> {
        let text = String::from_utf8_lossy(&told.body);
        let absent = [StatusCode::NOT_FOUND, StatusCode::GONE];
        ensure!(
            absent.contains(&told.status),
            "{}: {text}: {file:?}",
            told.status
        );
        ensure!(
            !file.must_be_there(Instant::now()),
            "lost: {}: {text}: {file:?}",
            told.status
        );
        Ok(())
    }

    /// One attempt at a download that is counted. Not tried again: each attempt
    /// may count.
    async fn limited(&mut self) -> Result<()> {
        let now = Instant::now();
        let fit = |file: &File| file.limit > 0 && file.must_be_there(now);
        let Some((at, _)) = self.journal.pick(&mut self.numbers, fit) else {
            return Ok(());
        };
        let file = self.journal.change(at, |file| file.open += 1);
        let began = Instant::now();
        let path = format!("/api/download/{}", file.id);
        let request = self.ask(Method::GET, &path);
        let (status, body) = match answer(request).await {
            Ok(answer) => answer,
            // It stays open: it may count.
            Err(error) => {
                self.journal.write(&format!("broken {path}: {error:#}"));
                return Ok(());
            }
        };
        match status {
            StatusCode::OK => {
                ensure!(
                    body == noise(file.seed, file.size),
                    "{}: other bytes",
                    file.id
                );
                ensure!(file.may_be_there(began), "served: {file:?}");
                self.journal.came_whole(at)
            }
            status if is_busy(status) => Ok(()),
            StatusCode::GONE | StatusCode::NOT_FOUND => {
                // This one has not counted, whatever the others have.
                let file = self.journal.change(at, |file| file.open -= 1);
                let told = Told {
                    status,
                    body,
                    began,
                    unknown: 0,
                };
                if file.may_be_used_up() {
                    return Ok(());
                }
                self.absent(&file, &told)
            }
            status => bail!("{status}: {}", String::from_utf8_lossy(&body)),
        }
    }

    /// What was deleted or has expired stays so.
    async fn gone(&mut self) -> Result<()> {
        let now = Instant::now();
        let fit = |file: &File| !file.may_be_there(now);
        let Some((_, file)) = self.journal.pick(&mut self.numbers, fit) else {
            return Ok(());
        };
        let path = format!("/api/download/{}", file.id);
        let told = self.persist(Method::GET, &path, |request| request).await?;
        ensure!(
            told.status == StatusCode::NOT_FOUND || told.status == StatusCode::GONE,
            "{}: {file:?} is served",
            told.status
        );
        Ok(())
    }

    async fn delete(&mut self) -> Result<()> {
        let now = Instant::now();
        let fit = |file: &File| !file.kept && file.deleting.is_none() && file.must_be_there(now);
        let Some((at, _)) = self.journal.pick(&mut self.numbers, fit) else {
            // All that is left expires or is being deleted.
            tokio::time::sleep(PAUSE).await;
            return Ok(());
        };
        let mut taken = false;
        let file = self.journal.change(at, |file| {
            taken = file.deleting.is_none();
            file.deleting.get_or_insert_with(Instant::now);
        });
        if !taken {
            return Ok(());
        }
        let path = format!("/api/files/{}", file.id);
        let told = self
            .persist(Method::DELETE, &path, |request| request.bearer_auth(TOKEN))
            .await?;
        let deleted = told.status == StatusCode::NO_CONTENT;
        // By an attempt whose answer was lost, or by a worker once its limit was used up.
        let before = told.status == StatusCode::NOT_FOUND
            && (told.unknown > 0 || file.may_be_used_up() || file.expires.is_some());
        ensure!(
            deleted || before,
            "{}: {}: {file:?}",
            told.status,
            String::from_utf8_lossy(&told.body)
        );
        self.journal.write(&format!("deleted {}", file.id));
        self.journal
            .change(at, |file| file.deleted = Some(Instant::now()));
        Ok(())
    }

    /// A list shows what was stored before it began, and nothing deleted.
    async fn list(&mut self) -> Result<()> {
        let began = Instant::now();
        let files = self.journal.files();
        let Some(newest) = files.iter().rev().find(|file| file.must_be_there(began)) else {
            return Ok(());
        };
        let mut path = "/api/files?limit=200".to_owned();
        for _ in 0..PAGES {
            let told = self
                .persist(Method::GET, &path, |request| request.bearer_auth(TOKEN))
                .await?;
            let text = String::from_utf8_lossy(&told.body);
            ensure!(told.status == StatusCode::OK, "{}: {text}", told.status);
            let page: Value = serde_json::from_str(&text)?;
            let rows = page["files"].as_array().context("no files")?;
            let listed = |id: &str| rows.iter().any(|row| row["file_id"] == id);
            let wrong = files
                .iter()
                .find(|file| file.deleted.is_some_and(|at| at < began) && listed(&file.id));
            ensure!(wrong.is_none(), "deleted and listed: {wrong:?}");
            if listed(&newest.id) {
                return Ok(());
            }
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/api/files?limit=200&cursor={cursor}"),
                None => break,
            }
        }
        let now = self
            .journal
            .files()
            .into_iter()
            .find(|file| file.id == newest.id);
        let may_lack =
            now.is_some_and(|file| !file.must_be_there(Instant::now()) || file.may_be_used_up());
        ensure!(may_lack, "not listed: {newest:?}");
        Ok(())
    }
}

fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS
}

async fn answer(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>)> {
    let response = request.send().await?;
    let status = response.status();
    if is_busy(status) {
        ensure!(
            response.headers().contains_key("retry-after"),
            "{status} without Retry-After"
        );
    }
    Ok((status, response.bytes().await?.to_vec()))
}

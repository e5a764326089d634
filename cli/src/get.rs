//! Downloads, which go on where they stopped.
//!
//! The bytes go into a file with the ending `.part` beside the target, and what
//! is needed to go on (ticket, entity tag) into one with `.part.json`. A ticket
//! makes all requests of one download count once. When all bytes are there the
//! file gets its name; until then nothing has it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt;
use reqwest::header::{self, HeaderMap};
use reqwest::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::api::{Api, path_component};
use crate::arguments::Get;
use crate::failure::Failure;
use crate::progress;
use crate::show::{Output, say};

/// How often a broken download is taken up again before the command gives up;
/// progress begins the count anew.
const ATTEMPTS: u32 = 5;
/// The first pause before trying again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const TICKET: &str = "holdfast-ticket";

/// What a download needs to go on.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
struct Progress {
    /// Under which the requests are one download.
    ticket: Option<String>,
    /// Which version of the file it is.
    etag: Option<String>,
    /// The file's bytes.
    size: Option<u64>,
    /// The name it was uploaded under.
    name: Option<String>,
}

/// Where the bytes go.
struct Part {
    bytes: PathBuf,
    notes: PathBuf,
}

/// Downloads a file.
pub async fn run(api: &Api, get: &Get, output: Output) -> Result<(), Failure> {
    if get.output.as_deref() == Some(Path::new("-")) {
        return to_standard_output(api, get).await;
    }
    if let Some(target) = &get.output {
        refuse_existing(target, get.force).await?;
    }
    let part = Part::of(get);
    let mut pause = FIRST_PAUSE;
    let mut attempts = 0;
    let progress = loop {
        let before = part.len().await;
        match attempt(api, get, &part).await {
            Ok(progress) => break progress,
            Err(failure) if !may_pass(&failure) => return Err(failure),
            Err(failure) => {
                if part.len().await > before {
                    (attempts, pause) = (0, FIRST_PAUSE);
                }
                attempts += 1;
                if attempts >= ATTEMPTS {
                    return Err(failure);
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    };
    let target = match &get.output {
        Some(target) => target.clone(),
        None => PathBuf::from(plain_name(progress.name.as_deref(), &get.id)),
    };
    refuse_existing(&target, get.force).await?;
    fs::rename(&part.bytes, &target)
        .await
        .map_err(Failure::file(&target))?;
    let _ = fs::remove_file(&part.notes).await;
    let size = fs::metadata(&target)
        .await
        .map_err(Failure::file(&target))?
        .len();
    if output.json {
        output.value(&serde_json::json!({
            "file_id": get.id, "path": target.display().to_string(), "size": size,
        }));
    } else {
        say!("{}  {}", target.display(), crate::show::size(size));
    }
    Ok(())
}

async fn refuse_existing(target: &Path, force: bool) -> Result<(), Failure> {
    match fs::symlink_metadata(target).await {
        Ok(_) if !force => Err(Failure::Exists(target.to_owned())),
        _ => Ok(()),
    }
}

/// Whether trying again may help.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Broken(_) | Failure::Unreachable { .. } => true,
        Failure::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
        _ => false,
    }
}

/// One request, from the byte on that is missing.
async fn attempt(api: &Api, get: &Get, part: &Part) -> Result<Progress, Failure> {
    let mut progress = part.notes().await;
    let have = part.len().await;
    if progress.ticket.is_none() && progress.etag.is_none() && have > 0 {
        return Err(Failure::Usage(format!(
            "{} is there without {}: delete it to begin anew",
            part.bytes.display(),
            part.notes.display()
        )));
    }
    if have > 0 && progress.size == Some(have) {
        return Ok(progress);
    }
    let mut request = request(api, get);
    if let Some(ticket) = &progress.ticket {
        request = request.header(TICKET, ticket);
    }
    if have > 0 {
        request = request.header(header::RANGE, format!("bytes={have}-"));
        if let Some(etag) = &progress.etag {
            request = request.header(header::IF_RANGE, etag);
        }
    }
    let response = api.send(request).await?;
    let from = match response.status() {
        StatusCode::PARTIAL_CONTENT => have,
        // Another version, or no ranges: from the start.
        _ => 0,
    };
    progress = noted(
        response.headers(),
        from,
        response.content_length(),
        progress,
    );
    part.note(&progress).await?;
    receive(response, get, part, from, &progress).await?;
    Ok(progress)
}

fn request(api: &Api, get: &Get) -> reqwest::RequestBuilder {
    let path = format!("/api/download/{}", path_component(&get.id));
    let request = api.open(Method::GET, &path);
    match &get.password {
        Some(password) => request.header("holdfast-password", password),
        None => request,
    }
}

async fn receive(
    response: Response,
    get: &Get,
    part: &Part,
    from: u64,
    progress: &Progress,
) -> Result<(), Failure> {
    let name = progress.name.as_deref().unwrap_or(&get.id);
    let bar = progress::bar(name, progress.size);
    bar.set_position(from);
    let result = write_pieces(response, part, from, &bar).await;
    bar.finish_and_clear();
    let written = result?;
    match progress.size {
        Some(size) if written != size => {
            Err(Failure::Broken(format!("{written} of {size} bytes came")))
        }
        _ => Ok(()),
    }
}

async fn write_pieces(
    response: Response,
    part: &Part,
    from: u64,
    bar: &indicatif::ProgressBar,
) -> Result<u64, Failure> {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&part.bytes)
        .await
        .map_err(Failure::file(&part.bytes))?;
    let on_disk = || Failure::file(&part.bytes);
    file.set_len(from).await.map_err(on_disk())?;
    file.seek(io::SeekFrom::Start(from))
        .await
        .map_err(on_disk())?;
    let mut at = from;
    let mut pieces = response.bytes_stream();
    let ended = loop {
        match pieces.try_next().await {
            Ok(Some(piece)) => {
                file.write_all(&piece).await.map_err(on_disk())?;
                at += piece.len() as u64;
                bar.set_position(at);
            }
            Ok(None) => break Ok(at),
            Err(error) => break Err(Failure::Broken(crate::api::innermost(&error))),
        }
    };
    // What came is kept also when it broke: the next request goes on from it.
    file.flush().await.map_err(on_disk())?;
    ended
}

async fn to_standard_output(api: &Api, get: &Get) -> Result<(), Failure> {
    let response = api.send(request(api, get)).await?;
    let expected = response.content_length();
    let path = Path::new("standard output");
    let mut out = tokio::io::stdout();
    let mut written = 0;
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces
        .try_next()
        .await
        .map_err(|error| Failure::Broken(crate::api::innermost(&error)))?
    {
        out.write_all(&piece).await.map_err(Failure::file(path))?;
        written += piece.len() as u64;
    }
    out.flush().await.map_err(Failure::file(path))?;
    match expected {
        Some(expected) if expected != written => Err(Failure::Broken(format!(
            "{written} of {expected} bytes came"
        ))),
        _ => Ok(()),
    }
}

/// What an answer's headers tell, over what was known.
fn noted(headers: &HeaderMap, from: u64, length: Option<u64>, known: Progress) -> Progress {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    Progress {
        ticket: text(TICKET).or(known.ticket),
        etag: text("etag").or(known.etag),
        size: length.map(|length| from + length).or(known.size),
        name: text("content-disposition")
            .and_then(|value| disposition_name(&value))
            .or(known.name),
    }
}

/// The name in a Content-Disposition: `filename*` (RFC 8187) before `filename`.
fn disposition_name(value: &str) -> Option<String> {
    let parameter = |name: &str| {
        value
            .split(';')
            .map(str::trim)
            .find_map(|part| part.strip_prefix(name))
    };
    if let Some(extended) = parameter("filename*=").and_then(|v| v.strip_prefix("UTF-8''")) {
        return unescape(extended);
    }
    parameter("filename=").map(|name| name.trim_matches('"').to_owned())
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The name to write to: the file's own, if it is one in this directory, else its id.
fn plain_name(name: Option<&str>, id: &str) -> String {
    name.and_then(|name| holdfast_model::FileName::new(name).ok())
        .map_or_else(|| id.to_owned(), |name| name.as_str().to_owned())
}

impl Part {
    fn of(get: &Get) -> Self {
        let base = match &get.output {
            Some(target) => target.as_os_str().to_owned(),
            None => plain_name(None, &path_component(&get.id)).into(),
        };
        let with = |ending: &str| {
            let mut name = base.clone();
            name.push(ending);
            PathBuf::from(name)
        };
        Self {
            bytes: with(".part"),
            notes: with(".part.json"),
        }
    }

    async fn len(&self) -> u64 {
        fs::metadata(&self.bytes)
            .await
            .map_or(0, |found| found.len())
    }

    async fn notes(&self) -> Progress {
        match fs::read(&self.notes).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Progress::default(),
        }
    }

    async fn note(&self, progress: &Progress) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(progress).map_err(|error| Failure::Malformed {
            url: self.notes.display().to_string(),
            reason: error.to_string(),
        })?;
        fs::write(&self.notes, bytes)
            .await
            .map_err(Failure::file(&self.notes))
    }
}

#[cfg(test)]
mod tests;

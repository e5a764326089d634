//! Uploads.

use std::path::Path;

use futures_util::TryStreamExt;
use reqwest::{Body, Method, header};
use serde_json::Value;
use tokio_util::io::ReaderStream;

use crate::api::{Api, path_component};
use crate::arguments::Put;
use crate::failure::Failure;
use crate::progress;
use crate::show::{Output, cell, say, size_cell};

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 << 10;

/// Uploads each file; one that fails does not stop the others.
pub async fn run(api: &Api, put: &Put, output: Output) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for path in &put.files {
        match one(api, path, put).await {
            Ok(file) if output.json => output.value(&file),
            Ok(file) => describe(&file),
            Err(failure) => {
                if put.files.len() > 1 {
                    eprintln!("holdfast: {}: {failure}", path.display());
                }
                failed.push(failure);
            }
        }
    }
    let count = failed.len();
    match (failed.pop(), put.files.len()) {
        (None, _) => Ok(()),
        (Some(failure), 1) => Err(failure),
        (Some(_), all) => Err(Failure::Some { failed: count, all }),
    }
}

async fn one(api: &Api, path: &Path, put: &Put) -> Result<Value, Failure> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| {
            Failure::Usage(format!(
                "{} has no name in UTF-8 to be stored under",
                path.display()
            ))
        })?;
    let file = tokio::fs::File::open(path)
        .await
        .map_err(Failure::file(path))?;
    let metadata = file.metadata().await.map_err(Failure::file(path))?;
    if metadata.is_dir() {
        return Err(Failure::Usage(format!(
            "{} is a directory: name the files in it",
            path.display()
        )));
    }
    let size = metadata.len();
    let bar = progress::bar(name, Some(size));
    let moving = bar.clone();
    let pieces = ReaderStream::with_capacity(file, READ_BYTES)
        .inspect_ok(move |piece| moving.inc(piece.len() as u64));
    let mut request = api
        .keyed(
            Method::PUT,
            &format!("/api/upload/{}", path_component(name)),
        )?
        .header(header::CONTENT_LENGTH, size)
        .body(Body::wrap_stream(pieces));
    if let Some(expires) = &put.expires {
        request = request.query(&[("expires_in", expires)]);
    }
    if let Some(limit) = put.limit {
        request = request.query(&[("download_limit", limit)]);
    }
    if let Some(password) = &put.password {
        request = request.header("holdfast-password", password);
    }
    let stored = api.json(request).await;
    bar.finish_and_clear();
    stored
}

fn describe(file: &Value) {
    say!("{}  {}", cell(file, "filename"), size_cell(file, "size"));
    say!("  id       {}", cell(file, "file_id"));
    say!("  download {}", cell(file, "download_url"));
    say!(
        "  left     {} downloads, until {}",
        match file.get("downloads_left") {
            None | Some(Value::Null) => "any number of".to_owned(),
            Some(left) => left.to_string(),
        },
        match file.get("expires_at") {
            None | Some(Value::Null) => "deleted".to_owned(),
            Some(_) => cell(file, "expires_at"),
        }
    );
    say!(
        "  delete   holdfast rm {} --delete-token {}",
        cell(file, "file_id"),
        cell(file, "delete_token")
    );
}

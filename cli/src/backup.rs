//! Writes a backup of the metadata into a file, and takes it only when it is
//! whole: its closing section holds the SHA-256 of all bytes before it
//! (`docs/formats.md`).

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use reqwest::Method;
use sha2::{Digest, Sha256};
use tokio::fs;
use tokio::io::AsyncWriteExt;

use crate::api::{Api, innermost};
use crate::failure::Failure;
use crate::progress;
use crate::show::{Output, say, size};

/// The closing section: kind 5, its length, the hash.
const END_HEAD: [u8; 5] = [5, 0, 0, 0, 32];
const END_BYTES: usize = END_HEAD.len() + 32;

/// Hashes all but the last [`END_BYTES`], whatever pieces they come in.
#[derive(Default)]
struct Check {
    hash: Sha256,
    tail: Vec<u8>,
    bytes: u64,
}

impl Check {
    fn take(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.tail.extend_from_slice(piece);
        let sure = self.tail.len().saturating_sub(END_BYTES);
        let rest = self.tail.split_off(sure);
        self.hash.update(&self.tail);
        self.tail = rest;
    }

    fn took_all(self) -> bool {
        self.tail.strip_prefix(&END_HEAD) == Some(self.hash.finalize().as_slice())
    }
}

/// Writes the backup.
pub async fn run(api: &Api, file: &Path, output: Output) -> Result<(), Failure> {
    if fs::symlink_metadata(file).await.is_ok() {
        return Err(Failure::Exists(file.to_owned()));
    }
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let response = api
        .send(api.keyed(Method::GET, "/api/admin/backup")?)
        .await?;
    let on_disk = || Failure::file(&part);
    let mut target = fs::File::create(&part).await.map_err(on_disk())?;
    let mut check = Check::default();
    let bar = progress::bar("backup", None);
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces
        .try_next()
        .await
        .map_err(|error| Failure::Broken(innermost(&error)))?
    {
        target.write_all(&piece).await.map_err(on_disk())?;
        check.take(&piece);
        bar.inc(piece.len() as u64);
    }
    bar.finish_and_clear();
    let bytes = check.bytes;
    if !check.took_all() {
        return Err(Failure::Broken("the backup is not whole".into()));
    }
    target.sync_all().await.map_err(on_disk())?;
    fs::rename(&part, file).await.map_err(on_disk())?;
    if output.json {
        output.value(&serde_json::json!({ "path": file.display().to_string(), "size": bytes }));
    } else {
        say!("{}  {}", file.display(), size(bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8], piece: usize) -> bool {
        let mut check = Check::default();
        bytes.chunks(piece).for_each(|piece| check.take(piece));
        check.took_all()
    }

    #[test]
    fn only_a_whole_backup_is_taken() {
        let mut bytes = vec![7; 1_000];
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&END_HEAD);
        bytes.extend_from_slice(&hash);
        for piece in [1, 36, 37, 38, 5_000] {
            assert!(whole(&bytes, piece), "in pieces of {piece}");
            assert!(!whole(&bytes[..bytes.len() - 1], piece));
            assert!(!whole(&bytes[1..], piece));
        }
        assert!(!whole(b"", 1));
    }
}

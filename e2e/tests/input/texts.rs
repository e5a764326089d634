//! Text, which a worker compresses behind the reader's back.

use anyhow::{Context, Result, ensure};
use holdfast_e2e::dev::{Answer, Dev, text};
use holdfast_e2e::wait::until;
use reqwest::Method;

use crate::SETTLE;

/// Over two chunks.
const SIZE: u64 = 18 << 20;
pub async fn compressed_text_comes_back_exactly(dev: &Dev) -> Result<()> {
    let mut bytes = Vec::new();
    for line in 0_u64.. {
        if bytes.len() as u64 >= SIZE {
            break;
        }
        bytes.extend_from_slice(format!("{line}: a line of a log that says little\n").as_bytes());
    }
    let file = dev.put("compress.txt", bytes.clone()).await?;
    let id = text(&file, "file_id")?;
    let task = until("the text is compressed", SETTLE, async || {
        let tasks = dev.gateway.json("/api/tasks?status=done&limit=500").await?;
        let all = tasks["tasks"].as_array().context("no tasks")?;
        let of_file = all.iter().find(|task| task["file_id"] == id);
        of_file.cloned().context("its task is not done")
    })
    .await?;
    ensure!(task["kind"] == "compress", "{task}");
    // Done means that the group has swapped the representation: what is read
    // from here on was compressed.
    dev.gateway.expect(&id, &bytes).await?;
    let path = format!("/api/download/{id}");
    let size = bytes.len();
    for span in [
        0..1,
        8_388_600..8_388_620,
        1_000_000..9_000_000,
        size - 10..size,
    ] {
        let range = format!("bytes={}-{}", span.start, span.end - 1);
        let part = dev.open(Method::GET, &path).header("range", &range);
        let answer = Answer::of(part).await?.expect(206)?;
        ensure!(answer.body == bytes[span], "{range}: other bytes");
    }
    let now = dev.gateway.json(&format!("/api/files/{id}")).await?;
    ensure!(
        now["size"] == file["size"] && now["sha256"] == file["sha256"],
        "{now}"
    );
    let head = Answer::of(dev.open(Method::HEAD, &path))
        .await?
        .expect(200)?;
    ensure!(
        head.header("content-encoding").is_empty(),
        "{:?}",
        head.headers
    );
    Ok(())
}

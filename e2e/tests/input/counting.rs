//! Download limits, tickets and expiry.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::dev::{Answer, Dev, text};
use holdfast_e2e::wait::until;
use reqwest::{Method, RequestBuilder};

const SIZE: usize = 300_000;

/// A file with limit 1: the address of its bytes.
async fn once(dev: &Dev, name: &str) -> Result<String> {
    let file = dev
        .put_with(name, "download_limit=1", noise(9, SIZE))
        .await?;
    Ok(format!("/api/download/{}", text(&file, "file_id")?))
}

fn get(dev: &Dev, path: &str) -> RequestBuilder {
    dev.open(Method::GET, path)
}

pub async fn one_download_is_one(dev: &Dev) -> Result<()> {
    let path = once(dev, "once.bin").await?;
    for _ in 0..3 {
        Answer::of(dev.open(Method::HEAD, &path))
            .await?
            .expect(200)?;
    }
    let first = Answer::of(get(dev, &path)).await?.expect(200)?;
    ensure!(first.body == noise(9, SIZE), "other bytes");
    ensure!(
        first.header("cache-control").contains("no-store"),
        "{:?}",
        first.headers
    );
    Answer::of(get(dev, &path))
        .await?
        .problem(410, "download_limit_reached")?;
    let part = get(dev, &path).header("range", "bytes=0-0");
    Answer::of(part)
        .await?
        .problem(410, "download_limit_reached")?;
    Ok(())
}

pub async fn a_ticket_lets_ranges_go_on(dev: &Dev) -> Result<()> {
    let path = once(dev, "ticket.bin").await?;
    let part = |range: &str| get(dev, &path).header("range", range.to_owned());
    let first = Answer::of(part("bytes=0-99999")).await?.expect(206)?;
    let ticket = first.header("holdfast-ticket").to_owned();
    ensure!(!ticket.is_empty(), "no ticket: {:?}", first.headers);
    let cookie = first.header("set-cookie");
    ensure!(
        cookie.contains("HttpOnly") && cookie.contains(&format!("Path={path}")),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();

    Answer::of(part("bytes=100000-"))
        .await?
        .problem(410, "download_limit_reached")?;
    let with = |range: &str| part(range).header("holdfast-ticket", &ticket);
    let second = Answer::of(with("bytes=100000-")).await?.expect(206)?;
    let whole = [first.body, second.body].concat();
    ensure!(whole == noise(9, SIZE), "the parts are not the whole");
    // Again, as a retry; a browser shows its cookie.
    let retry = get(dev, &path).header("cookie", &cookie);
    Answer::of(retry).await?.expect(200)?;
    // Each byte was served twice.
    Answer::of(with("bytes=0-9"))
        .await?
        .problem(410, "ticket_ended")?;
    let wrong = part("bytes=0-9").header("holdfast-ticket", "0".repeat(32));
    Answer::of(wrong).await?.problem(410, "ticket_ended")?;
    Ok(())
}

pub async fn what_sends_no_bytes_does_not_count(dev: &Dev) -> Result<()> {
    let path = once(dev, "uncounted.bin").await?;
    let head = Answer::of(dev.open(Method::HEAD, &path))
        .await?
        .expect(200)?;
    let etag = head.header("etag").to_owned();
    Answer::of(get(dev, &path).header("if-none-match", &etag))
        .await?
        .expect(304)?;
    let beyond = get(dev, &path).header("range", format!("bytes={SIZE}-"));
    Answer::of(beyond)
        .await?
        .problem(416, "range_not_satisfiable")?;
    Answer::of(get(dev, &path).header("if-match", "\"x\""))
        .await?
        .expect(412)?;
    Answer::of(get(dev, &path).bearer_auth("wrong"))
        .await?
        .expect(401)?;
    Answer::of(get(dev, &path)).await?.expect(200)?;
    Ok(())
}

pub async fn an_expired_file_is_refused(dev: &Dev) -> Result<()> {
    let file = dev
        .put_with("expires.txt", "expires_in=2s&download_limit=0", "hi")
        .await?;
    ensure!(file["expires_at"].is_string(), "{file}");
    let path = format!("/api/download/{}", text(&file, "file_id")?);
    Answer::of(get(dev, &path)).await?.expect(200)?;
    until("the file expires", Duration::from_secs(20), async || {
        Answer::of(get(dev, &path)).await?.problem(410, "expired")
    })
    .await?;
    Answer::of(dev.open(Method::HEAD, &path))
        .await?
        .expect(410)?;
    ensure!(!dev.lists("expires.txt").await?, "it is still listed");
    Ok(())
}

//! What everybody does on the first day.

use std::io::Cursor;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use image::ImageFormat;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::Level;
use crate::content::{noise, picture};
use crate::stack::Stack;
use crate::wait::until;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The block of shell lines after this mark is what a reader would run.
const README_MARK: &str = "<!-- run by the compose suite -->";

pub async fn the_lines_of_the_readme_work(stack: &Stack, _: Level) -> Result<()> {
    let readme = std::fs::read_to_string("README.md").context("run this in the repository")?;
    let lines = readme
        .split(README_MARK)
        .nth(1)
        .and_then(|rest| rest.split("```sh\n").nth(1))
        .and_then(|rest| rest.split("```").next())
        .context("the README has no marked lines")?;
    ensure!(lines.contains("curl"), "the marked lines hold no curl");
    let gateway = stack.gateway(1)?;
    let here = gateway.url().trim_start_matches("http://").to_owned();
    let lines = lines.replace("localhost:5000", &here);
    let script = format!(
        "from=$PWD; there=$(mktemp -d); trap 'rm -rf \"$there\"' EXIT\n\
         export COMPOSE_FILE=$from/docker-compose.yml; cd \"$there\"\n\
         head -c 300000 /dev/urandom >photo.jpg\n{lines}\n\
         cmp photo.jpg copy.jpg && echo same"
    );
    let printed = stack.shell(&script)?;
    ensure!(printed.trim_end().ends_with("same"), "{printed}");
    Ok(())
}

pub async fn files_of_every_size_come_back_byte_for_byte(
    stack: &Stack,
    level: Level,
) -> Result<()> {
    let gateway = stack.gateway(1)?;
    let mut sizes = vec![
        0,
        1,
        16 * KIB,
        16 * KIB + 1,
        300 * KIB,
        8 * MIB,
        8 * MIB + 1,
        25 * MIB + 77,
    ];
    if level == Level::Full {
        sizes.push(700 * MIB);
    }
    for (seed, size) in sizes.into_iter().enumerate() {
        let bytes = noise(seed as u64, size);
        let id = gateway.upload("noise.bin", bytes.clone(), 0).await?;
        gateway
            .expect(&id, &bytes)
            .await
            .with_context(|| format!("{size} bytes"))?;
        if size > 2 * KIB {
            expect_range(stack, &id, &bytes, size / 2 - 3, size / 2 + 1_000).await?;
            expect_range(stack, &id, &bytes, size - 5, size - 1).await?;
        }
    }
    Ok(())
}

async fn expect_range(
    stack: &Stack,
    id: &str,
    bytes: &[u8],
    first: usize,
    last: usize,
) -> Result<()> {
    let response = stack
        .gateway(1)?
        .open(Method::GET, &format!("/api/download/{id}"))
        .header("range", format!("bytes={first}-{last}"))
        .send()
        .await?;
    let status = response.status();
    ensure!(status == StatusCode::PARTIAL_CONTENT, "range: {status}");
    let came = response.bytes().await?;
    ensure!(
        bytes.get(first..=last) == Some(came.as_ref()),
        "the range {first}-{last} has other bytes"
    );
    Ok(())
}

pub async fn pictures_get_thumbnails(stack: &Stack, _: Level) -> Result<()> {
    let gateway = stack.gateway(1)?;
    for (name, format) in [("a.jpg", ImageFormat::Jpeg), ("b.png", ImageFormat::Png)] {
        let bytes = picture(7, 900, 600, format)?;
        let id = gateway.upload(name, bytes.clone(), 0).await?;
        let limit = Duration::from_secs(60);
        let small = until(name, limit, async || gateway.thumbnail(&id).await).await?;
        let decoded = image::ImageReader::new(Cursor::new(small))
            .with_guessed_format()?
            .decode()?;
        ensure!(
            decoded.width() < 900 && decoded.width() > decoded.height(),
            "the thumbnail is {} x {}",
            decoded.width(),
            decoded.height()
        );
        gateway.expect(&id, &bytes).await?;
    }
    Ok(())
}

pub async fn nothing_is_open_without_a_credential(stack: &Stack, _: Level) -> Result<()> {
    let gateway = stack.gateway(1)?;
    let id = gateway.upload("mine.txt", b"mine".to_vec(), 0).await?;
    let file = format!("/api/files/{id}");
    for (method, path) in [
        (Method::PUT, "/api/upload/x"),
        (Method::POST, "/api/upload"),
        (Method::GET, "/api/files"),
        (Method::GET, file.as_str()),
        (Method::DELETE, file.as_str()),
        (Method::GET, "/api/nodes"),
        (Method::GET, "/api/stats"),
        (Method::GET, "/api/tasks"),
    ] {
        for credential in [None, Some("Bearer wrong-wrong-wrong"), Some("Basic YTpi")] {
            let mut request = gateway.open(method.clone(), path);
            if let Some(credential) = credential {
                request = request.header("authorization", credential);
            }
            let status = request.send().await?.status();
            ensure!(
                status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN,
                "{method} {path} with {credential:?}: {status}"
            );
        }
    }
    let client = holdfast_e2e::http::client()?.build()?;
    let node = stack.node_url("storage-node1")?;
    for (method, path) in [
        (Method::POST, "/upload"),
        (Method::GET, "/download/x"),
        (Method::DELETE, "/delete/x"),
        (Method::GET, "/files"),
        (Method::GET, "/stats"),
        (Method::POST, "/v1/propose"),
        (Method::POST, "/v1/raft"),
        (Method::POST, "/v1/bootstrap"),
        (Method::POST, "/v1/backup"),
    ] {
        let request = client.request(method.clone(), format!("{node}{path}"));
        let status = request.send().await?.status();
        ensure!(
            status == StatusCode::UNAUTHORIZED,
            "{method} {path}: {status}"
        );
    }
    gateway.expect(&id, b"mine").await
}

pub async fn processes_are_unprivileged_and_write_to_volumes_alone(
    stack: &Stack,
    _: Level,
) -> Result<()> {
    for service in ["gateway", "storage-node1", "worker", "rabbitmq", "redis"] {
        let user = stack.compose(&["exec", "-T", service, "id", "-u"])?;
        ensure!(user != "0", "{service} runs as root");
        if stack
            .compose(&["exec", "-T", service, "touch", "/usr/local/bin/x"])
            .is_ok()
        {
            bail!("{service} can write its own programs");
        }
    }
    let modes = stack.compose(&[
        "exec",
        "-T",
        "gateway",
        "sh",
        "-c",
        "stat -c '%a' /secrets/cluster /secrets/cluster/* | sort -u | tr '\\n' ' '",
    ])?;
    ensure!(modes.trim() == "440 750", "modes of the secrets: {modes}");
    Ok(())
}

pub async fn ten_thousand_small_files_with_unicode_names(stack: &Stack, _: Level) -> Result<()> {
    const FILES: u64 = 10_000;
    const AT_ONCE: usize = 32;
    let gateway = &stack.gateway(1)?;
    let uploads: Vec<(u64, String)> = stream::iter(0..FILES)
        .map(|number| async move {
            let name = format!("%C3%BCbung%20{number}%20%F0%9F%8E%81.txt");
            let bytes = format!("file {number} ü 🎁\n").into_bytes();
            anyhow::Ok((number, gateway.upload(&name, bytes, 0).await?))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    stream::iter(&uploads)
        .map(anyhow::Ok)
        .try_for_each_concurrent(AT_ONCE, |(number, id)| async move {
            gateway
                .expect(id, format!("file {number} ü 🎁\n").as_bytes())
                .await
        })
        .await?;
    let newest = gateway.json("/api/files?limit=1").await?;
    let name = newest
        .pointer("/files/0/filename")
        .and_then(Value::as_str)
        .unwrap_or_default();
    ensure!(name.contains('🎁'), "the newest file is {name:?}");
    Ok(())
}

//! Nothing, much, and many.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_e2e::content::noise;
use holdfast_e2e::dev::{Answer, Dev, Part, text};
use reqwest::Method;
use serde_json::Value;

const MANY: usize = 300;
/// Uploads at once, as a busy client sends them.
const AT_ONCE: usize = 16;
const LARGE: usize = 40 << 20;

pub async fn an_empty_file_comes_back(dev: &Dev) -> Result<()> {
    let raw = dev.put("empty", "").await?;
    let form = dev.form(&[Part::File("file", b"empty.txt", "text/plain", b"")]);
    let form = Answer::of(form).await?.json(201)?;
    for file in [raw, form] {
        ensure!(file["size"] == 0, "{file}");
        let path = format!("/api/download/{}", text(&file, "file_id")?);
        let answer = Answer::of(dev.open(Method::GET, &path))
            .await?
            .expect(200)?;
        ensure!(answer.body.is_empty() && answer.header("content-length") == "0");
        let part = dev.open(Method::GET, &path).header("range", "bytes=0-0");
        let beyond = Answer::of(part).await?;
        ensure!(beyond.header("content-range") == "bytes */0");
        beyond.problem(416, "range_not_satisfiable")?;
    }
    Ok(())
}

fn small(number: usize) -> (String, Vec<u8>) {
    let name = format!("Ünï-{number:03}-文件-🎁.txt");
    (
        name,
        format!("text {number} 汉字\n")
            .repeat(1 + number % 50)
            .into_bytes(),
    )
}

pub async fn many_small_files_come_back_and_are_listed_once_each(dev: &Dev) -> Result<()> {
    let made: BTreeMap<String, usize> = stream::iter(0..MANY)
        .map(async |number| {
            let (name, bytes) = small(number);
            let file = dev.put(&name, bytes).await?;
            ensure!(text(&file, "filename")? == name, "{file}");
            Ok((text(&file, "file_id")?, number))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    ensure!(made.len() == MANY, "{} ids for {MANY} files", made.len());
    stream::iter(&made)
        .map(async |(id, number)| dev.gateway.expect(id, &small(*number).1).await)
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    for page in [7, 200] {
        let mut seen = BTreeMap::new();
        for (id, name) in dev.files(page).await? {
            ensure!(
                seen.insert(id.clone(), name).is_none(),
                "{id} is listed twice"
            );
        }
        for (id, number) in &made {
            ensure!(
                seen.get(id) == Some(&small(*number).0),
                "{id} is not listed"
            );
        }
    }
    let bad = dev.ask(Method::GET, "/api/files?cursor=zz");
    Answer::of(bad).await?.problem(400, "bad_cursor")?;
    let none = dev.ask(Method::GET, "/api/files?limit=0");
    Answer::of(none).await?.problem(400, "bad_parameter")?;
    Ok(())
}

pub async fn forty_megabytes_come_back_from_curl(dev: &Dev) -> Result<()> {
    let place = dev.directory("forty")?;
    let bytes = noise(10, LARGE);
    std::fs::write(place.join("forty.bin"), &bytes)?;
    let key = format!("Authorization: Bearer {}", dev.key);
    let upload = format!("{}/api/upload", dev.gateway.url());
    let raw = format!("{upload}/");
    let ways: [&[&str]; 2] = [
        &["-T", "forty.bin", &raw],
        &["-F", "file=@forty.bin", "-F", "download_limit=2", &upload],
    ];
    for way in ways {
        let output = Command::new("curl")
            .args(["-sS", "--fail-with-body", "-H", &key])
            .args(way)
            .current_dir(&place)
            .output()
            .context("this needs the program curl")?;
        let answer = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{way:?}: {answer}");
        let file: Value = serde_json::from_str(&answer)?;
        ensure!(file["size"] == LARGE, "{file}");
        dev.gateway.expect(&text(&file, "file_id")?, &bytes).await?;
    }
    Ok(())
}

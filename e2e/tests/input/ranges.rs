//! Parts and conditions.

use anyhow::{Context, Result, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::dev::{Answer, Dev, text};
use reqwest::Method;

/// Over two chunks and a bit.
const LONG: usize = (16 << 20) + 4_321;

pub async fn parts_are_served_as_asked(dev: &Dev) -> Result<()> {
    for size in [1_000, LONG] {
        let bytes = noise(6, size);
        let file = dev.put("ranges.bin", bytes.clone()).await?;
        let path = format!("/api/download/{}", text(&file, "file_id")?);
        let get = |range: String| dev.open(Method::GET, &path).header("range", range);
        let middle = size / 2;
        let asked = [
            ("bytes=0-0".to_owned(), 0..1),
            (
                format!("bytes={middle}-{}", middle + 99),
                middle..middle + 100,
            ),
            (format!("bytes={}-", size - 7), size - 7..size),
            (format!("bytes=0-{}", size + 5), 0..size),
            ("bytes=-500".to_owned(), size - 500..size),
            (format!("bytes=-{}", size + 5), 0..size),
        ];
        for (range, span) in asked {
            let answer = Answer::of(get(range.clone())).await?.expect(206)?;
            let told = format!("bytes {}-{}/{size}", span.start, span.end - 1);
            ensure!(
                answer.header("content-range") == told,
                "{range}: {:?}",
                answer.headers
            );
            ensure!(answer.body == bytes[span], "{range} of {size}: other bytes");
        }
        for range in [
            format!("bytes={size}-"),
            "bytes=99999999999999999999-".into(),
            "bytes=-0".into(),
        ] {
            let answer = Answer::of(get(range.clone())).await?;
            ensure!(
                answer.header("content-range") == format!("bytes */{size}"),
                "{range}"
            );
            answer
                .problem(416, "range_not_satisfiable")
                .context(range)?;
        }
        for range in ["bytes=5-2", "lines=1-2", "bytes=0-1,5-6", "bytes=x-y"] {
            let answer = Answer::of(get(range.into())).await?.expect(200)?;
            ensure!(answer.body == bytes, "{range}: not the whole");
        }
    }
    Ok(())
}

pub async fn conditions_are_kept(dev: &Dev) -> Result<()> {
    let bytes = noise(7, 20_000);
    let file = dev.put("conditions.bin", bytes.clone()).await?;
    let path = format!("/api/download/{}", text(&file, "file_id")?);
    let get = |name: &str, value: &str| dev.open(Method::GET, &path).header(name, value);
    let answer = Answer::of(dev.open(Method::GET, &path))
        .await?
        .expect(200)?;
    let etag = answer.header("etag").to_owned();
    let modified = answer.header("last-modified").to_owned();
    ensure!(
        etag.starts_with('"') && etag.len() > 10,
        "no strong tag: {etag}"
    );
    for (name, value) in [
        ("if-none-match", etag.as_str()),
        ("if-none-match", "\"x\", *"),
        ("if-modified-since", &modified),
    ] {
        let answer = Answer::of(get(name, value)).await?.expect(304)?;
        ensure!(
            answer.body.is_empty() && answer.header("etag") == etag,
            "{name}: {value}"
        );
    }
    Answer::of(get("if-none-match", "\"other\""))
        .await?
        .expect(200)?;
    Answer::of(get("if-match", "\"other\""))
        .await?
        .problem(412, "precondition_failed")?;
    let part = |condition: &str| get("range", "bytes=5-9").header("if-range", condition);
    let answer = Answer::of(part(&etag)).await?.expect(206)?;
    ensure!(answer.body == bytes[5..10]);
    let answer = Answer::of(part(&modified)).await?.expect(206)?;
    ensure!(answer.body == bytes[5..10]);
    for old in ["\"other\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let answer = Answer::of(part(old)).await?.expect(200)?;
        ensure!(answer.body == bytes, "{old}");
    }
    Ok(())
}

pub async fn a_head_tells_all_but_the_bytes(dev: &Dev) -> Result<()> {
    let file = dev.put("head.txt", noise(8, 5_000)).await?;
    let path = format!("/api/download/{}", text(&file, "file_id")?);
    let get = Answer::of(dev.open(Method::GET, &path))
        .await?
        .expect(200)?;
    let head = Answer::of(dev.open(Method::HEAD, &path))
        .await?
        .expect(200)?;
    ensure!(head.body.is_empty(), "it has a body");
    ensure!(
        head.header("content-length") == "5000",
        "{:?}",
        head.headers
    );
    for name in [
        "etag",
        "content-type",
        "content-disposition",
        "last-modified",
        "accept-ranges",
    ] {
        ensure!(
            head.header(name) == get.header(name) && !head.header(name).is_empty(),
            "{name}"
        );
    }
    let missing = format!("/api/download/{}", "0".repeat(32));
    let head = Answer::of(dev.open(Method::HEAD, &missing))
        .await?
        .expect(404)?;
    ensure!(head.body.is_empty(), "a HEAD of nothing has a body");
    Ok(())
}

//! Bodies that are not what they announce, and wishes that are none.

use anyhow::{Context, Result, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::dev::{Answer, Dev, Part, form_body};
use reqwest::Method;
use serde_json::Value;

async fn objects(dev: &Dev) -> Result<Value> {
    let stats = dev.gateway.json("/api/stats").await?;
    Ok(stats["objects"].clone())
}

pub async fn a_body_cut_in_the_middle_leaves_nothing(dev: &Dev) -> Result<()> {
    let before = objects(dev).await?;
    for size in [10_usize, 100_000, 9 << 20] {
        let name = format!("cut-{size}.bin");
        let head = dev.head(
            &format!("PUT /api/upload/{name}"),
            &format!("Content-Length: {size}\r\n"),
        );
        let answer = dev.cut(&[head, noise(1, size / 2)].concat()).await?;
        ensure!(!answer.contains("201 Created"), "{size}: {answer}");
        ensure!(!dev.lists(&name).await?, "{name} is listed");
    }
    ensure!(
        objects(dev).await? == before,
        "objects are there that were cut"
    );
    Ok(())
}

pub async fn a_form_cut_in_the_middle_leaves_nothing(dev: &Dev) -> Result<()> {
    let bytes = noise(2, 100_000);
    let body = form_body(&[Part::File("file", b"cut-form.bin", "image/x", &bytes)]);
    let (half, _) = body.split_at(body.len() / 2);
    // Once as a connection that ends, once as a whole request with half a form.
    let head = dev.head(
        "POST /api/upload",
        &format!(
            "Content-Type: multipart/form-data; boundary=----WebKitFormBoundaryHoldfast7MA4YWxk\r\nContent-Length: {}\r\n",
            body.len()
        ),
    );
    let answer = dev.cut(&[head, half.to_vec()].concat()).await?;
    ensure!(!answer.contains("201 Created"), "{answer}");
    let answer = Answer::of(dev.form(&[]).body(half.to_vec())).await?;
    let code = answer.status;
    ensure!(code == 400, "half a form: {code}");
    ensure!(!dev.lists("cut-form.bin").await?, "half a form is listed");
    Ok(())
}

pub async fn bytes_behind_the_announced_length_are_not_of_the_file(dev: &Dev) -> Result<()> {
    let head = dev.head("PUT /api/upload/short.txt", "Content-Length: 5\r\n");
    let answer = dev
        .raw(&[head, b"helloAND MORE\r\n\r\n".to_vec()].concat())
        .await?;
    ensure!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    ensure!(answer.contains("\"size\":5"), "{answer}");
    // What follows is no request, and is said to be none.
    ensure!(answer.contains("HTTP/1.1 400 "), "{answer}");
    Ok(())
}

pub async fn a_length_that_is_none_is_refused(dev: &Dev) -> Result<()> {
    for length in [
        "-1",
        "abc",
        "18446744073709551616",
        "2\r\nContent-Length: 3",
    ] {
        let head = dev.head(
            "PUT /api/upload/length.txt",
            &format!("Content-Length: {length}\r\n"),
        );
        let answer = dev.raw(&[head, b"hi".to_vec()].concat()).await?;
        ensure!(answer.starts_with("HTTP/1.1 400 "), "{length}: {answer}");
    }
    ensure!(!dev.lists("length.txt").await?, "it is listed");
    Ok(())
}

pub async fn a_file_above_the_limit_is_refused_before_it_is_sent(dev: &Dev) -> Result<()> {
    let above = (5_u64 << 30) + 1;
    let head = dev.head(
        "PUT /api/upload/large.bin",
        &format!("Content-Length: {above}\r\nConnection: close\r\nExpect: 100-continue\r\n"),
    );
    let answer = dev.raw(&head).await?;
    ensure!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    ensure!(
        answer.contains("\"too_large\"") && answer.contains("5368709120"),
        "{answer}"
    );
    let head = dev.head(
        "POST /api/upload",
        &format!(
            "Content-Type: multipart/form-data; boundary=x\r\nConnection: close\r\nContent-Length: {}\r\n",
            above + (1 << 20)
        ),
    );
    let answer = dev.raw(&head).await?;
    ensure!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    Ok(())
}

pub async fn a_wish_that_cannot_be_understood_is_refused(dev: &Dev) -> Result<()> {
    let file = || Part::File("file", b"wish.txt", "text/plain", b"hi");
    for expiry in [
        "0",
        "-1",
        "10y",
        "banana",
        "0s",
        "1.5h",
        "366d",
        "99999999999999999999d",
    ] {
        let before = dev.form(&[Part::Field("expires_in", expiry), file()]);
        let behind = dev.form(&[file(), Part::Field("expires_in", expiry)]);
        let raw = dev
            .ask(Method::PUT, "/api/upload/wish.txt")
            .query(&[("expires_in", expiry)])
            .body("hi");
        for request in [before, behind, raw] {
            let detail = Answer::of(request).await?.problem(400, "bad_duration");
            let detail = detail.with_context(|| format!("expiry {expiry}"))?;
            ensure!(detail.starts_with("expires_in"), "{detail}");
        }
    }
    for limit in ["-1", "three", "1.5", "99999999999"] {
        let form = dev.form(&[Part::Field("download_limit", limit), file()]);
        Answer::of(form).await?.problem(400, "bad_parameter")?;
    }
    let shown = dev
        .ask(Method::PUT, "/api/upload/wish.txt?password=x")
        .body("hi");
    Answer::of(shown).await?.problem(400, "password_in_url")?;
    ensure!(!dev.lists("wish.txt").await?, "what was refused is listed");
    Ok(())
}

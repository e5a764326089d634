//! Names of files.

use anyhow::{Context, Result, ensure};
use holdfast_e2e::dev::{Answer, Dev, Part, text};
use reqwest::Method;

pub async fn a_name_that_is_no_plain_name_is_refused(dev: &Dev) -> Result<()> {
    let long = "n".repeat(1_025);
    let names = [
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "a%5Cb",
        "x%00y",
        "a%0ab",
        "x%ff%fe",
        &long,
    ];
    for name in names {
        // Raw, since HTTP libraries take dots away before they send.
        let request = dev.head(
            &format!("PUT /api/upload/{name}"),
            "Content-Length: 2\r\nConnection: close\r\n",
        );
        let answer = dev.raw(&[request, b"hi".to_vec()].concat()).await?;
        ensure!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"bad_file_name\""),
            "{name:.40}: {answer}"
        );
    }
    Ok(())
}

pub async fn a_form_with_such_a_name_is_refused(dev: &Dev) -> Result<()> {
    let long = vec![b'n'; 1_025];
    let names: [&[u8]; 7] = [
        b"..",
        b"../../x",
        b"a\\..\\b",
        b"x\0y",
        b"",
        b"x\xff\xfe.txt",
        &long,
    ];
    for name in names {
        let form = dev.form(&[Part::File("file", name, "text/plain", b"hi")]);
        let shown = String::from_utf8_lossy(name).into_owned();
        let answer = Answer::of(form).await?;
        // A NUL ends the form's head where it stands: the form itself is broken.
        let code = if name.contains(&0) {
            "bad_form"
        } else {
            "bad_file_name"
        };
        answer
            .problem(400, code)
            .with_context(|| format!("{shown:.40?}"))?;
    }
    Ok(())
}

pub async fn a_unicode_name_comes_back_as_it_was(dev: &Dev) -> Result<()> {
    let name = "Überraschung 文件 🎁 it's.txt";
    let form = dev.form(&[Part::File("file", name.as_bytes(), "text/plain", b"hi")]);
    let file = Answer::of(form).await?.json(201)?;
    ensure!(text(&file, "filename")? == name, "{file}");
    let path = format!("/api/download/{}", text(&file, "file_id")?);
    let answer = Answer::of(dev.open(Method::GET, &path))
        .await?
        .expect(200)?;
    let disposition = answer.header("content-disposition");
    ensure!(
        disposition.contains("filename*=UTF-8''%C3%9Cberraschung%20%E6%96%87"),
        "{disposition}"
    );
    ensure!(answer.body == b"hi");
    Ok(())
}

/// As Chrome and Firefox send them: percent-encoded, and nothing else is.
pub async fn quotes_that_a_browser_escapes_come_back_as_quotes(dev: &Dev) -> Result<()> {
    let names: [(&[u8], &str); 3] = [
        (b"6%22 pipe.txt", "6\" pipe.txt"),
        (b"100%.txt", "100%.txt"),
        (b"a%20b.txt", "a%20b.txt"),
    ];
    for (sent, kept) in names {
        let form = dev.form(&[Part::File("file", sent, "text/plain", b"hi")]);
        let file = Answer::of(form).await?.json(201)?;
        ensure!(text(&file, "filename")? == kept, "{file}");
        let path = format!("/api/download/{}", text(&file, "file_id")?);
        let answer = Answer::of(dev.open(Method::GET, &path)).await?;
        answer.expect(200)?;
    }
    for broken in [b"a%0Ab.txt", b"a%0Db.txt"] {
        let form = dev.form(&[Part::File("file", broken, "text/plain", b"hi")]);
        Answer::of(form).await?.problem(400, "bad_file_name")?;
    }
    Ok(())
}

pub async fn an_upload_without_a_name_says_what_to_do(dev: &Dev) -> Result<()> {
    for path in ["/api/upload/", "/api/upload"] {
        let put = dev.ask(Method::PUT, path).body("hi");
        let told = Answer::of(put).await?.problem(400, "bad_file_name")?;
        ensure!(told.contains("PUT /api/upload/{filename}"), "{told}");
        let open = dev.open(Method::PUT, path).body("hi");
        Answer::of(open).await?.problem(401, "missing_credential")?;
    }
    Ok(())
}

pub async fn a_form_has_one_file(dev: &Dev) -> Result<()> {
    let file = |name: &'static str| Part::File("file", name.as_bytes(), "text/plain", b"hi");
    let none = dev.form(&[Part::Field("expires_in", "1d")]);
    Answer::of(none).await?.problem(400, "file_missing")?;
    let two = dev.form(&[file("doubled-1.txt"), file("doubled-2.txt")]);
    Answer::of(two).await?.problem(400, "part_repeated")?;
    let twice = [
        Part::Field("expires_in", "1d"),
        Part::Field("expires_in", "2d"),
    ];
    Answer::of(dev.form(&twice))
        .await?
        .problem(400, "part_repeated")?;
    let unknown = dev.form(&[Part::Field("expiry", "1d"), file("doubled-3.txt")]);
    Answer::of(unknown).await?.problem(400, "bad_parameter")?;
    let no_form = dev.ask(Method::POST, "/api/upload").body("hi");
    Answer::of(no_form).await?.problem(400, "bad_form")?;
    for (_, name) in dev.files(200).await? {
        ensure!(!name.starts_with("doubled-"), "{name} is there");
    }
    Ok(())
}

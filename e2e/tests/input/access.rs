//! Keys, passwords and delete tokens.

use anyhow::{Result, ensure};
use holdfast_e2e::dev::{Answer, Dev, Part, text};
use reqwest::Method;
use serde_json::json;

pub async fn without_a_good_key_nothing_is_stored_or_told(dev: &Dev) -> Result<()> {
    let routes = [
        (Method::PUT, "/api/upload/nokey.txt"),
        (Method::GET, "/api/files"),
        (Method::GET, "/api/nodes"),
        (Method::GET, "/api/stats"),
        (Method::GET, "/api/tasks"),
        (Method::GET, "/api/admin/keys"),
        (Method::GET, "/api/admin/backup"),
    ];
    for (method, path) in routes {
        let none = Answer::of(dev.open(method.clone(), path).body("hi")).await?;
        ensure!(
            none.header("www-authenticate").starts_with("Bearer"),
            "{path}"
        );
        none.problem(401, "missing_credential")?;
        let wrong = dev.open(method, path).bearer_auth("wrong").body("hi");
        Answer::of(wrong)
            .await?
            .problem(401, "unknown_credential")?;
    }
    ensure!(!dev.lists("nokey.txt").await?, "it is stored");
    Ok(())
}

pub async fn unknown_schemes_are_refused(dev: &Dev) -> Result<()> {
    let basic = format!("Basic {}", dev.key);
    for value in [
        basic.as_str(),
        "Digest username=x",
        "Bearer",
        "AWS4-HMAC-SHA256 x",
        &dev.key,
    ] {
        let request = dev
            .open(Method::GET, "/api/files")
            .header("authorization", value);
        Answer::of(request).await?.problem(401, "unknown_scheme")?;
    }
    Ok(())
}

pub async fn a_key_works_at_once_and_sees_its_own_files_alone(dev: &Dev) -> Result<()> {
    let foreign = text(&dev.put("admins.txt", "hi").await?, "file_id")?;
    let made = dev
        .ask(Method::POST, "/api/admin/keys")
        .json(&json!({ "name": "bob" }));
    let made = Answer::of(made).await?.json(201)?;
    let (id, token) = (text(&made, "id")?, text(&made, "token")?);
    let bob = |method: Method, path: &str| dev.open(method, path).bearer_auth(&token);
    let own = Answer::of(bob(Method::PUT, "/api/upload/bobs.txt").body("hi"))
        .await?
        .json(201)?;
    let own = format!("/api/files/{}", text(&own, "file_id")?);
    let seen = Answer::of(bob(Method::GET, "/api/files"))
        .await?
        .json(200)?;
    let files = seen["files"].as_array().map_or(0, Vec::len);
    ensure!(
        files == 1 && seen["files"][0]["filename"] == "bobs.txt",
        "{seen}"
    );
    // Another's file is as one that does not exist.
    let foreign = format!("/api/files/{foreign}");
    Answer::of(bob(Method::GET, &foreign))
        .await?
        .problem(404, "no_such_file")?;
    let refused = Answer::of(bob(Method::DELETE, &foreign)).await?;
    ensure!([403, 404].contains(&refused.status), "{}", refused.status);
    Answer::of(bob(Method::GET, "/api/tasks"))
        .await?
        .problem(403, "not_allowed")?;
    Answer::of(dev.ask(Method::GET, &foreign))
        .await?
        .expect(200)?;
    Answer::of(dev.ask(Method::GET, &own)).await?.expect(200)?;
    let gone = dev.ask(Method::DELETE, &format!("/api/admin/keys/{id}"));
    Answer::of(gone).await?.expect(204)?;
    Answer::of(bob(Method::GET, "/api/files"))
        .await?
        .problem(401, "unknown_credential")?;
    Ok(())
}

pub async fn a_password_is_asked_for_and_compared(dev: &Dev) -> Result<()> {
    let file = dev.form(&[
        Part::Field("password", "geheim ü"),
        Part::Field("download_limit", "1"),
        Part::File("file", b"secret.txt", "text/plain", b"hi"),
    ]);
    let file = Answer::of(file).await?.json(201)?;
    ensure!(file["password_protected"] == true, "{file}");
    let path = format!("/api/download/{}", text(&file, "file_id")?);
    let get = |password: Option<&str>| {
        let request = dev.open(Method::GET, &path);
        match password {
            Some(password) => request.header("holdfast-password", password.as_bytes()),
            None => request,
        }
    };
    Answer::of(get(None))
        .await?
        .problem(403, "password_needed")?;
    Answer::of(get(Some("falsch")))
        .await?
        .problem(403, "wrong_password")?;
    // The one download is still there.
    let answer = Answer::of(get(Some("geheim ü"))).await?.expect(200)?;
    ensure!(answer.body == b"hi");
    Ok(())
}

pub async fn a_delete_token_works_once_and_a_wrong_one_never(dev: &Dev) -> Result<()> {
    let file = dev.put("deleted.txt", "hi").await?;
    let path = format!("/api/files/{}", text(&file, "file_id")?);
    let token = text(&file, "delete_token")?;
    let delete = |token: &str| {
        dev.open(Method::DELETE, &path)
            .header("holdfast-delete-token", token)
    };
    Answer::of(delete(&"0".repeat(32)))
        .await?
        .problem(403, "wrong_delete_token")?;
    Answer::of(dev.open(Method::DELETE, &path))
        .await?
        .problem(401, "missing_credential")?;
    Answer::of(delete(&token)).await?.expect(204)?;
    Answer::of(delete(&token))
        .await?
        .problem(404, "no_such_file")?;
    let path = format!("/api/download/{}", text(&file, "file_id")?);
    Answer::of(dev.open(Method::GET, &path))
        .await?
        .problem(404, "no_such_file")?;
    Ok(())
}

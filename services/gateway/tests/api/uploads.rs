//! What comes in, and what is refused without a trace.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use holdfast_model::TaskKind;
use holdfast_queue::Queue;
use holdfast_runtime::Credential;
use holdfast_runtime::host::tls::{Places, Security};

use crate::world::{ADMIN, ANNA, Got, World, bearer, data, download_path, request};

/// A form of (name, file name, text) parts.
fn form(parts: &[(&str, Option<&str>, &str)]) -> String {
    let mut text = String::new();
    for (name, filename, value) in parts {
        let filename = filename.map_or(String::new(), |f| format!("; filename=\"{f}\""));
        text.push_str(&format!(
            "--X\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n{value}\r\n"
        ));
    }
    text.push_str("--X--\r\n");
    text
}

async fn post(world: &World, body: impl Into<Body>) -> Got {
    let auth = bearer(ANNA);
    let headers = [
        ("authorization", auth.as_str()),
        ("content-type", "multipart/form-data; boundary=X"),
    ];
    world
        .send(request("POST", "/api/upload", &headers, body.into()))
        .await
}

async fn stored_files(world: &World) -> usize {
    let auth = bearer(ADMIN);
    let got = world.get("/api/files", &[("authorization", &auth)]).await;
    got.json()["files"].as_array().unwrap().len()
}

#[tokio::test]
async fn fields_count_before_and_behind_the_file() {
    let world = World::new().await;
    let body = form(&[
        ("download_limit", None, "7"),
        ("file", Some("ö.txt"), "hello"),
        ("expires_in", None, "2h"),
    ]);
    let got = post(&world, body).await;
    assert_eq!(got.status, 201, "{:?}", got.body);
    let file = got.json();
    assert_eq!(file["filename"], "ö.txt");
    assert_eq!(file["size"], 5);
    assert_eq!(file["mime_type"], "text/plain");
    assert_eq!(file["download_limit"], 7);
    assert_eq!(file["downloads_left"], 7);
    assert!(file["expires_at"].is_string());
    assert_eq!(file["delete_token"].as_str().unwrap().len(), 32);
    let url = file["download_url"].as_str().unwrap();
    assert_eq!(url, format!("http://files.example{}", download_path(&file)));
    assert_eq!(got.header("location"), url);
    assert_eq!(world.get(&download_path(&file), &[]).await.body, "hello");
}

#[tokio::test]
async fn a_form_that_is_wrong_stores_nothing() {
    let world = World::new().await;
    let file = ("file", Some("a"), "x");
    for (body, code) in [
        (form(&[]), "file_missing"),
        (form(&[("file", None, "x")]), "file_missing"),
        (form(&[file, file]), "part_repeated"),
        (
            form(&[file, ("expires_in", None, "1h"), ("expires_in", None, "2h")]),
            "part_repeated",
        ),
        (form(&[file, ("expires_in", None, "10y")]), "bad_duration"),
        (
            form(&[file, ("download_limit", None, "-1")]),
            "bad_parameter",
        ),
        (form(&[file, ("colour", None, "red")]), "bad_parameter"),
        (
            form(&[("file", Some("../etc/passwd"), "x")]),
            "bad_file_name",
        ),
        (form(&[("file", Some(".."), "x")]), "bad_file_name"),
        (form(&[file]).replace("--X--", ""), "bad_form"),
    ] {
        let got = post(&world, body.clone()).await;
        assert_eq!((got.status, got.code().as_str()), (400, code), "{body}");
    }
    assert_eq!(stored_files(&world).await, 0);
}

#[tokio::test]
async fn a_body_that_is_cut_stores_nothing() {
    let world = World::new().await;
    let pieces = || {
        stream::iter([
            Ok(data(200_000)),
            Err(std::io::Error::other("the client went away")),
        ])
    };
    let auth = bearer(ANNA);
    let headers = [("authorization", auth.as_str())];
    let put = request(
        "PUT",
        "/api/upload/a.bin",
        &headers,
        Body::from_stream(pieces()),
    );
    assert_eq!(world.send(put).await.code(), "incomplete_body");

    let longer = [("authorization", auth.as_str()), ("content-length", "6")];
    let put = request("PUT", "/api/upload/a.bin", &longer, Body::from("hello"));
    assert_eq!(world.send(put).await.code(), "incomplete_body");

    let head = "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let start = stream::iter([Ok(Bytes::from(head))]);
    let got = post(
        &world,
        Body::from_stream(futures_util::StreamExt::chain(start, pieces())),
    )
    .await;
    assert_eq!(got.status, 400);
    assert_eq!(got.code(), "incomplete_body");
    assert_eq!(stored_files(&world).await, 0);
}

#[tokio::test]
async fn what_is_too_large_is_refused_early_or_when_it_shows() {
    let world = World::with(|settings| settings.max_file_bytes = 100_000).await;
    let auth = bearer(ANNA);
    let announced = [
        ("authorization", auth.as_str()),
        ("content-length", "100001"),
    ];
    // The body would never end: it is not read.
    let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let got = world
        .send(request("PUT", "/api/upload/a", &announced, endless))
        .await;
    assert_eq!((got.status, got.code().as_str()), (413, "too_large"));
    let chunks = stream::repeat_with(|| Ok::<_, std::io::Error>(data(50_000)));
    let headers = [("authorization", auth.as_str())];
    let put = request("PUT", "/api/upload/a", &headers, Body::from_stream(chunks));
    assert_eq!(world.send(put).await.status, 413);
    assert_eq!(stored_files(&world).await, 0);
}

#[tokio::test]
async fn a_large_file_comes_back_as_it_went() {
    let world = World::new().await;
    let bytes = data((9 << 20) + 12_345);
    let file = world.put("big.bin?download_limit=0", bytes.clone()).await;
    let got = world.get(&download_path(&file), &[]).await;
    assert!(got.body == bytes, "other bytes came back");
    let part = world
        .get(&download_path(&file), &[("range", "bytes=8388600-8388700")])
        .await;
    assert_eq!(part.body, bytes.slice(8_388_600..=8_388_700));
    assert!(!got.headers.contains_key("holdfast-ticket"));
}

#[tokio::test]
async fn a_small_file_without_limit_comes_back_from_the_cache_too() {
    let world = World::new().await;
    let bytes = data(40_000);
    let file = world.put("warm.bin?download_limit=0", bytes.clone()).await;
    let path = download_path(&file);
    assert_eq!(world.get(&path, &[]).await.body, bytes);
    world.break_downloads(true);
    let part = world.get(&path, &[("range", "bytes=100-199")]).await;
    assert_eq!(part.body, bytes.slice(100..200));
}

#[tokio::test]
async fn an_idempotent_upload_is_stored_once() {
    let world = World::new().await;
    let auth = bearer(ANNA);
    let headers = [("authorization", auth.as_str()), ("idempotency-key", "k1")];
    let put = |body: &'static str| request("PUT", "/api/upload/a.txt", &headers, Body::from(body));
    let first = world.send(put("hello")).await;
    let again = world.send(put("hello")).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.json(), again.json(), "the token too");
    let other = world.send(put("other")).await;
    assert_eq!(
        (other.status, other.code().as_str()),
        (422, "idempotency_key_reused")
    );
    assert_eq!(stored_files(&world).await, 1);
}

#[tokio::test]
async fn a_repeated_upload_is_known_while_the_credential_is_exchanged() {
    let secrets = tempfile::tempdir().unwrap();
    let place = secrets.path().join("cluster");
    std::fs::create_dir(&place).unwrap();
    let write = |current: &str, previous: &str| {
        std::fs::write(place.join("cluster-secret"), current).unwrap();
        std::fs::write(place.join("cluster-secret-previous"), previous).unwrap();
    };
    let (old, new) = ("the old one of tests", "the new one of tests");
    write(old, "");
    let credential = Credential::find(Some(secrets.path())).unwrap();
    let security = Security::open(credential, Places::default()).unwrap();
    let followed = security.clone();
    let world = World::with(|settings| settings.security = followed).await;
    let auth = bearer(ANNA);
    let put = async |key: &str| {
        let headers = [("authorization", auth.as_str()), ("idempotency-key", key)];
        let sent = request("PUT", "/api/upload/a.txt", &headers, Body::from("hello"));
        world.send(sent).await.json()
    };
    let first = put("k1").await;
    for (current, previous) in [(old, new), (new, old)] {
        write(current, previous);
        security.look();
        assert_eq!(put("k1").await, first, "the token too");
    }
    let second = put("k2").await;
    assert_ne!(second["file_id"], first["file_id"]);
    assert_eq!(put("k2").await, second);
    assert_eq!(stored_files(&world).await, 2);
}

#[tokio::test]
async fn tasks_reach_the_queue() {
    let world = World::new().await;
    let mut hints = world.queue.consume(1).await.unwrap();
    let file = world.put("a.png", &b"\x89PNG\r\n\x1a\n...."[..]).await;
    let dispatcher = world.app.dispatcher.clone();
    tokio::spawn(dispatcher.run(world.app.shutdown.clone()));
    let hint = tokio::time::timeout(Duration::from_secs(10), hints.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(hint.hint.kind, TaskKind::Thumbnail);
    let got = world
        .get(
            &format!("/api/files/{}/thumbnail", file["file_id"].as_str().unwrap()),
            &[],
        )
        .await;
    assert_eq!((got.status, got.code().as_str()), (404, "not_ready"));
    let auth = bearer(ADMIN);
    let tasks = world
        .get("/api/tasks?status=pending", &[("authorization", &auth)])
        .await
        .json();
    assert_eq!(tasks["tasks"][0]["file_id"], file["file_id"]);
    assert_eq!(tasks["tasks"][0]["kind"], "thumbnail");
}

//! What counts, and what is sent.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::world::{ANNA, World, bearer, data, download_path, request};

#[tokio::test]
async fn a_limit_of_n_gives_n_downloads_whatever_races() {
    let world = World::new().await;
    let file = world.put("a.bin?download_limit=3", data(100_000)).await;
    let path = download_path(&file);
    let all = futures_util::future::join_all((0..12).map(|_| world.get(&path, &[]))).await;
    let served = all.iter().filter(|got| got.status == 200).count();
    let refused = all.iter().filter(|got| got.status == 410).count();
    assert_eq!((served, refused), (3, 9));
    assert!(
        all.iter()
            .all(|got| got.status != 200 || got.body == data(100_000))
    );
}

#[tokio::test]
async fn what_sends_no_bytes_takes_nothing_from_the_limit() {
    let world = World::new().await;
    let file = world.put("a.txt?download_limit=1", "hello").await;
    let (path, id) = (download_path(&file), file["file_id"].as_str().unwrap());
    let etag = format!("\"{}\"", file["sha256"].as_str().unwrap());
    let head = world.call("HEAD", &path, &[]).await;
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, "5", 0)
    );
    assert_eq!(
        world.get(&path, &[("if-none-match", &etag)]).await.status,
        304
    );
    assert_eq!(world.get(&path, &[("if-match", "\"x\"")]).await.status, 412);
    let beyond = world.get(&path, &[("range", "bytes=9-")]).await;
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, "bytes */5")
    );
    assert_eq!(world.left(id).await, 1);
    let got = world.get(&path, &[]).await;
    assert_eq!((got.status, &got.body[..]), (200, &b"hello"[..]));
    assert_eq!(got.header("cache-control"), "private, no-store");
    world.settled().await;
    // The file ends with its last download, as soon as that is settled.
    let after = world.get(&path, &[]).await.status;
    assert!(after == 410 || after == 404, "{after}");
}

#[tokio::test]
async fn requests_with_a_ticket_are_one_download() {
    let world = World::new().await;
    let bytes = data(300_000);
    let file = world.put("a.bin?download_limit=2", bytes.clone()).await;
    let (path, id) = (download_path(&file), file["file_id"].as_str().unwrap());
    let first = world.get(&path, &[("range", "bytes=0-99999")]).await;
    assert_eq!(
        (first.status, first.header("content-range")),
        (206, "bytes 0-99999/300000")
    );
    assert_eq!(first.body, bytes.slice(..100_000));
    let ticket = first.header("holdfast-ticket").to_owned();
    let rest = world
        .get(
            &path,
            &[("range", "bytes=100000-"), ("holdfast-ticket", &ticket)],
        )
        .await;
    assert_eq!((rest.status, &rest.body), (206, &bytes.slice(100_000..)));
    let cookie = format!("holdfast_ticket={ticket}");
    let again = world
        .get(&path, &[("range", "bytes=0-9"), ("cookie", &cookie)])
        .await;
    assert_eq!(again.status, 206);
    assert_eq!(world.left(id).await, 1);
    // Each byte at most twice.
    let thrice = world
        .get(
            &path,
            &[("range", "bytes=0-9"), ("holdfast-ticket", &ticket)],
        )
        .await;
    assert_eq!(
        (thrice.status, thrice.code().as_str()),
        (410, "ticket_ended")
    );
    assert_eq!(world.left(id).await, 1);
}

#[tokio::test]
async fn a_failure_of_ours_gives_the_download_back() {
    let world = World::new().await;
    let file = world.put("a.bin?download_limit=1", data(100_000)).await;
    let (path, id) = (download_path(&file), file["file_id"].as_str().unwrap());
    world.break_downloads(true);
    let got = world.get(&path, &[]).await;
    assert_eq!((got.status, got.code().as_str()), (503, "data_unavailable"));
    assert!(got.headers.contains_key("retry-after"));
    world.settled().await;
    assert_eq!(world.left(id).await, 1);
    world.break_downloads(false);
    assert_eq!(world.get(&path, &[]).await.status, 200);
}

#[tokio::test]
async fn who_hangs_up_pays_if_a_byte_was_sent() {
    let world = World::new().await;
    let file = world.put("a.bin?download_limit=2", data(3 << 20)).await;
    let (path, id) = (download_path(&file), file["file_id"].as_str().unwrap());
    let ask = || {
        world
            .router
            .clone()
            .oneshot(request("GET", &path, &[], Body::empty()))
    };

    drop(ask().await.unwrap());
    world.settled().await;
    assert_eq!(world.left(id).await, 2, "not a byte was sent");

    let mut response = ask().await.unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_ok());
    drop(response);
    world.settled().await;
    assert_eq!(world.left(id).await, 1);
}

#[tokio::test]
async fn an_expired_file_is_never_served() {
    let world = World::new().await;
    let file = world.put("a.txt?expires_in=1h&download_limit=0", "x").await;
    let path = download_path(&file);
    assert_eq!(world.get(&path, &[]).await.status, 200);
    world.leap(Duration::from_secs(3_601));
    for method in ["GET", "HEAD"] {
        assert_eq!(world.call(method, &path, &[]).await.status, 410);
    }
    assert_eq!(world.get(&path, &[]).await.code(), "expired");
}

#[tokio::test]
async fn a_password_is_needed_and_few_tries_are_given() {
    let world = World::new().await;
    let auth = bearer(ANNA);
    let headers = [
        ("authorization", auth.as_str()),
        ("holdfast-password", "open sesame"),
    ];
    let put = request(
        "PUT",
        "/api/upload/a.txt?download_limit=1",
        &headers,
        Body::from("x"),
    );
    let file = world.send(put).await.json();
    let (path, id) = (download_path(&file), file["file_id"].as_str().unwrap());
    assert_eq!(world.get(&path, &[]).await.code(), "password_needed");
    let wrong = ("holdfast-password", "open");
    assert_eq!(world.get(&path, &[wrong]).await.code(), "wrong_password");
    assert_eq!(world.left(id).await, 1);
    let mut codes = Vec::new();
    for _ in 0..10 {
        codes.push(world.get(&path, &[wrong]).await.code());
    }
    assert_eq!(codes.last().unwrap(), "too_many_passwords");
}

#[tokio::test]
async fn active_content_is_sent_as_attachment() {
    let world = World::new().await;
    for name in ["a.html", "a.svg", "a.xml"] {
        let file = world.put(name, "<svg onload=alert(1)>").await;
        let got = world.get(&download_path(&file), &[]).await;
        assert!(
            got.header("content-disposition").starts_with("attachment"),
            "{name}"
        );
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert!(got.header("content-security-policy").contains("sandbox"));
    }
    let file = world.put("a.png", "x").await;
    let got = world.get(&download_path(&file), &[]).await;
    assert!(got.header("content-disposition").starts_with("inline"));
}

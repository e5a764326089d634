use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap as Headers, Response as Answer};
use axum::routing::get as route;
use futures_util::StreamExt;

use super::*;
use crate::access::Access;

const CONTENT: &[u8] = b"0123456789abcdefghij";

/// A gateway that breaks the first `breaks` answers after five bytes, and
/// remembers the headers of every request.
async fn gateway(breaks: usize, target: &Path) -> (Api, Arc<Mutex<Vec<Headers>>>) {
    let seen: Arc<Mutex<Vec<Headers>>> = Arc::default();
    let served = Arc::new(AtomicUsize::new(0));
    let requests = seen.clone();
    let part = Part::of(&getting(target.to_owned())).bytes;
    let handler = move |headers: Headers| {
        requests.lock().unwrap().push(headers.clone());
        let breaking = served.fetch_add(1, Ordering::SeqCst) < breaks;
        let part = part.clone();
        async move {
            let from: usize = headers.get("range").map_or(0, |range| {
                let text = range.to_str().unwrap();
                text["bytes=".len()..text.len() - 1].parse().unwrap()
            });
            let rest = &CONTENT[from..];
            let (first, second) = rest.split_at(rest.len().min(5));
            let then = async move {
                if breaking {
                    arrived(&part, 5).await;
                    return Err(io::Error::other("cut"));
                }
                Ok(Bytes::from_static(second))
            };
            let pieces = futures_util::stream::once(async { Ok(Bytes::from_static(first)) })
                .chain(futures_util::stream::once(then));
            Answer::builder()
                .status(if from > 0 { 206 } else { 200 })
                .header("etag", "\"v1\"")
                .header(TICKET, "t1")
                .header("content-length", rest.len())
                .header(
                    "content-disposition",
                    "attachment; filename=\"x\"; filename*=UTF-8''%C3%BCber%20x.txt",
                )
                .body(Body::from_stream(pieces))
                .unwrap()
        }
    };
    let app = Router::new().route("/api/download/{id}", route(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let access = Access {
        url,
        key: Some("key".into()),
        data: PathBuf::new(),
        tls_dir: None,
    };
    (Api::new(&access).unwrap(), seen)
}

/// Waits until the client has written so many bytes.
async fn arrived(part: &Path, bytes: u64) {
    let look = async {
        while std::fs::metadata(part).map_or(0, |found| found.len()) < bytes {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), look)
        .await
        .unwrap();
}

fn getting(output: PathBuf) -> Get {
    Get {
        id: "f1".into(),
        output: Some(output),
        password: None,
        force: false,
    }
}

const QUIET: Output = Output { json: true };

#[tokio::test]
async fn a_broken_download_goes_on_under_the_same_ticket() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    let (api, seen) = gateway(1, &target).await;
    run(&api, &getting(target.clone()), QUIET).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), CONTENT);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].get(TICKET).is_none());
    assert_eq!(seen[1][TICKET], "t1");
    assert_eq!(seen[1]["if-range"], "\"v1\"");
    assert_eq!(seen[1]["range"], "bytes=5-");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_download_that_an_earlier_command_began_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    let part = Part::of(&getting(target.clone()));
    std::fs::write(&part.bytes, &CONTENT[..7]).unwrap();
    let known = Progress {
        ticket: Some("t0".into()),
        etag: Some("\"v1\"".into()),
        size: Some(CONTENT.len() as u64),
        name: None,
    };
    part.note(&known).await.unwrap();
    let (api, seen) = gateway(0, &target).await;
    run(&api, &getting(target.clone()), QUIET).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), CONTENT);
    assert_eq!(seen.lock().unwrap()[0][TICKET], "t0");
}

#[tokio::test]
async fn nothing_is_replaced_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    std::fs::write(&target, "mine").unwrap();
    let (api, seen) = gateway(0, &target).await;
    let refused = run(&api, &getting(target.clone()), QUIET)
        .await
        .unwrap_err();
    assert!(matches!(refused, Failure::Exists(_)));
    assert!(seen.lock().unwrap().is_empty(), "a download was counted");
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
}

#[test]
fn a_name_from_the_network_stays_in_this_directory() {
    for bad in ["../x", "/etc/passwd", "..", "", "a\nb"] {
        assert_eq!(plain_name(Some(bad), "f1"), "f1", "{bad:?} was taken");
    }
    assert_eq!(plain_name(Some("über x.txt"), "f1"), "über x.txt");
}

#[test]
fn the_extended_name_comes_before_the_plain_one() {
    let both = "attachment; filename=\"x\"; filename*=UTF-8''%C3%BCber%20x.txt";
    assert_eq!(disposition_name(both).unwrap(), "über x.txt");
    assert_eq!(disposition_name("inline; filename=\"a b\"").unwrap(), "a b");
    assert_eq!(disposition_name("inline; filename*=UTF-8''%C3"), None);
}

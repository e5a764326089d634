//! Who may: every route by every kind of bad credential.

use std::time::Duration;

use axum::body::Body;
use holdfast_gateway::openapi::{OPERATIONS, Who};

use crate::world::{ADMIN, ANNA, World, bearer, request};

fn concrete(path: &str) -> String {
    path.replace("{file_id}", &"0".repeat(32))
        .replace("{id}", &"0".repeat(32))
        .replace("{filename}", "a.txt")
        .replace("{action}", "drain")
}

#[tokio::test]
async fn every_route_refuses_every_bad_credential() {
    let world = World::new().await;
    for operation in OPERATIONS {
        let path = concrete(operation.path);
        let method = operation.method.to_uppercase();
        for bad in [
            "Basic YTpi",
            "Bearer wrong",
            "Digest x",
            "Bearer",
            "nonsense",
        ] {
            let got = world.call(&method, &path, &[("authorization", bad)]).await;
            assert_eq!(got.status, 401, "{method} {path} with {bad}");
            assert!(got.headers.contains_key("www-authenticate"));
        }
        if operation.who != Who::Anybody {
            let got = world.call(&method, &path, &[]).await;
            assert_eq!(
                (got.status, got.code().as_str()),
                (401, "missing_credential"),
                "{path}"
            );
        }
        if operation.who == Who::Admin {
            let auth = bearer(ANNA);
            let got = world
                .call(&method, &path, &[("authorization", &auth)])
                .await;
            assert_eq!(
                (got.status, got.code().as_str()),
                (403, "not_allowed"),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn every_described_operation_is_served() {
    let world = World::new().await;
    for operation in OPERATIONS {
        let method = operation.method.to_uppercase();
        let auth = bearer(ADMIN);
        let got = world
            .call(
                &method,
                &concrete(operation.path),
                &[("authorization", &auth)],
            )
            .await;
        assert_ne!(got.status, 405, "{method} {}", operation.path);
        if got.status == 404 && method != "HEAD" {
            assert_ne!(got.code(), "no_such_route", "{method} {}", operation.path);
        }
    }
    let document = world.get("/api/openapi.json", &[]).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/api/upload"]["post"].is_object());
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_document_too() {
    let world = World::new().await;
    let got = world
        .get("/api/nothing", &[("x-request-id", "my-id")])
        .await;
    assert_eq!((got.status, got.code().as_str()), (404, "no_such_route"));
    assert_eq!(got.header("x-request-id"), "my-id");
    assert_eq!(got.json()["request_id"], "my-id");
    let got = world.call("PATCH", "/api/files", &[]).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (405, "method_not_allowed")
    );
    assert!(got.headers.contains_key("allow"));
    assert_eq!(world.get("/healthz", &[]).await.status, 200);
    assert_eq!(world.get("/readyz", &[]).await.status, 200);
    world.app.shutdown.begin();
    assert_eq!(world.get("/readyz", &[]).await.status, 503);
}

#[tokio::test]
async fn a_key_is_made_used_and_revoked() {
    // It asks again and again until the state has come round.
    let world = World::with(|settings| (settings.key_rate, settings.address_rate) = (0, 0)).await;
    let auth = bearer(ADMIN);
    let headers = [
        ("authorization", auth.as_str()),
        ("content-type", "application/json"),
    ];
    let body = Body::from(r#"{"name": "ci", "role": "user"}"#);
    let made = world
        .send(request("POST", "/api/admin/keys", &headers, body))
        .await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let token = bearer(made["token"].as_str().unwrap());
    status_becomes(&world, &token, 200).await;
    let listed = world.get("/api/admin/keys", &headers).await.json();
    assert!(
        listed["keys"]
            .as_array()
            .unwrap()
            .iter()
            .all(|key| key.get("token").is_none())
    );
    let path = format!("/api/admin/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(world.call("DELETE", &path, &headers).await.status, 204);
    status_becomes(&world, &token, 401).await;

    let bad = Body::from(r#"{"name": "ci", "rank": 1}"#);
    let got = world
        .send(request("POST", "/api/admin/keys", &headers, bad))
        .await;
    assert_eq!(got.code(), "bad_json");
    let last_admin = format!("/api/admin/keys/{}", "01".repeat(16));
    let got = world.call("DELETE", &last_admin, &headers).await;
    assert_eq!(got.status, 409, "{:?}", got.body);
}

/// Gateways follow the cluster's state within a second or so.
async fn status_becomes(world: &World, token: &str, status: u16) {
    let followed = async {
        while world
            .get("/api/files", &[("authorization", token)])
            .await
            .status
            != status
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), followed)
        .await
        .unwrap();
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let world = World::with(|settings| settings.key_rate = 1).await;
    let auth = bearer(ANNA);
    let mut last = world.get("/api/nodes", &[("authorization", &auth)]).await;
    for _ in 0..5 {
        last = world.get("/api/nodes", &[("authorization", &auth)]).await;
    }
    assert_eq!(
        (last.status, last.code().as_str()),
        (429, "too_many_requests")
    );
    assert!(last.headers.contains_key("retry-after"));
}

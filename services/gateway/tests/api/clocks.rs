//! A gateway whose clock is off: what it asks of groups carries the nodes' time.

use std::time::Duration;

use crate::world::{ANNA, World, bearer, download_path};

const HOUR: Duration = Duration::from_secs(3_600);

/// Everything that a group remembers: a put, a download, a deletion.
async fn is_served(world: &World) {
    let file = world.put("a?download_limit=2", "x").await;
    let id = file["file_id"].as_str().unwrap();
    assert_eq!(world.get(&download_path(&file), &[]).await.status, 200);
    world.settled().await;
    assert_eq!(world.left(id).await, 1);
    let auth = bearer(ANNA);
    let path = format!("/api/files/{id}");
    let headers = [("authorization", auth.as_str())];
    let deleted = world.call("DELETE", &path, &headers).await;
    assert_eq!(deleted.status, 204);
}

#[tokio::test]
async fn a_gateway_an_hour_behind_is_served() {
    is_served(&World::ahead(Duration::ZERO, HOUR).await).await;
}

#[tokio::test]
async fn a_gateway_an_hour_ahead_is_served() {
    is_served(&World::ahead(HOUR, Duration::ZERO).await).await;
}

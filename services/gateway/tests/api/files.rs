//! Lists, descriptions, deletion, and the views of the cluster.

use sha2::{Digest, Sha256};

use crate::world::{ADMIN, ANNA, BERT, World, bearer, download_path};

#[tokio::test]
async fn a_list_is_newest_first_over_all_groups_and_pages() {
    let world = World::new().await;
    for n in 0..7 {
        world.leap(std::time::Duration::from_secs(1));
        world.put(&format!("f{n}"), "x").await;
    }
    let auth = bearer(ANNA);
    let headers = [("authorization", auth.as_str())];
    let mut names = Vec::new();
    let mut path = "/api/files?limit=3".to_owned();
    loop {
        let page = world.get(&path, &headers).await.json();
        for file in page["files"].as_array().unwrap() {
            names.push(file["filename"].as_str().unwrap().to_owned());
            assert!(file.get("delete_token").is_none());
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/files?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(names, ["f6", "f5", "f4", "f3", "f2", "f1", "f0"]);
    let bad = world.get("/api/files?cursor=x", &headers).await;
    assert_eq!(bad.code(), "bad_cursor");
    assert_eq!(
        world.get("/api/files?limit=0", &headers).await.code(),
        "bad_parameter"
    );
}

#[tokio::test]
async fn a_key_sees_its_own_files_and_an_admin_all() {
    let world = World::new().await;
    let file = world.put("annas", "x").await;
    let path = format!("/api/files/{}", file["file_id"].as_str().unwrap());
    for (token, seen) in [(ANNA, true), (BERT, false), (ADMIN, true)] {
        let auth = bearer(token);
        let headers = [("authorization", auth.as_str())];
        let list = world.get("/api/files", &headers).await.json();
        assert_eq!(
            !list["files"].as_array().unwrap().is_empty(),
            seen,
            "{token}"
        );
        assert_eq!(
            world.get(&path, &headers).await.status,
            if seen { 200 } else { 404 }
        );
    }
    let auth = bearer(BERT);
    assert_eq!(
        world
            .call("DELETE", &path, &[("authorization", &auth)])
            .await
            .status,
        404
    );
    assert_eq!(world.get(&download_path(&file), &[]).await.status, 200);
}

#[tokio::test]
async fn who_holds_the_token_deletes() {
    let world = World::new().await;
    let file = world.put("a", "x").await;
    let path = format!("/api/files/{}", file["file_id"].as_str().unwrap());
    let token = file["delete_token"].as_str().unwrap();
    let none = world.call("DELETE", &path, &[]).await;
    assert_eq!(
        (none.status, none.code().as_str()),
        (401, "missing_credential")
    );
    let wrong = world
        .call("DELETE", &path, &[("holdfast-delete-token", "x")])
        .await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (403, "wrong_delete_token")
    );
    let right = [("holdfast-delete-token", token)];
    assert_eq!(world.call("DELETE", &path, &right).await.status, 204);
    assert_eq!(world.call("DELETE", &path, &right).await.status, 404);
    assert_eq!(world.get(&download_path(&file), &[]).await.status, 404);
}

#[tokio::test]
async fn totals_and_nodes_are_told() {
    let world = World::new().await;
    world.put("a", "12345").await;
    let auth = bearer(ANNA);
    let headers = [("authorization", auth.as_str())];
    let stats = world.get("/api/stats", &headers).await.json();
    assert_eq!((&stats["objects"], &stats["bytes"]), (&1.into(), &5.into()));
    let nodes = world.get("/api/nodes", &headers).await.json();
    assert_eq!(nodes["nodes"][0]["state"], "active");
    assert_eq!(nodes["nodes"][0]["health"], "up");
}

#[tokio::test]
async fn a_backup_holds_every_group_and_proves_itself_whole() {
    let world = World::new().await;
    world.put("a", "12345").await;
    let auth = bearer(ADMIN);
    let got = world
        .get("/api/admin/backup", &[("authorization", &auth)])
        .await;
    assert_eq!(got.status, 200);
    assert_eq!(&got.body[..8], b"HFBACKUP");
    let (mut at, mut kinds) = (12, Vec::new());
    while at < got.body.len() {
        let len = u32::from_be_bytes(got.body[at + 1..at + 5].try_into().unwrap()) as usize;
        kinds.push(got.body[at]);
        if got.body[at] == 5 {
            assert_eq!(
                &got.body[at + 5..],
                Sha256::digest(&got.body[..at]).as_slice()
            );
        }
        at += 5 + len;
    }
    assert_eq!(kinds.first(), Some(&1));
    assert_eq!(
        kinds.iter().filter(|kind| **kind == 2).count(),
        4,
        "group 0 and three others"
    );
    assert_eq!(kinds.iter().filter(|kind| **kind == 4).count(), 4);
    assert_eq!(kinds.last(), Some(&5));
}

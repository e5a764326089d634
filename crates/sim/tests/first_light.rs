//! A cluster is founded, takes objects, and loses none of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
use std::time::Duration;

use holdfast_client::Cluster;
use holdfast_metadata::command::{Command, Condition, Outcome, PutObject};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::record::{Coding, Content};
use holdfast_model::*;
use holdfast_sim::run;

fn key(n: u32) -> ObjectKey {
    ObjectKey::new(format!("object-{n}")).unwrap()
}

async fn put(cluster: &Cluster, n: u32) -> Result<(), String> {
    put_sized(cluster, n, 4).await
}

async fn put_sized(cluster: &Cluster, n: u32, bytes: usize) -> Result<(), String> {
    let state = cluster.state().ok_or("no state")?;
    let bucket = state.bucket("files").unwrap().id;
    let key = key(n);
    let group = cluster.group_of(bucket, &key).map_err(|e| e.to_string())?;
    let env = cluster.env();
    let record = ObjectRecord {
        bucket,
        key,
        version: VersionId::from_bytes(env.entropy.id()),
        owner: state.access_keys[0].id,
        created: Timestamp(0),
        expires: None,
        content: Content {
            filename: None,
            mime: "text/plain".into(),
            size: bytes as u64,
            sha256: [0; 32],
            etag: "x".into(),
            checksums: Default::default(),
        },
        representation: Representation::Inline {
            bytes: vec![n as u8; bytes].into(),
            coding: Coding::Identity,
        },
        downloads: None,
        password: None,
        delete_token: None,
        metadata: Default::default(),
        tags: Default::default(),
        derived: vec![],
        revision: 0,
        fingerprint: None,
        kind: Default::default(),
        headers: Default::default(),
    };
    let put = PutObject {
        record,
        chunks: vec![],
        generation: None,
        tasks: vec![],
        condition: Condition::Always,
        lifetime_millis: None,
    };
    let id = env.entropy.request_id(env.clock.as_ref());
    let outcome = cluster
        .propose(
            group,
            id,
            Command::PutObject(Box::new(put)),
            Duration::from_secs(10),
            None,
        )
        .await
        .map_err(|e| e.to_string())?;
    assert!(matches!(outcome, Outcome::Put(_)), "{outcome:?}");
    Ok(())
}

async fn get(cluster: &Cluster, n: u32) -> Result<bool, String> {
    let state = cluster.state().ok_or("no state")?;
    let bucket = state.bucket("files").unwrap().id;
    let group = cluster
        .group_of(bucket, &key(n))
        .map_err(|e| e.to_string())?;
    let answer = cluster
        .query(
            group,
            Query::Object {
                bucket,
                key: key(n),
                chunks: 0,
            },
            Duration::from_secs(10),
            None,
        )
        .await
        .map_err(|e| e.to_string())?;
    match answer {
        Answer::Object { record, .. } => Ok(record.is_some()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_cluster_is_founded_and_keeps_what_it_acknowledged() {
    run(1, async |mut world| {
        let cluster = world.founded(3).await.unwrap();
        for n in 0..50 {
            put(&cluster, n).await.unwrap();
        }
        for n in 0..50 {
            assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
        }
    });
}

#[test]
fn a_power_cut_of_all_nodes_loses_nothing_acknowledged() {
    run(2, async |mut world| {
        let cluster = world.founded(3).await.unwrap();
        for n in 0..50 {
            put(&cluster, n).await.unwrap();
        }
        for number in 1..=3 {
            world.power_cut(number);
        }
        for number in 1..=3 {
            world.start(number).await.unwrap();
        }
        world.pass(Duration::from_secs(5)).await;
        cluster.wait_ready(Duration::from_secs(30)).await.unwrap();
        for n in 0..50 {
            assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
        }
        for n in 50..60 {
            put(&cluster, n).await.unwrap();
        }
    });
}

#[test]
fn one_node_may_die_while_objects_come() {
    run(3, async |mut world| {
        let cluster = world.founded(3).await.unwrap();
        for n in 0..20 {
            put(&cluster, n).await.unwrap();
        }
        world.power_cut(2);
        for n in 20..40 {
            put(&cluster, n).await.unwrap();
        }
        world.start(2).await.unwrap();
        world.power_cut(3);
        for n in 40..60 {
            put(&cluster, n).await.unwrap();
        }
        for n in 0..60 {
            assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = || {
        run(7, async |mut world| {
            let cluster = world.founded(3).await.unwrap();
            for n in 0..20 {
                put(&cluster, n).await.unwrap();
            }
            world.power_cut(1);
            for n in 20..30 {
                put(&cluster, n).await.unwrap();
            }
            world.trace.digest()
        })
    };
    assert_eq!(trace(), trace());
}

#[test]
fn a_node_that_missed_too_much_is_given_a_snapshot() {
    run(4, async |mut world| {
        world.log_file_bytes = 1 << 20;
        let cluster = world.founded(3).await.unwrap();
        put(&cluster, 0).await.unwrap();
        world.power_cut(3);
        for n in 1..600 {
            put_sized(&cluster, n, 10 << 10).await.unwrap();
        }
        world.pass(Duration::from_secs(10)).await;
        world.start(3).await.unwrap();
        // Caught up: as far as the leaders are.
        let behind = || {
            let applied = |number: usize| {
                world.members[&number]
                    .node
                    .as_ref()
                    .unwrap()
                    .status()
                    .groups
            };
            let newest = applied(1);
            applied(3)
                .iter()
                .zip(&newest)
                .filter(|(a, b)| a.applied < b.applied)
                .count()
                + newest.len()
                - applied(3).len()
        };
        for _ in 0..300 {
            if behind() == 0 {
                break;
            }
            world.pass(Duration::from_millis(100)).await;
        }
        assert_eq!(behind(), 0);
        world.power_cut(1);
        for n in (0..600).step_by(7) {
            assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
        }
        put(&cluster, 600).await.unwrap();
    });
}

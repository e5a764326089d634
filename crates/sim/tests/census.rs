//! The census of real nodes: what it reads, and what it cannot miss.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
use std::time::Duration;

use futures_util::StreamExt;
use holdfast_blobs::{Engine, FragmentState};
use holdfast_client::{Cluster, MemoryBudget, ObjectTarget, ObjectWriter};
use holdfast_controller::Census;
use holdfast_metadata::command::{Command, Outcome};
use holdfast_model::*;
use holdfast_sim::faults::damage::flip_fragments;
use holdfast_sim::plain_put::plain_put;
use holdfast_sim::run;
use holdfast_sim::world::World;

const DEADLINE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3_600);
/// The groups with objects.
const GROUPS: u64 = 16;

/// A cluster of three whose census begins when it is asked for.
async fn founded(world: &mut World) -> Cluster {
    world.controller.census_interval = HOUR * 2;
    world.founded(3).await.unwrap()
}

async fn put(cluster: &Cluster, name: &str) {
    let state = cluster.state().unwrap();
    let bucket = state.bucket("files").unwrap().id;
    let key = ObjectKey::new(name).unwrap();
    let env = cluster.env();
    let version = VersionId::from_bytes(env.entropy.id());
    let target = ObjectTarget {
        bucket,
        key: key.clone(),
        version,
        expires: None,
    };
    let budget = MemoryBudget::new(64 << 20);
    let mut writer = ObjectWriter::new(cluster, target, None, budget);
    writer.write(vec![7; 300 << 10].into()).await.unwrap();
    let stored = writer.finish().await.unwrap();
    let owner = state.access_keys[0].id;
    let put = plain_put(bucket, key.clone(), version, owner, stored);
    let command = Command::PutObject(Box::new(put));
    let group = cluster.group_of(bucket, &key).unwrap();
    let id = env.entropy.request_id(env.clock.as_ref());
    let outcome = cluster.propose(group, id, command, DEADLINE, None).await;
    assert!(matches!(outcome.unwrap(), Outcome::Put(_)));
}

/// Has everything counted now; the sum over all groups.
async fn count(world: &World, cluster: &Cluster, walk: bool) -> Census {
    let asked = cluster.env().clock.wall();
    let nodes: Vec<_> = world
        .members
        .values()
        .filter_map(|m| m.node.clone())
        .collect();
    for node in &nodes {
        node.controller().unwrap().kick_census(walk);
    }
    for _ in 0..600 {
        world.pass(Duration::from_millis(50)).await;
        let all = nodes
            .iter()
            .flat_map(|node| node.controller().unwrap().census());
        let done: Vec<Census> = all
            .map(|(_, census)| census)
            .filter(|census| census.began >= asked)
            .collect();
        if done.len() as u64 == GROUPS {
            let mut sum = done[0];
            for census in &done[1..] {
                sum.objects += census.objects;
                sum.chunks += census.chunks;
                sum.degraded += census.degraded;
                sum.missing += census.missing;
                sum.orphans += census.orphans;
                sum.walked += census.walked;
                sum.wrong += census.wrong;
            }
            return sum;
        }
    }
    panic!("no census came");
}

fn engine(world: &World, number: usize) -> Engine {
    let node = world.members[&number].node.as_ref().unwrap();
    node.fragments().engine().clone()
}

#[test]
fn a_census_of_what_is_in_order_reads_next_to_nothing_and_says_what_a_full_one_says() {
    run(31, async |mut world| {
        let cluster = founded(&mut world).await;
        for n in 0..20 {
            put(&cluster, &format!("object-{n}")).await;
        }
        let full = count(&world, &cluster, true).await;
        assert_eq!(full.walked, GROUPS * 256);
        let quick = count(&world, &cluster, false).await;
        // One range of each group, in turn.
        assert_eq!(quick.walked, GROUPS);
        for census in [full, quick] {
            assert!(census.clean(), "{census:?}");
            let counts = (census.objects, census.chunks, census.orphans, census.wrong);
            assert_eq!(counts, (20, 20, 0, 0));
        }
    });
}

#[test]
fn a_fragment_that_is_gone_is_missed_by_the_next_census() {
    run(32, async |mut world| {
        let cluster = founded(&mut world).await;
        put(&cluster, "a").await;
        put(&cluster, "b").await;
        assert!(count(&world, &cluster, true).await.clean());
        let gone = engine(&world, 2).list(None, 1).await.unwrap()[0].id;
        assert!(engine(&world, 2).delete_below(gone, None).await.unwrap());
        let census = count(&world, &cluster, false).await;
        assert_eq!((census.degraded, census.missing, census.wrong), (1, 1, 0));
        world.pass(Duration::from_secs(10)).await;
        assert!(
            count(&world, &cluster, false).await.clean(),
            "it is repaired"
        );
    });
}

#[test]
fn a_fragment_that_a_read_has_found_corrupt_is_missed_by_the_next_census() {
    run(33, async |mut world| {
        let cluster = founded(&mut world).await;
        put(&cluster, "a").await;
        assert!(count(&world, &cluster, true).await.clean());
        flip_fragments(&world, 2, 400, false);
        let engine = engine(&world, 2);
        let rotten = engine.list(None, 1).await.unwrap()[0].id;
        // Nobody but the disk hears of it.
        if let Ok((_, mut blocks)) = engine.read(rotten, 0..u64::MAX).await {
            while let Some(Ok(_)) = blocks.next().await {}
        }
        let found = engine.find(&rotten).await.unwrap().unwrap();
        assert_eq!(found.state, FragmentState::Corrupt);
        let census = count(&world, &cluster, false).await;
        assert_eq!((census.degraded, census.missing, census.wrong), (1, 1, 0));
        world.pass(Duration::from_secs(10)).await;
        assert!(
            count(&world, &cluster, false).await.clean(),
            "it is repaired"
        );
    });
}

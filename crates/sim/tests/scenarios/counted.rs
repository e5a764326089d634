//! What everybody is told who asks whether a cluster is whole: the census, as
//! the client crate fetches it for gateways.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_client::Cluster;
use holdfast_client::census::{Counts, Redundancy, sum_up};
use holdfast_client::cluster::CENSUS_LIFE;
use holdfast_metadata::protocol;
use holdfast_metadata::query::{Answer, Query};
use holdfast_runtime::{Address, Call};
use holdfast_sim::scenario::hurry;
use holdfast_sim::workload::Client;
use holdfast_sim::{World, checks, run};

use crate::support::{begin, key};

/// How long the honest answer may take: a census, and the grace of a node.
const HONEST: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(10);
/// Larger than what travels inside commands, so that it has fragments.
const LARGE: u64 = 60_000;
/// The groups with objects.
const GROUPS: usize = 16;

async fn put(client: &Client, names: std::ops::Range<u64>) {
    for n in names {
        client.put(&key(n), LARGE, None).await;
    }
}

/// What a gateway would say.
async fn told(cluster: &Cluster) -> Redundancy {
    let counted = cluster.counted().await;
    sum_up(&counted.groups, &cluster.state().unwrap().layout)
}

async fn until(world: &World, cluster: &Cluster, wanted: Counts) -> Redundancy {
    let right = checks::until(world, HONEST, async |_| {
        let told = told(cluster).await;
        match told.complete() == Some(wanted) {
            true => Ok(()),
            false => Err(checks::Not::Yet(format!("{told:?}"))),
        }
    });
    right.await.unwrap();
    told(cluster).await
}

/// Chunks that the groups' own rows know to lack a copy.
async fn queued(cluster: &Cluster) -> u64 {
    let mut chunks = 0;
    for group in cluster.state().unwrap().layout.data_groups() {
        let answer = cluster.query(group, Query::Totals, DEADLINE, None).await;
        let Answer::Totals(totals) = answer.unwrap() else {
            panic!("other totals");
        };
        chunks += totals.degraded;
    }
    chunks
}

#[test]
fn of_three_nodes_one_is_lost_for_good_and_what_it_held_is_called_degraded() {
    run(311, async |mut world| {
        let (cluster, client, _) = begin(&mut world, 3).await;
        put(&client, 0..12).await;
        let whole = Counts {
            objects: 12,
            ..Counts::default()
        };
        let before = until(&world, &cluster, whole).await;
        world.power_cut(3);
        let two_of_three = Counts {
            objects: 12,
            degraded: 12,
            silent_disks: 1,
            ..Counts::default()
        };
        let after = until(&world, &cluster, two_of_three).await;
        assert!(after.epoch >= before.epoch && after.oldest > before.oldest);
        // No third node takes a copy, so that nothing of it is ever queued.
        put(&client, 12..16).await;
        world.pass(HONEST * 3).await;
        let all = Counts {
            objects: 16,
            degraded: 16,
            ..two_of_three
        };
        let told = until(&world, &cluster, all).await;
        let now = cluster.time();
        assert!(now.since(told.oldest.unwrap()) < 10_000, "{told:?}");
        assert_eq!(queued(&cluster).await, 4, "what was born with two copies");
        // Without a majority nobody counts, and nobody says that all is well.
        world.power_cut(2);
        world.pass(HONEST).await;
        let alone = cluster.counted().await;
        let state = cluster.state().unwrap();
        let alone = sum_up(&alone.groups, &state.layout);
        assert!(alone.complete().is_none(), "{alone:?}");
        let counted = GROUPS - alone.uncounted.len();
        assert!(
            counted < GROUPS && alone.counts.objects <= alone.counts.degraded,
            "{alone:?}"
        );
        assert_eq!(world.trace.wrongs(), Vec::<String>::new());
    });
}

#[test]
fn many_who_ask_at_once_are_told_by_one_call_to_each_node() {
    run(312, async |mut world| {
        hurry(&mut world);
        let cluster = world.founded(3).await.unwrap();
        let calls = Arc::new(AtomicU64::new(0));
        let seen = calls.clone();
        let witness = move |from: &Address, call: &Call| {
            if from.0 == "client:1" && call.path == protocol::CENSUS {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        };
        world.network.watch(Arc::new(witness));
        join_all((0..50).map(|_| cluster.counted())).await;
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        world.pass(CENSUS_LIFE / 2).await;
        cluster.counted().await;
        assert_eq!(calls.load(Ordering::Relaxed), 3, "told again");
        world.pass(CENSUS_LIFE).await;
        cluster.counted().await;
        assert_eq!(calls.load(Ordering::Relaxed), 6, "asked anew");
        // Who asks while a node is silent waits for it once, together.
        world.power_cut(2);
        world.pass(CENSUS_LIFE).await;
        let began = cluster.env().clock.monotonic();
        join_all((0..50).map(|_| cluster.counted())).await;
        let took = cluster.env().clock.monotonic() - began;
        assert!(took <= CENSUS_LIFE + Duration::from_millis(100), "{took:?}");
    });
}

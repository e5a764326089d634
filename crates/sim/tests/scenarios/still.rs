//! A group without a majority beside others that go on: it must not keep their
//! files of the log.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_client::Cluster;
use holdfast_metadata::log::MAX_FILES;
use holdfast_model::GroupId;
use holdfast_runtime::Disk;
use holdfast_sim::{World, checks, run};

use crate::objects::{get, key, put_sized};

/// How long things may take to settle.
const SETTLED: Duration = Duration::from_secs(60);
/// Bytes of an object: its command carries them.
const BYTES: usize = 12 << 10;
/// Between two objects: what is applied becomes durable every few seconds, and
/// until then keeps files by itself.
const PACE: Duration = Duration::from_millis(100);
/// Files of the log beside those in use: a spare one, and one that is begun.
const BESIDE: usize = 2;

fn group_of(cluster: &Cluster, n: u32) -> GroupId {
    let bucket = cluster.state().unwrap().bucket("files").unwrap().id;
    cluster.group_of(bucket, &key(n)).unwrap()
}

/// How many files the log of each node has, and the number of the newest.
fn logs(world: &World) -> Vec<(usize, u64)> {
    let members = world.members.values();
    let names = members.map(|member| member.disk.list("raft").unwrap());
    names
        .map(|names| {
            let numbers = names
                .iter()
                .filter_map(|name| u64::from_str_radix(name, 16).ok());
            (names.len(), numbers.max().unwrap_or(0))
        })
        .collect()
}

/// Objects of one group are put while nobody hears its members: what their
/// leader has proposed stays uncommitted. Then the others fill many files.
async fn fill(world: &World, cluster: &Cluster, still: GroupId) -> (Vec<u32>, usize) {
    world.network.silence(Some(still));
    let stuck: Vec<_> = (0..1_000)
        .filter(|n| group_of(cluster, *n) == still)
        .collect();
    for n in stuck.iter().take(3) {
        let cluster = cluster.clone();
        let (n, env) = (*n, cluster.env().clone());
        // It may come true later.
        let put = async move { drop(put_sized(&cluster, n, BYTES).await) };
        env.tasks.spawn("stuck", Box::pin(put));
    }
    let mut done = Vec::new();
    let mut most = 0;
    for n in (1_000..).filter(|n| group_of(cluster, *n) != still) {
        cluster.env().clock.sleep(PACE).await;
        // A leader that loses its power takes the answer with it.
        if put_sized(cluster, n, BYTES).await.is_ok() {
            done.push(n);
        }
        let logs = logs(world);
        most = most.max(logs.iter().map(|(files, _)| *files).max().unwrap());
        // One may have lost its power.
        if logs.iter().filter(|(_, newest)| *newest > 30).count() >= 2 {
            break;
        }
    }
    (done, most)
}

#[test]
fn a_group_without_a_majority_does_not_fill_the_disks_of_the_others() {
    for (seed, cut) in [
        (91, None),
        (92, Some("log.written_again")),
        (93, Some("log.purged")),
    ] {
        run(seed, async |mut world| {
            world.log_file_bytes = 256 << 10;
            let cluster = world.founded(3).await.unwrap();
            let still = *cluster
                .state()
                .unwrap()
                .layout
                .data_groups()
                .first()
                .unwrap();
            if let Some(point) = cut {
                world.points.arm(point, 6);
            }
            let (done, most) = fill(&world, &cluster, still).await;
            let bound = MAX_FILES + 1 + BESIDE;
            assert!(most > MAX_FILES, "{most}: nothing was kept");
            assert!(cut.is_some() || most <= bound, "{most} files");
            for number in world.numbers() {
                world.power_cut(number);
            }
            world.network.silence(None);
            for number in world.numbers() {
                world.start(number).await.unwrap();
            }
            cluster.wait_ready(SETTLED).await.unwrap();
            for n in done {
                assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
            }
            let passed = world.points.passed();
            assert!(passed.contains_key("log.written_again"), "{passed:?}");
            let mut same = BTreeSet::new();
            let same = checks::until(&world, SETTLED, async |world| {
                checks::replicas(world, &mut same)
            });
            same.await.unwrap();
        });
    }
}

//! A gateway whose own clock is wrong: requests carry the nodes' time, so that
//! what a group remembers does not hang on the clock of who asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_client::{Cluster, ClusterError, ClusterSettings};
use holdfast_metadata::command::{Command, DeleteCause, Outcome, REMEMBER_OUTCOME_MILLIS};
use holdfast_model::{GroupId, ObjectKey, RequestId, VersionId};
use holdfast_runtime::{Address, Shutdown};
use holdfast_sim::journal::Journal;
use holdfast_sim::machine::MachineClock;
use holdfast_sim::plain_put::{inline, plain_put};
use holdfast_sim::scenario::hurry;
use holdfast_sim::workload::Client;
use holdfast_sim::{World, run};
use tokio_util::sync::CancellationToken;

use crate::support::AT_ONCE;

/// An hour, in the milliseconds that a clock is ahead.
const HOUR: i64 = 3_600_000;
const READY: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(10);
/// Objects that are put, small and large in turn.
const OBJECTS: u64 = 8;

fn key(name: &str, n: u64) -> ObjectKey {
    ObjectKey::new(format!("{name}-{n}")).unwrap()
}

/// A client on a machine whose clock can be set, and that clock.
async fn client(world: &World) -> (Cluster, Arc<MachineClock>) {
    let clock = Arc::new(MachineClock::new(tokio::time::Instant::now()));
    // It counts from now on, and shall be right to begin with.
    let node = world.members[&1].node.as_ref().unwrap();
    let behind = node.status().now.0 - holdfast_runtime::Clock::wall(clock.as_ref()).0;
    clock.offset_millis.store(behind as i64, Ordering::Relaxed);
    let power = CancellationToken::new();
    let env = world.env(Address("client:9".into()), power, clock.clone());
    let settings = ClusterSettings::new(world.addresses());
    let cluster = Cluster::start(env, settings, Shutdown::default());
    cluster.wait_ready(READY).await.unwrap();
    (cluster, clock)
}

/// Puts, reads and deletes; each must be done, and none refused.
async fn work(world: &World, cluster: &Cluster, name: &str) {
    let journal = Journal::new(world.trace.clone());
    let mut client = Client::new(9, cluster.clone(), journal.clone()).unwrap();
    client.pace = AT_ONCE;
    for n in 0..OBJECTS {
        client.put(&key(name, n), 300 + n % 2 * 90_000, None).await;
    }
    for n in 0..OBJECTS {
        client.delete(&key(name, n)).await;
        assert_eq!(client.read_whole(&key(name, n)).await.unwrap(), None);
    }
    let counts = journal.counts();
    let all = (counts.puts, counts.deletes, counts.unknown, counts.failed);
    assert_eq!(
        all,
        (OBJECTS, OBJECTS, 0, 0),
        "{name}: {:#?}",
        world.trace.story()
    );
    journal.judge();
    assert_eq!(world.trace.wrongs(), Vec::<String>::new());
}

/// Puts an object under a request id.
async fn put(
    cluster: &Cluster,
    id: RequestId,
    version: VersionId,
) -> (GroupId, Result<Outcome, ClusterError>) {
    let state = cluster.state().unwrap();
    let bucket = state.bucket("files").unwrap().id;
    let group = cluster.group_of(bucket, &key("same", 1)).unwrap();
    let written = inline(vec![1; 100].into());
    let owner = state.access_keys[0].id;
    let put = plain_put(bucket, key("same", 1), version, owner, written);
    let command = Command::PutObject(Box::new(put));
    (
        group,
        cluster.propose(group, id, command, DEADLINE, None).await,
    )
}

async fn delete(cluster: &Cluster, group: GroupId) {
    let state = cluster.state().unwrap();
    let command = Command::DeleteObject {
        bucket: state.bucket("files").unwrap().id,
        key: key("same", 1),
        version: None,
        cause: DeleteCause::Wish,
    };
    let id = cluster.request_id();
    let done = cluster.propose(group, id, command, DEADLINE, None).await;
    done.unwrap();
}

/// A command that comes again is done once while its outcome is remembered, and
/// refused as unknown when it is not any more: after the same time as for
/// everybody.
async fn repeats(world: &World, cluster: &Cluster) {
    let (id, version) = (cluster.request_id(), VersionId::from_bytes([7; 16]));
    let (group, first) = put(cluster, id, version).await;
    let first = first.unwrap();
    delete(cluster, group).await;
    let ten_minutes = Duration::from_secs(10 * 60);
    world.pass(ten_minutes).await;
    let (_, again) = put(cluster, id, version).await;
    assert_eq!(again.unwrap(), first, "ten minutes later");
    let rest = Duration::from_millis(REMEMBER_OUTCOME_MILLIS) - ten_minutes;
    // The nodes' clocks are told once a second.
    world.pass(rest + Duration::from_secs(3)).await;
    let (_, late) = put(cluster, id, version).await;
    assert!(
        matches!(late, Err(ClusterError::OutcomeUnknown { .. })),
        "{late:?}"
    );
}

fn a_clock_is_off_by(seed: u64, millis: i64) {
    run(seed, async |mut world| {
        hurry(&mut world);
        world.founded(3).await.unwrap();
        let (cluster, clock) = client(&world).await;
        work(&world, &cluster, "right").await;
        clock.offset_millis.fetch_add(millis, Ordering::Relaxed);
        // At once, and when the nodes have been heard again.
        work(&world, &cluster, "jumped").await;
        world.pass(Duration::from_secs(5)).await;
        work(&world, &cluster, "off").await;
        // One of the nodes is off as well, the other way.
        world.set_clock(3, -millis);
        world.pass(Duration::from_secs(5)).await;
        work(&world, &cluster, "both").await;
        world.set_clock(3, 0);
        repeats(&world, &cluster).await;
    });
}

#[test]
fn a_gateway_an_hour_behind_is_served_as_everybody() {
    a_clock_is_off_by(301, -HOUR);
}

#[test]
fn a_gateway_an_hour_ahead_is_served_and_remembered_as_everybody() {
    a_clock_is_off_by(302, HOUR);
}

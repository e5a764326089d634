//! What is lost for good: a node, and a gateway in the middle of a commit; and
//! an upload slower than everything that waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holdfast_metadata::protocol;
use holdfast_model::NodeState;
use holdfast_runtime::{Address, Call};
use holdfast_sim::journal::Journal;
use holdfast_sim::orders::Operator;
use holdfast_sim::scenario::hurry;
use holdfast_sim::workload::{Client, Pace};
use holdfast_sim::{World, checks, run};

use crate::support::{AT_ONCE, begin, key};

/// How long a cluster may take to be whole again.
const WHOLE: Duration = Duration::from_secs(240);
/// How long the honest answer may take: a census, and the grace of a node.
const HONEST: Duration = Duration::from_secs(60);

/// Objects that the leaders' last censuses count as degraded.
fn degraded(world: &World) -> u64 {
    let nodes = world.members.values().filter_map(|m| m.node.as_ref());
    let controllers = nodes.filter_map(|node| node.controller());
    let censuses = controllers.flat_map(|controller| controller.census().into_values());
    censuses.map(|census| census.degraded).sum()
}

async fn whole(world: &World) {
    let whole = checks::until(world, WHOLE, checks::fragments).await;
    whole.unwrap();
    let same = checks::until(world, WHOLE, async |world| {
        checks::replicas(world, &mut BTreeSet::new())
    });
    same.await.unwrap();
}

#[test]
fn of_three_nodes_one_is_lost_for_good_until_an_empty_one_takes_its_place() {
    run(91, async |mut world| {
        let (cluster, client, journal) = begin(&mut world, 3).await;
        for n in 0..12 {
            client.put(&key(n), 300 + n * 40_000, None).await;
        }
        whole(&world).await;
        assert_eq!(degraded(&world), 0);
        let lost = world.node_id(2).unwrap();
        world.power_cut(2);
        // It says what it is: degraded, and all of it is served.
        let said = checks::until(&world, HONEST, async |world| match degraded(world) {
            0 => Err(checks::Not::Yet("nobody calls it degraded".into())),
            _ => Ok(()),
        });
        said.await.unwrap();
        for n in 12..20 {
            client.put(&key(n), 300 + n * 20_000, None).await;
        }
        let counts = journal.counts();
        let all = (counts.puts, counts.unknown, counts.failed);
        assert_eq!(all, (20, 0, 0), "{:#?}", world.trace.story());
        for key in journal.keys() {
            assert!(client.read_whole(&key).await.unwrap().is_some());
        }
        world.pass(WHOLE).await;
        assert!(degraded(&world) > 0, "three copies on two nodes");
        let order = Operator::new(&world).order(&world, lost, NodeState::Lost);
        world.add(1);
        let since = cluster.env().clock.monotonic();
        world.start(4).await.unwrap();
        whole(&world).await;
        let took = cluster.env().clock.monotonic() - since;
        assert!(order.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(degraded(&world), 0);
        // 17 groups are moved one after the other, some seconds each.
        println!("the rebuild took {took:?}");
        assert!(took < Duration::from_secs(180), "{took:?}");
        world.power_cut(1);
        world.pass(Duration::from_secs(5)).await;
        for key in journal.keys() {
            assert!(client.read_whole(&key).await.unwrap().is_some());
        }
        journal.judge();
        assert_eq!(world.trace.wrongs(), Vec::<String>::new());
    });
}

/// The gateway's machine loses power so many milliseconds after the commit has
/// left it. Says whether the object is there.
fn commit_and_die(seed: u64, millis: u64) -> bool {
    run(seed, async |mut world| {
        hurry(&mut world);
        let cluster = world.founded(3).await.unwrap();
        let (dying, power) = world.client("client:2");
        dying.wait_ready(HONEST).await.unwrap();
        let journal = Journal::new(world.trace.clone());
        let mut client = Client::new(2, dying.clone(), journal.clone()).unwrap();
        client.pace = AT_ONCE;
        let killer = cluster.env().clone();
        let (off, env) = (power.clone(), killer.clone());
        let witness = move |from: &Address, call: &Call| {
            if from.0 == "client:2" && call.path == protocol::PROPOSE && millis == 0 {
                // It is not even on its way.
                off.cancel();
            } else if from.0 == "client:2" && call.path == protocol::PROPOSE {
                let (off, clock) = (off.clone(), env.clock.clone());
                let kill = async move {
                    clock.sleep(Duration::from_millis(millis)).await;
                    off.cancel();
                };
                env.tasks.spawn("kill", Box::pin(kill));
            }
        };
        world.network.watch(Arc::new(witness));
        let upload = async move { client.put(&key(1), 150_000, None).await };
        dying.env().tasks.spawn("upload", Box::pin(upload));
        world.pass(Duration::from_secs(10)).await;
        assert!(power.is_cancelled(), "it never came to a commit");
        let judge = Client::new(1, cluster.clone(), journal.clone()).unwrap();
        let first = judge.read_whole(&key(1)).await.unwrap();
        // Nothing refers to what it left, and it goes.
        whole(&world).await;
        assert_eq!(judge.read_whole(&key(1)).await.unwrap(), first);
        assert_eq!(world.trace.wrongs(), Vec::<String>::new());
        first.is_some()
    })
}

#[test]
fn a_gateway_that_dies_in_mid_commit_leaves_the_whole_object_or_nothing() {
    let there: Vec<bool> = (0..8).map(|n| commit_and_die(100 + n, n % 4)).collect();
    assert!(there.contains(&true) && there.contains(&false), "{there:?}");
}

#[test]
fn an_upload_slower_than_every_time_out_of_the_clean_up_is_whole() {
    run(111, async |mut world| {
        let (_, mut client, journal) = begin(&mut world, 3).await;
        client.pace = Some(Pace {
            piece: Duration::from_secs(11),
            commit: Duration::from_secs(45),
        });
        client.put(&key(1), 900 << 10, None).await;
        assert_eq!(journal.counts().puts, 1, "{:?}", world.trace.story());
        assert!(client.read_whole(&key(1)).await.unwrap().is_some());
        whole(&world).await;
        assert!(client.read_whole(&key(1)).await.unwrap().is_some());
        assert_eq!(world.trace.wrongs(), Vec::<String>::new());
    });
}

//! The permit: to put a cluster to sleep, which wakes up node by node, and to take
//! a node away although objects lack copies.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_client::Cluster;
use holdfast_controller::MIN_BYTES_PER_SECOND;
use holdfast_metadata::protocol::PermitRequest;
use holdfast_model::{HIBERNATE, NodeId, NodeState, ObjectKey, Permit};
use holdfast_sim::journal::Journal;
use holdfast_sim::orders::Operator;
use holdfast_sim::scenario::hurry;
use holdfast_sim::workload::{Client, Pace};
use holdfast_sim::{World, checks, run};

/// How long a cluster may take to be whole again.
const WHOLE: Duration = Duration::from_secs(240);
/// Longer than nobody is missed while a cluster falls asleep.
const NIGHT: Duration = Duration::from_secs(45 * 60);
/// Twelve times the grace of a silent node.
const LATE: Duration = Duration::from_secs(60);
/// How long the nodes may take to have leaders.
const LED: Duration = Duration::from_secs(60);

/// A cluster of four with some objects, all of them whole.
async fn cluster_with_objects(world: &mut World, objects: u64, bytes: u64) -> Cluster {
    let cluster = world.founded(4).await.unwrap();
    let mut client = Client::new(1, cluster.clone(), Journal::new(world.trace.clone())).unwrap();
    client.pace = Some(Pace {
        piece: Duration::ZERO,
        commit: Duration::ZERO,
    });
    for n in 0..objects {
        let key = ObjectKey::new(format!("object-{n}")).unwrap();
        client.put(&key, bytes + n, None).await;
    }
    whole(world).await;
    cluster
}

async fn whole(world: &World) {
    let whole = checks::until(world, WHOLE, checks::fragments).await;
    whole.unwrap();
    let same = checks::until(world, WHOLE, async |world| {
        checks::replicas(world, &mut BTreeSet::new())
    });
    same.await.unwrap();
}

/// Tells the cluster, takes all power, and gives it back to these after a night.
async fn sleep_and_wake(world: &mut World, first: &[usize]) -> Permit {
    let node = world.members[&1].node.clone().unwrap();
    let controller = node.controller().unwrap();
    let by = world.node_id(1).unwrap();
    let permit = controller.take_permit(by, HIBERNATE, false).await.unwrap();
    for number in world.numbers() {
        world.power_cut(number);
    }
    world.pass(NIGHT).await;
    for number in first {
        world.start(*number).await.unwrap();
    }
    permit
}

async fn give_back(world: &World, permit: &Permit) {
    let given = checks::until(world, LED, async |world| {
        let node = world.members[&1].node.clone().unwrap();
        let given = node.controller().unwrap().release_permit(permit.epoch);
        given.await.map_err(|why| checks::Not::Yet(why.to_string()))
    });
    given.await.unwrap();
}

fn state_of(cluster: &Cluster, node: NodeId) -> NodeState {
    cluster.state().unwrap().layout.nodes[&node].state
}

/// Chunks that were copied since the nodes were started.
fn copied(world: &World) -> u64 {
    let nodes = world.members.values().filter_map(|m| m.node.as_ref());
    let controllers = nodes.filter_map(|node| node.controller());
    controllers.map(|one| one.repair_progress().done).sum()
}

#[test]
fn a_node_that_wakes_up_late_is_not_missed_until_the_permit_is_given_back() {
    for (seed, first) in [(141, [3, 1, 4]), (142, [1, 4, 3])] {
        run(seed, async |mut world| {
            hurry(&mut world);
            let cluster = cluster_with_objects(&mut world, 12, 500_000).await;
            let late = world.node_id(2).unwrap();
            let permit = sleep_and_wake(&mut world, &first).await;
            cluster.wait_ready(LED).await.unwrap();
            world.pass(LATE).await;
            assert_eq!(state_of(&cluster, late), NodeState::Active);
            world.start(2).await.unwrap();
            whole(&world).await;
            assert_eq!(copied(&world), 0);
            // Given back, it is missed as any other.
            give_back(&world, &permit).await;
            world.power_cut(2);
            world.pass(LATE).await;
            assert_eq!(state_of(&cluster, late), NodeState::Down);
            assert_eq!(world.trace.wrongs(), Vec::<String>::new());
        });
    }
}

#[test]
fn nothing_is_made_again_before_the_permit_to_sleep_is_given_back() {
    run(143, async |mut world| {
        hurry(&mut world);
        let cluster = cluster_with_objects(&mut world, 12, 500_000).await;
        let lost = world.node_id(2).unwrap();
        let permit = sleep_and_wake(&mut world, &[4, 3, 1]).await;
        cluster.wait_ready(LED).await.unwrap();
        // Somebody knows that it will not come back; others may be on their way.
        let order = Operator::new(&world).order(&world, lost, NodeState::Lost);
        world.pass(LATE).await;
        assert!(order.load(Ordering::Relaxed));
        assert_eq!(copied(&world), 0);
        give_back(&world, &permit).await;
        whole(&world).await;
        assert!(copied(&world) > 0);
        assert_eq!(world.trace.wrongs(), Vec::<String>::new());
    });
}

#[test]
fn a_census_that_is_not_clean_is_passed_over_where_a_person_says_so() {
    run(144, async |mut world| {
        hurry(&mut world);
        // Members of groups are moved long before the last chunk is copied.
        world.controller.repair_bytes_per_second = MIN_BYTES_PER_SECOND;
        let cluster = cluster_with_objects(&mut world, 24, 2_000_000).await;
        let lost = world.node_id(2).unwrap();
        world.power_cut(2);
        Operator::new(&world).order(&world, lost, NodeState::Lost);
        let (node, other) = (world.node_id(3).unwrap(), world.node_id(4).unwrap());
        let disk = cluster.state().unwrap().layout.nodes[&other].disk;
        let asked = cluster.manager().node_of_disk(disk).unwrap();
        let ask = async |degraded| {
            let reason = "a new kernel".to_owned();
            let request = PermitRequest {
                node,
                reason,
                degraded,
            };
            asked.take_permit(&request).await
        };
        // Groups that still change their members are no matter of copies: also
        // where a person says so the permit waits for them.
        let mut granted = None;
        let asking = checks::until(&world, WHOLE, async |_| {
            let refused = match ask(false).await {
                Ok(_) => return Err(checks::Not::Ever("it is whole already".into())),
                Err(why) => why.to_string(),
            };
            match ask(true).await {
                Ok(permit) => granted = Some((refused, permit)),
                Err(why) => return Err(checks::Not::Yet(why.to_string())),
            }
            Ok(())
        });
        asking.await.unwrap();
        let (refused, permit) = granted.unwrap();
        assert!(refused.contains("is not whole"), "{refused}");
        assert_eq!(permit.node, node);
        // It is one permit all the same.
        let request = PermitRequest {
            node: other,
            reason: "a new kernel".into(),
            degraded: true,
        };
        let second = asked.take_permit(&request).await.unwrap_err().to_string();
        assert!(second.contains("has the permit"), "{second}");
        assert_eq!(world.trace.wrongs(), Vec::<String>::new());
    });
}

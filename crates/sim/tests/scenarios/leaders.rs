//! Who leads: not a node that everybody would wait for.

use std::time::Duration;

use holdfast_sim::{World, run};

use crate::support::{begin, key};

/// Its links are so many times slower: most of its answers take a quarter of a
/// second or more, and still it is heard often enough to be up.
const SLOW_TIMES: u64 = 250;
/// Of a disk that hangs, the longest that a call takes.
const HOUR_MILLIS: u64 = 3_600_000;
/// A disk has hung for so long when others lead what its node led.
const PASSED_ON: Duration = Duration::from_secs(8);

/// How many groups node 3 leads.
fn led(world: &World) -> usize {
    let state = world.members[&3].node.as_ref().unwrap().status().state;
    let groups = state.unwrap().layout.groups;
    let by_it = |group: &&_| world.leader(**group) == Some(3);
    groups.keys().filter(by_it).count()
}

#[test]
fn no_groups_are_given_to_a_node_while_it_answers_late() {
    run(41, async |mut world| {
        begin(&mut world, 3).await;
        world.power_cut(3);
        world.pass(Duration::from_secs(20)).await;
        world.network.set_slow(&World::address(3), SLOW_TIMES);
        world.start(3).await.unwrap();
        for second in 0..120 {
            world.pass(Duration::from_secs(1)).await;
            assert_eq!(led(&world), 0, "after {second} s");
        }
        world.network.set_slow(&World::address(3), 1);
        // As many as are moved in the time: one each five seconds.
        world.pass(Duration::from_secs(60)).await;
        assert!(led(&world) >= 3, "{}", led(&world));
    });
}

#[test]
fn a_disk_that_hangs_leads_nothing_and_holds_nobody_up() {
    run(42, async |mut world| {
        let (_, client, journal) = begin(&mut world, 3).await;
        world.pass(Duration::from_secs(60)).await;
        assert!(led(&world) >= 3, "{}", led(&world));
        // Most calls take many minutes; the node answers as before.
        world.set_disk_millis(3, HOUR_MILLIS);
        let hangs = journal.trace().at();
        for n in 0..200 {
            client.put(&key(n), 100, None).await;
            world.pass(Duration::from_millis(500)).await;
            let since = journal.trace().at() - hangs;
            assert!(since < PASSED_ON || led(&world) == 0, "after {since:?}");
        }
        let done = journal.all_done();
        let later = done.iter().filter(|did| did.begun > hangs + PASSED_ON);
        assert!(later.clone().count() > 100);
        for did in later {
            let in_time = did.took < Duration::from_secs(1);
            assert!(did.error.is_none() && in_time, "{did:?}");
        }
        // Whoever watches over it ends it in the end; what it begins with moves.
        world.power_cut(3);
        world.start(3).await.unwrap();
        world.set_disk_millis(3, 3);
        world.pass(Duration::from_secs(90)).await;
        assert!(led(&world) >= 3, "{}", led(&world));
    });
}

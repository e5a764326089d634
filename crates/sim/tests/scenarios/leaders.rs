//! Who leads: not a node that everybody would wait for.

use std::time::Duration;

use holdfast_sim::{World, run};

use crate::support::begin;

/// Its links are so many times slower: most of its answers take a quarter of a
/// second or more, and still it is heard often enough to be up.
const SLOW_TIMES: u64 = 250;

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
